"""LoftQ's adapters on disk, merged, and beside others."""

from __future__ import annotations

import json
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import CONFIG, bits, inputs, output, shake, state_of, tiny
from test_loftq_model import ALL, made
from torch import nn

from minipeft import LoraConfig, PeftModel, QuantizedLinear, get_peft_model, quantize_model
from minipeft.checks.errors import CheckpointError, MinipeftWarning, StateError
from minipeft.layers.quant import dequantize, quantize
from minipeft.tuner.slots import Wrapper

WRONG = "was made by LoftQ beside quantized weights that this model does not have"


def trained(**options: Any) -> Any:
    """A model with LoftQ's start that has been trained since."""
    model = made("gpt2", **options)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(3):
        model(**inputs("gpt2")).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


@pytest.mark.parametrize(
    "options",
    [{}, {"loftq_config": {"loftq_bits": 2, "loftq_iter": 3}}, {"use_dora": True}, {"bias": "all"}],
    ids=str,
)
def test_loaded_on_the_model_it_was_made_from(options: dict[str, Any], tmp_path: Path):
    model = trained(**options)
    expected = output(model, "gpt2")
    model.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = PeftModel.from_pretrained(tiny("gpt2"), tmp_path)
        assert torch.equal(output(read, "gpt2"), expected)
        packed = read.unload()  # Q stays
        assert sum(isinstance(m, QuantizedLinear) for m in packed.modules()) == 8
        again = PeftModel.from_pretrained(packed, tmp_path, is_trainable=True)
        assert torch.equal(output(again, "gpt2"), expected)
        again.load_adapter(tmp_path, "second")
        again.set_adapter("second")
        assert torch.equal(output(again, "gpt2"), expected)
        empty = PeftModel.from_pretrained(tiny("gpt2").to("meta"), tmp_path)
        assert all(p.is_meta for p in empty.parameters())
    again.set_adapter("default")
    again.train()(**inputs("gpt2")).loss.backward()
    assert all(p.grad is not None for p in again.parameters() if p.requires_grad)


def test_loaded_on_other_weights_it_warns(tmp_path: Path):
    trained(loftq_config={"loftq_iter": 2}).save_pretrained(tmp_path)
    other, quantized = tiny("gpt2"), tiny("gpt2")
    other.transformer.h[1].mlp.c_fc.weight.data[0, 0] = 9
    quantize_model(quantized, double_quant=False)  # Q is W's here, and LoftQ's is not
    for base in (other, quantized):
        with pytest.warns(MinipeftWarning, match=WRONG) as caught:
            PeftModel.from_pretrained(base, tmp_path)
        assert len(caught) == 1
    config = json.loads((tmp_path / CONFIG).read_text())
    for options in ({"loftq_bits": 4, "loftq_iter": 1}, {"loftq_bits": 8, "loftq_iter": 2}):
        (tmp_path / CONFIG).write_text(json.dumps({**config, "loftq_config": options}))
        edited = pytest.warns(MinipeftWarning, match="loftq_config: .* then, .* now")
        with edited, pytest.warns(MinipeftWarning, match=WRONG):
            PeftModel.from_pretrained(tiny("gpt2"), tmp_path)
    (tmp_path / CONFIG).write_text(json.dumps({**config, "loftq_config": {"loftq_bits": 5}}))
    with pytest.raises(CheckpointError, match="loftq_bits must be 4, 8 or 2, got 5"):
        PeftModel.from_pretrained(tiny("gpt2"), tmp_path)


def test_loaded_beside_another_adapter_it_is_refused(tmp_path: Path):
    trained().save_pretrained(tmp_path)
    model = get_peft_model(tiny("gpt2"), LoraConfig(r=2, target_modules=["c_attn"]))
    before = state_of(model)
    with pytest.raises(StateError, match=r"would change the frozen weight of .*c_attn"):
        model.load_adapter(tmp_path, "second")
    assert state_of(model) == before


@pytest.mark.parametrize("requantize", [False, True])
@pytest.mark.filterwarnings("ignore:merged .* layers and packed them again")
def test_saved_while_merged_it_knows_its_weights_still(requantize: bool, tmp_path: Path):
    model = trained()
    expected = output(model, "gpt2")
    model.merge_adapter(requantize=requantize)
    model.save_pretrained(tmp_path)
    assert torch.equal(output(PeftModel.from_pretrained(tiny("gpt2"), tmp_path), "gpt2"), expected)


def test_a_plain_lora_beside_it_and_merging():
    model = trained()
    layers = {n: id(m) for n, m in model.named_modules() if isinstance(m, QuantizedLinear)}
    held = {n: bits(b) for n, b in model.named_buffers()}
    model.add_adapter("b", LoraConfig(r=2, target_modules=["c_attn"]))
    model.set_adapter(["default", "b"])
    shake(model)
    before = output(model, "gpt2")
    model.merge_adapter()
    assert (output(model, "gpt2") - before).abs().max() < 2e-5 * before.abs().max()
    model.unmerge_adapter()
    assert torch.equal(output(model, "gpt2"), before)
    assert {n: id(m) for n, m in model.named_modules() if isinstance(m, QuantizedLinear)} == layers
    assert {n: bits(b) for n, b in model.named_buffers()} == held


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_comes_back_when_merged(dtype: torch.dtype):
    low = dtype == torch.bfloat16  # float16 has three bits more, and loses less than a hundredth
    model = made("llama", dtype=dtype, lora_alpha=8)
    first = model.get_base_model().model.layers[0].mlp.up_proj
    assert first.weight.dtype == dtype
    assert first.adapters["default"].lora_A.dtype == torch.float32
    with pytest.warns(MinipeftWarning, match="merging rounds W") if low else nullcontext():
        plain = model.merge_and_unload()
    assert {p.dtype for p in plain.parameters()} == {dtype}
    w, old = plain.model.layers[0].mlp.up_proj.weight, tiny("llama", dtype).model.layers[0]
    near = dequantize(quantize(old.mlp.up_proj.weight))
    assert (w - old.mlp.up_proj.weight).norm() < 0.9 * (near - old.mlp.up_proj.weight).norm()


def test_a_layer_in_two_places_is_quantized_once():
    layer = nn.Linear(6, 6)
    base = nn.Sequential(layer, nn.ReLU(), layer)
    model = get_peft_model(base, LoraConfig(r=2, **{**ALL, "target_modules": ["0"]}))
    assert base[0] is base[2]
    assert isinstance(base[0].base_layer, QuantizedLinear)
    assert model.unload()[0] is base[2]


def test_a_dora_stands_on_what_was_quantized():
    model = made("gpt2", use_dora=True, lora_alpha=8)
    for module in [m for m in model.modules() if isinstance(m, Wrapper)]:
        method, layer = module.adapters["default"], module.base_layer
        assert method.base.layer is layer
        v = layer.weight + 2 * method.lora_B @ method.lora_A
        assert torch.allclose(method.lora_magnitude_vector, v.norm(dim=1), rtol=1e-6)


def test_each_layer_keeps_its_mode():
    base = tiny("gpt2").eval()
    base.transformer.h[0].mlp.c_fc.train()
    packed = get_peft_model(base, LoraConfig(r=4, **ALL)).unload()
    assert packed.transformer.h[0].mlp.c_fc.training is True
    assert packed.transformer.h[1].mlp.c_fc.training is False
