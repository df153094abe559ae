"""What a 4-bit layer holds, and that moving, converting, saving and copying leave it as it is."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import bits
from safetensors.torch import load_file, save_file
from test_quantized_linear import HALVES, IN, OUT, layer_of
from torch import nn
from transformers.pytorch_utils import Conv1D

from minipeft import QuantizedLinear
from minipeft.checks.errors import ConfigError
from minipeft.layers.quant import dequantize, quantize

PACKED = {"codes": torch.uint8, "absmax": torch.uint8, "offset": torch.float32}
PACKED["absmax_scale"] = torch.float32


def held(layer: nn.Module) -> dict[str, bytes]:
    """The bits of all that W is packed in."""
    return {name: bits(buffer) for name, buffer in layer.named_buffers()}


# --- what it is ----------------------------------------------------------------------------------


def test_nothing_is_trained_but_the_bias():
    assert [n for n, _ in layer_of().named_parameters()] == ["bias"]
    assert list(layer_of(bias=False).parameters()) == []
    assert sum(p.numel() for p in layer_of().parameters()) == OUT
    layer = layer_of(double_quant=True)
    names = ["codes", "absmax", "offset", "absmax_scale"]
    assert [n for n, _ in layer.named_buffers()] == names
    assert [n for n, _ in layer_of().named_buffers()] == names[:2]


def test_weight_is_a_copy_in_the_dtype_that_w_had():
    weight = torch.randn(OUT, IN, dtype=torch.bfloat16)
    layer = QuantizedLinear.of(weight)
    assert layer.weight.dtype == torch.bfloat16
    assert bits(layer.weight) == bits(dequantize(quantize(weight)))
    before = layer(torch.ones(IN))
    layer.weight.zero_()
    assert torch.equal(layer(torch.ones(IN)), before)
    for dtype in (torch.float16, torch.float32, torch.float64):  # rounded once
        assert bits(layer.dequantized(dtype)) == bits(dequantize(quantize(weight), dtype))


def test_printed_it_says_what_it_holds():
    # 6 · 70 codes of 4 bits, and 7 scales of 32; then 7 of 8, and two numbers of 32
    for nested, held in ((False, 210 + 28), (True, 210 + 7 + 4 + 4)):
        layer = layer_of(double_quant=nested)
        per = f"{8 * held / 420:.3f}"
        said = f"in_features=70, out_features=6, bias=True, nf4 in blocks of 64, {per} bits per"
        assert repr(layer) == f"QuantizedLinear({said} weight)"
    assert "bias=False, nf2 in blocks of 32," in repr(
        layer_of(bias=False, quant_type="nf2", blocksize=32)
    )


@pytest.mark.parametrize(("nested", "expected"), [(False, 4.5), (True, 4.127)])
def test_bits_per_weight_of_a_large_layer(nested: bool, expected: float):
    layer = layer_of(1024, 4096, bias=False, double_quant=nested)
    held = sum(b.untyped_storage().nbytes() for b in layer.buffers())
    assert round(8 * held / (1024 * 4096), 3) == expected
    assert layer.quantized().bits_per_weight == 8 * held / (1024 * 4096)


def test_nan_is_refused():
    weight = torch.randn(OUT, IN)
    weight[2, 3] = float("nan")
    with pytest.raises(ConfigError, match=r"my\.weight holds nan at position \(2, 3\)"):
        QuantizedLinear.of(weight, name="my.weight")


@pytest.mark.parametrize("kind", [nn.Linear, Conv1D])
def test_it_remembers_what_it_stands_for(kind: type[nn.Module]):
    assert layer_of(source_cls=kind).source_cls is kind
    assert layer_of().source_cls is nn.Linear


# --- moving and converting -----------------------------------------------------------------------

CONVERSIONS: dict[str, tuple[Callable[[nn.Module], nn.Module], torch.dtype]] = {
    "half": (lambda m: m.half(), torch.float16),
    "bfloat16": (lambda m: m.bfloat16(), torch.bfloat16),
    "double": (lambda m: m.double(), torch.float64),
    "float": (lambda m: m.half().float(), torch.float32),
    "to": (lambda m: m.to(torch.bfloat16), torch.bfloat16),
    "type": (lambda m: m.type(torch.float16), torch.float16),
    "to device and dtype": (lambda m: m.to("cpu", torch.float16), torch.float16),
    "to like": (lambda m: m.to(torch.ones(1).half()), torch.float16),
}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("how", CONVERSIONS)
def test_no_conversion_touches_what_w_is_packed_in(how: str, nested: bool):
    convert, dtype = CONVERSIONS[how]
    layer = layer_of(double_quant=nested)
    before, bias = held(layer), layer.bias.detach().clone()
    model = nn.Sequential(layer, nn.LayerNorm(OUT))
    assert convert(model)[0] is layer
    assert held(layer) == before
    kinds = {n: b.dtype for n, b in layer.named_buffers()}
    assert kinds == (PACKED if nested else {"codes": torch.uint8, "absmax": torch.float32})
    assert layer.bias.dtype == model[1].weight.dtype == dtype
    assert torch.equal(layer.bias, (bias.half() if how == "float" else bias).to(dtype))
    x = torch.randn(3, IN).to(dtype)
    w = dequantize(layer.quantized(), dtype)
    assert torch.equal(layer(x), nn.functional.linear(x, w) + layer.bias)


def test_train_and_eval_change_nothing():
    layer, x = layer_of(), torch.randn(3, IN)
    before, y = held(layer), layer(x)
    for mode in (False, True):
        assert layer.train(mode).training is mode
        assert torch.equal(layer(x), y)
        with torch.no_grad():
            assert torch.equal(layer(x), y)
        with torch.inference_mode():
            assert torch.equal(layer(x), y)
    assert held(layer) == before


@pytest.mark.parametrize("nested", [False, True])
def test_on_the_meta_device_it_has_shapes_to_load_into(nested: bool):
    layer = layer_of(double_quant=nested)
    weight, b = torch.empty(OUT, IN, device="meta"), torch.empty(OUT, device="meta")
    empty = QuantizedLinear.of(weight, nn.Parameter(b), double_quant=nested)
    moved = copy.deepcopy(layer).to("meta")
    for meta in (empty, moved):
        assert all(t.is_meta for t in [*meta.parameters(), *meta.buffers()])
        shapes = {n: (t.shape, t.dtype) for n, t in meta.state_dict().items()}
        assert shapes == {n: (t.shape, t.dtype) for n, t in layer.state_dict().items()}
        assert meta(torch.empty(3, IN, device="meta")).shape == (3, OUT)
        filled = copy.deepcopy(meta).to_empty(device="cpu")
        filled.load_state_dict(layer.state_dict())
        assert held(filled) == held(layer)
        meta.load_state_dict(layer.state_dict(), assign=True)
        assert held(meta) == held(layer)
        x = torch.randn(3, IN)
        assert torch.equal(meta(x), layer(x))
        assert torch.equal(filled(x), layer(x))


# --- saving and copying --------------------------------------------------------------------------


def through_torch_save(layer: QuantizedLinear) -> Any:
    """The whole object, written and read."""
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("kind", [nn.Linear, Conv1D])
@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer)), through_torch_save],
    ids=["deepcopy", "pickle", "torch.save"],
)
def test_a_copy_is_a_layer_of_its_own(copied: Any, kind: type[nn.Module]):
    layer = layer_of(double_quant=True, compute_dtype=torch.bfloat16, source_cls=kind)
    other, x = copied(layer), torch.randn(3, IN)
    assert held(other) == held(layer)
    assert torch.equal(other(x), layer(x))
    assert (other.source_cls, other.compute_dtype, repr(other)) == (
        kind,
        torch.bfloat16,
        repr(layer),
    )
    y = layer(x)
    other.codes.zero_()
    other.bias.data.zero_()
    assert torch.equal(layer(x), y)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_a_state_dict_is_all_there_is(tmp_path: Path, bias: bool, nested: bool):
    layer, x = layer_of(bias=bias, double_quant=nested), torch.randn(3, IN)
    state = layer.state_dict()
    expected = {"codes", "absmax"} | ({"offset", "absmax_scale"} if nested else set())
    assert set(state) == expected | ({"bias"} if bias else set())
    save_file(state, tmp_path / "layer.safetensors")
    torch.save(state, tmp_path / "layer.pt")
    for read in (
        load_file(tmp_path / "layer.safetensors"),
        torch.load(tmp_path / "layer.pt", weights_only=True),
    ):
        other = layer_of(bias=bias, double_quant=nested)
        assert not torch.equal(other(x), layer(x))
        other.load_state_dict(read, strict=True)
        assert torch.equal(other(x), layer(x))
        assert held(other) == held(layer)


def test_a_state_dict_of_another_kind_is_refused():
    state = layer_of(double_quant=True).state_dict()
    for other in (layer_of(), layer_of(bias=False, double_quant=True), nn.Linear(IN, OUT)):
        with pytest.raises(RuntimeError, match=r"Missing key|Unexpected key"):
            other.load_state_dict(state)
    for other in (
        layer_of(width=IN + 64, double_quant=True),
        layer_of(OUT + 64, double_quant=True),
    ):
        with pytest.raises(RuntimeError, match="size mismatch for codes"):
            other.load_state_dict(state)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_a_w_in_half_precision_comes_back_so(dtype: torch.dtype):
    layer = QuantizedLinear.of(torch.randn(OUT, IN).to(dtype)).float()
    assert layer.weight.dtype == dtype  # the dtype of the W that was packed, not of the model
    assert layer(torch.randn(2, IN)).dtype == torch.float32
