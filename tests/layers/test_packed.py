"""Packed layers rebuilt: what the new one takes over, and what happens to the old one meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import bits, output, shake
from kbit_models import KINDS, lora_on, packed_by_bnb, quantized
from test_qlora_merge import far, frozen, wrappers
from torch import nn
from transformers.pytorch_utils import Conv1D

from minipeft import BitFitConfig, LoraConfig, QuantizedLinear, get_peft_model
from minipeft.layers.quant import packed


@pytest.mark.parametrize(
    "options",
    [
        {"quant_type": "fp4", "compress_statistics": False, "blocksize": 128},
        {"quant_type": "nf4", "compress_statistics": True, "blocksize": 64},
    ],
    ids=str,
)
def test_a_linear4bit_takes_over_its_options(options: dict[str, Any]):
    weight, b = torch.randn(32, 128), torch.randn(32)
    old: Any = packed_by_bnb(weight, b, 4, **options)
    old.compute_dtype = torch.bfloat16
    new: Any = packed.requantized(old, weight + 1, b)
    expected: Any = packed_by_bnb(weight + 1, b, 4, **options)
    q, known = new.weight.quant_state, expected.weight.quant_state
    assert (q.quant_type, q.nested, q.blocksize) == (
        options["quant_type"],
        options["compress_statistics"],
        options["blocksize"],
    )
    assert bits(new.weight.data) == bits(expected.weight.data)
    assert bits(q.absmax) == bits(known.absmax)
    assert new.compute_dtype == torch.bfloat16
    assert (torch.equal(new.bias, b), new.bias.requires_grad) == (True, False)
    assert new.weight.quant_storage == old.weight.quant_storage
    assert packed.kind(new) == packed.kind(old) == "bitsandbytes Linear4bit"
    assert packed.size(new) == (32 * 128, 32 * 64)


def test_a_linear8bit_takes_over_its_options():
    weight = torch.randn(6, 40)
    old: Any = packed_by_bnb(weight, None, 8, threshold=3.5)
    new: Any = packed.requantized(old, weight + 1, None)
    expected: Any = packed_by_bnb(weight + 1, None, 8)
    assert new.state.threshold == 3.5
    assert new.state.has_fp16_weights is False
    assert new.bias is None
    assert bits(new.weight.data) == bits(expected.weight.data)
    scales = (weight + 1).abs().amax(1) / 127  # a scale for each row
    rounded = packed.dequantized(new)
    assert ((rounded - weight - 1).abs() <= 0.51 * scales[:, None]).all()
    assert packed.kind(new) == "bitsandbytes Linear8bitLt"
    assert packed.size(new) == (240, 240)


def test_what_is_not_packed_yet_is_not_packed():
    bnb = pytest.importorskip("bitsandbytes")
    assert packed.kind(bnb.nn.Linear4bit(64, 64)) == ""  # until it is moved to a device
    assert packed.kind(bnb.nn.Linear8bitLt(64, 64, has_fp16_weights=True)) == ""
    assert packed.size(nn.Linear(4, 5)) == (0, 0)
    assert packed.hidden_parameters(nn.Linear(4, 5)) == 0


@pytest.mark.parametrize("requantize", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:merged .* layers and packed them again")
def test_each_layer_keeps_its_mode(kind: str, requantize: bool):
    base = quantized("gpt2", kind)
    base.transformer.h[0].mlp.c_fc.train()
    base.transformer.h[1].mlp.c_fc.eval()
    plain = lora_on(base).merge_and_unload(requantize=requantize)
    assert plain.transformer.h[0].mlp.c_fc.training is True
    assert plain.transformer.h[1].mlp.c_fc.training is False


@pytest.mark.parametrize("kind", KINDS)
def test_while_merged_the_old_layers_lie_untouched(kind: str):
    model = lora_on(quantized("bloom", kind), bias="all")
    there = frozen(model)
    old = {n: wrapper.base_layer for n, wrapper in wrappers(model).items() if n in there}
    biases = {n: bits(layer.bias) for n, layer in old.items()}
    model.merge_adapter()
    for n, layer in old.items():
        assert wrappers(model)[n].aside.layer is layer
        assert bits(layer.bias) == biases[n]
        assert bits(wrappers(model)[n].base_layer.bias) != biases[n]
    model.unmerge_adapter()
    assert frozen(model) == there
    assert {n: bits(layer.bias) for n, layer in old.items()} == biases
    assert all(wrapper.aside is None for wrapper in wrappers(model).values())


def test_after_a_merge_of_weights_biases_alone_are_merged():
    model = lora_on(quantized("bloom", "ours"))
    model.add_adapter("b", BitFitConfig())
    model.set_adapter(["b", "default"])
    shake(model)
    before = output(model, "bloom")
    model.merge_adapter()
    assert far(output(model, "bloom"), before) < 2e-5
    model.unmerge_adapter()
    model.merge_adapter("b")
    assert far(output(model, "bloom"), before) < 2e-5
    model.unmerge_adapter()
    assert torch.equal(output(model, "bloom"), before)


def test_conv1d_comes_back_with_its_weight_turned_over():
    weight, b = torch.randn(6, 4), torch.randn(6)  # (out, in)
    layer = QuantizedLinear.of(weight, nn.Parameter(b), source_cls=Conv1D)
    new: Any = packed.dense(layer, weight, b)
    assert type(new) is Conv1D
    assert torch.equal(new.weight, weight.T)
    assert new.weight.is_contiguous()
    assert (new.nf, new.nx) == (6, 4)
    x = torch.randn(2, 4)
    assert torch.allclose(new(x), x @ weight.T + b, atol=1e-6)
    model = get_peft_model(nn.Sequential(new), LoraConfig(r=2, target_modules=["0"]))
    assert torch.equal(model(x), new(x))
