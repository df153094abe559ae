"""quantize_model: which layers, what the report says, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from conftest import (
    ALL_FAMILIES,
    MLP,
    adapted,
    bits,
    inputs,
    logits,
    output,
    state_of,
    tiny,
)
from kbit_models import quantized
from torch import nn
from torch.nn.utils import prune
from transformers.pytorch_utils import Conv1D

from minipeft import LoraConfig, QuantizedLinear, get_peft_model, quantize_model
from minipeft.checks.errors import ConfigError, ConfigTypeError, StateError, TargetError
from minipeft.lab.counting import count
from minipeft.layers.quant import dequantize, quantize

HEADS = {"bert": "classifier", "bert_token": "classifier", "bert_qa": "qa_outputs",
         "vit": "classifier", "gpt2_cls": "score"}  # fmt: skip


def linears(model: nn.Module) -> dict[str, Any]:
    """The model's linear layers by dotted name, by their classes."""
    return {n: m for n, m in model.named_modules() if isinstance(m, (nn.Linear, Conv1D))}


# --- which layers --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ALL_FAMILIES)
def test_every_linear_layer_but_the_head(name: str, dtype: torch.dtype):
    model, before = tiny(name, dtype).train(), tiny(name, dtype)
    layers = linears(before)
    left = [HEADS.get(name, "lm_head")] if name != "mlp" else []
    report = quantize_model(model)
    assert report.left == tuple(left)
    assert report.layers == tuple(n for n in layers if n not in left)
    for path, old in layers.items():
        new = model.get_submodule(path)
        if path in left:
            assert type(new) is nn.Linear
            assert torch.equal(new.weight, old.weight)
            continue
        w = old.weight.T if isinstance(old, Conv1D) else old.weight  # (out, in)
        expected = dequantize(quantize(w, double_quant=True))
        assert type(new) is QuantizedLinear
        assert new.source_cls is type(old)
        assert (new.weight.dtype, new.training) == (dtype, model.training)
        assert bits(new.weight) == bits(expected)
        assert (new.bias is None) == (getattr(old, "bias", None) is None)
        assert new.bias is None or bits(new.bias) == bits(old.bias)
    others = {n: p for n, p in before.named_parameters() if n.rpartition(".")[0] not in layers}
    mine = dict(model.named_parameters())
    assert all(bits(mine[n]) == bits(p) for n, p in others.items())


@pytest.mark.parametrize("name", ALL_FAMILIES)
def test_the_answer_is_that_of_a_plain_model_with_rounded_weights(name: str):
    model, plain = tiny(name), tiny(name)
    for path in quantize_model(model).layers:
        layer: Any = plain.get_submodule(path)
        w = model.get_submodule(path).weight
        layer.weight.data = w.T.contiguous() if isinstance(layer, Conv1D) else w
    expected = output(plain, name)
    # The plain layer adds b inside the product: float32, over two layers; measured 2e-6 (T5 2e-5)
    assert (output(model, name) - expected).abs().max() <= 8e-5 * expected.abs().max()
    assert (output(tiny(name), name) - expected).abs().max() > 1e-3 * expected.abs().max()
    logits(model(**inputs(name))).sum().backward()  # the gradient passes through


@pytest.mark.parametrize(
    ("skip", "gone"),
    [
        (["c_proj"], {"attn.c_proj", "mlp.c_proj"}),
        (["attn.c_proj"], {"attn.c_proj"}),
        (("mlp",), {"mlp.c_fc", "mlp.c_proj"}),
        ({"c_fc", "c_attn"}, {"attn.c_attn", "mlp.c_fc"}),
    ],
    ids=lambda value: "+".join(sorted(value)),
)
def test_names_and_dotted_suffixes_to_leave_alone(skip: Any, gone: set[str]):
    model = tiny("gpt2")
    report = quantize_model(model, skip_modules=skip)
    ends = {re.sub(r".*h\.\d\.", "", n) for n in report.left}
    assert ends == gone | {"lm_head"}
    assert all(type(model.get_submodule(n)) is not QuantizedLinear for n in report.left)
    assert len(report.layers) == 8 - 2 * len(gone)


def test_a_block_by_its_whole_name():
    report = quantize_model(tiny("gpt2"), skip_modules=["transformer.h.1"])
    assert {n[:15] for n in report.layers} == {"transformer.h.0"}
    assert len(report.left) == 5


def test_shared_weights_are_left_alone():
    model = MLP()
    model.extra = nn.Linear(8, 4)
    model.extra.weight = model.second.weight
    assert quantize_model(model).left == ("second", "extra")
    tied = nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 8), nn.Linear(8, 9))
    tied[2].weight = tied[0].weight
    assert (quantize_model(tied).layers, tied[2].weight is tied[0].weight) == (("1",), True)
    gpt2 = tiny("gpt2")  # lm_head and wte
    quantize_model(gpt2)
    assert gpt2.lm_head.weight is gpt2.transformer.wte.weight


def test_a_layer_in_two_places_is_one_layer():
    layer = nn.Linear(6, 6)
    model = nn.Sequential(layer, nn.ReLU(), layer, nn.Sequential(layer))
    report = quantize_model(model)
    assert (report.layers, report.weights) == (("0",), 36)
    assert type(model[0]) is QuantizedLinear
    assert model[0] is model[2] is model[3][0]


def test_weights_that_are_computed_are_left_alone():
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(4)))
    with pytest.warns(UserWarning, match="zero-element"):
        model.append(nn.Linear(0, 4))
    with pytest.warns(FutureWarning, match="weight_norm"):
        nn.utils.weight_norm(model[0])
    nn.utils.parametrizations.weight_norm(model[1])
    prune.l1_unstructured(model[2], "weight", 0.5)
    model.append(nn.Linear(4, 4, dtype=torch.complex64))
    assert quantize_model(model).layers == ("3",)
    attention = nn.MultiheadAttention(4, 2)  # reads its projection's weight, and never calls it
    with pytest.raises(TargetError, match="there is no layer to quantize in MultiheadAttention"):
        quantize_model(attention)


# --- the report ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_report_counts_bytes(dtype: torch.dtype):
    model = tiny("llama", dtype)
    report = quantize_model(model, blocksize=64, double_quant=True)
    # two layers: q, o (16, 16), k, v (8, 16), gate, up (24, 16), down (16, 24)
    shapes = 2 * [16 * 16, 16 * 16, 8 * 16, 8 * 16, 24 * 16, 24 * 16, 16 * 24]
    assert report.weights == sum(shapes) == 3840
    assert report.bytes_before == 3840 * torch.finfo(dtype).bits // 8
    # codes of 4 bits, a byte per block of 64, a scale per 256 blocks and an offset
    assert report.bytes_after == sum(n // 2 + n // 64 + 4 + 4 for n in shapes)
    held = [m for m in model.modules() if isinstance(m, QuantizedLinear)]
    assert report.bytes_after == sum(
        b.untyped_storage().nbytes() for m in held for b in m.buffers()
    )
    assert report.bits_per_weight == 8 * report.bytes_after / 3840
    said = f"14 layers, 3,840 weights: {report.bytes_before / 1e6:.2f} MB -> 0.00 MB ("
    assert (
        str(report) == f"{said}{report.bits_per_weight:.3f} bits per weight); left alone: 'lm_head'"
    )


@pytest.mark.parametrize("kind", ["ours", "4bit", "8bit"])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_counts_are_those_before(name: str, kind: str, capsys: pytest.CaptureFixture[str]):
    plain, model = tiny(name), quantized(name, kind)
    base = sum(p.numel() for p in plain.parameters())
    config = LoraConfig(r=3, target_modules="all-linear")
    counted = count(plain, config)
    assert counted.base == base
    assert count(model, config) == counted
    adapted = get_peft_model(model, config)
    assert adapted.get_nb_trainable_parameters() == (counted.trainable, counted.all)
    for m in (adapted, get_peft_model(plain, config)):
        m.print_trainable_parameters()
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    held = sum(p.numel() for p in model.parameters()) - counted.trainable
    assert (held < base) is (kind != "8bit")  # a byte for two weights, or none


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        (
            {"skip_modules": ["c_porj"]},
            TargetError,
            "skip_modules: 'c_porj' matches no module; d",
        ),
        ({"skip_modules": "c_proj"}, ConfigTypeError, "must be a list of module names, got 'c_pr"),
        ({"skip_modules": None}, ConfigTypeError, "must be a list of module names, got None"),
        ({"skip_modules": ["transformer"]}, TargetError, "no layer to quantize in GPT2LMHeadModel"),
        ({"quant_type": "nf5"}, ConfigError, "quant_type must be one of .*; did you mean 'nf"),
        ({"blocksize": 3}, ConfigError, "blocksize must be a positive multiple of 2"),
        ({"double_quant": "yes"}, ConfigTypeError, "double_quant must be True or False, got 'yes'"),
        ({"compile": 1}, ConfigTypeError, "compile must be True or False, got 1"),
        (
            {"compute_dtype": "bfloat16"},
            ConfigTypeError,
            "a floating dtype, such as torch.bf",
        ),
        ({"compute_dtype": torch.int8}, ConfigTypeError, "compute_dtype must be .* got torch.int8"),
    ],
    ids=str,
)
def test_a_wrong_option_changes_nothing(options: Any, error: type[Exception], said: str):
    model = tiny("gpt2")
    before = state_of(model)
    with pytest.raises(error, match=said):
        quantize_model(model, **options)
    assert state_of(model) == before


@pytest.mark.parametrize("bad", ["nan", "inf", "-inf"])
def test_a_number_that_is_none_is_named_and_nothing_is_quantized(bad: str):
    model = tiny("gpt2")
    model.transformer.h[1].mlp.c_fc.weight.data[3, 5] = float(bad)  # (in, out), as it is stored
    before = state_of(model)
    with pytest.raises(
        ConfigError, match=rf"h\.1\.mlp\.c_fc\.weight holds {bad} at position \(3, 5\)"
    ):
        quantize_model(model)
    assert state_of(model) == before
    assert len(quantize_model(model, skip_modules=["h.1.mlp.c_fc"]).layers) == 7


def test_what_cannot_be_quantized():
    with pytest.raises(ConfigTypeError, match=r"the model \(an nn.Module\), got str"):
        quantize_model("gpt2")  # type: ignore[arg-type]
    for nothing in (nn.Embedding(3, 4), nn.Linear(3, 4), nn.Sequential(nn.ReLU())):
        with pytest.raises(TargetError, match=f"no layer to quantize in {type(nothing).__name__}"):
            quantize_model(nothing)
    model = adapted("gpt2")
    before = state_of(model)
    for given in (model, model.get_base_model()):
        with pytest.raises(StateError, match="this model has adapters already"):
            quantize_model(given)
    assert state_of(model) == before
