"""quantize_model takes one layer at a time, works without data, and is not done twice."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from conftest import bits, inputs, output, state_of, tiny
from kbit_models import KINDS, quantized
from live_bytes import LiveBytes
from torch import nn

from minipeft import LoraConfig, QuantizedLinear, get_peft_model, quantize_model
from minipeft.checks.errors import TargetError

N = 640


def stack(layers: int, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Layers of N x N."""
    return nn.Sequential(*(nn.Linear(N, N, bias=False, dtype=dtype) for _ in range(layers)))


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_at_no_moment_more_than_one_layer_twice(dtype: torch.dtype, nested: bool):
    quantize_model(stack(1), double_quant=nested)  # the tables of levels are made once
    one, extra = N * N * torch.finfo(dtype).bits // 8, {}
    for layers in (2, 8):
        with LiveBytes() as live:
            model = stack(layers, dtype)
            before = live.peak = live.now
            assert before == layers * one
            report = quantize_model(model, double_quant=nested)
            extra[layers], after = live.peak - before, live.now
        assert (report.bytes_before, report.bytes_after) == (before, after)
        assert after < before / (32 / 4.6 if dtype == torch.float32 else 16 / 4.6)
    # While a layer is quantized there are it in float32, scaled, compared and in codes; how many
    # layers come before and after plays no part. The first layer is the worst: nothing is freed yet
    assert extra[8] == extra[2] <= 3 * N * N * 4


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_time_there_is_nothing_left(kind: str):
    model = quantized("llama", kind)
    before = state_of(model) if kind == "ours" else None
    with pytest.raises(TargetError, match=r"no layer to quantize in Llama.*left alone: 'lm_head'"):
        quantize_model(model)
    assert before is None or state_of(model) == before


def test_the_rest_of_a_model_that_is_quantized_in_part():
    model = tiny("gpt2")
    assert len(quantize_model(model, skip_modules=["mlp"]).layers) == 4
    there = model.transformer.h[0].attn.c_attn
    report = quantize_model(model, "nf8", double_quant=False)
    assert [n[14:] for n in report.layers] == [
        *("0.mlp.c_fc", "0.mlp.c_proj", "1.mlp.c_fc", "1.mlp.c_proj"),
    ]
    assert model.transformer.h[0].attn.c_attn is there
    assert model.transformer.h[0].mlp.c_fc.quant_type == "nf8"


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("name", ["gpt2", "llama", "mlp"])
def test_a_model_without_data_takes_a_quantized_state(name: str, assign: bool):
    full = tiny(name)
    quantize_model(full)
    state = full.state_dict()
    assert not any(k.endswith(".weight") for k in state if k.replace("weight", "codes") in state)
    empty: Any = copy.deepcopy(tiny(name)).to("meta")
    report = quantize_model(empty)
    assert all(t.is_meta for t in [*empty.parameters(), *empty.state_dict().values()])
    assert report == quantize_model(tiny(name))
    if not assign:
        empty.to_empty(device="cpu")
        # positions and frequencies are buffers that no state dict has
        for (_, mine), (_, other) in zip(empty.named_buffers(), full.named_buffers(), strict=True):
            mine.copy_(other)
    empty.load_state_dict(state, strict=True, assign=assign)
    if name == "llama" and assign:
        empty.model.rotary_emb = full.model.rotary_emb
    if name == "gpt2":
        empty.tie_weights()
    assert torch.equal(output(empty, name), output(full, name))


def test_options_reach_every_layer():
    model = tiny("llama")
    quantize_model(
        model,
        "nf8",
        blocksize=32,
        double_quant=False,
        compute_dtype=torch.bfloat16,
        compile=True,
    )
    for layer in [m for m in model.modules() if isinstance(m, QuantizedLinear)]:
        assert (layer.quant_type, layer.blocksize, layer.offset) == ("nf8", 32, None)
        assert (layer.compute_dtype, layer.compile_dequantize) == (torch.bfloat16, True)
    usual = tiny("llama")
    quantize_model(usual)
    layer = usual.model.layers[0].mlp.up_proj
    assert (layer.quant_type, layer.blocksize, layer.compute_dtype) == ("nf4", 64, None)
    assert layer.absmax.dtype == torch.uint8  # quantized scales, as QLoRA has them
    assert layer.compile_dequantize is False


@pytest.mark.parametrize("trained", [True, False])
def test_what_was_trainable_stays_so(trained: bool):
    model = tiny("gpt2").requires_grad_(trained)
    biases = {n: id(p) for n, p in model.named_parameters() if n.endswith("bias")}
    quantize_model(model)
    assert all(p.requires_grad is trained for p in model.parameters())
    now = {n: id(p) for n, p in model.named_parameters() if n.endswith("bias")}
    assert now == biases  # the very parameters
    model(**inputs("gpt2")).loss.backward() if trained else None
    adapted = get_peft_model(model, LoraConfig())
    assert {n.split(".")[-1] for n, p in adapted.named_parameters() if p.requires_grad} == {
        "lora_A",
        "lora_B",
    }
    assert all(p.requires_grad is trained for p in adapted.unload().parameters())


def test_modes_of_single_layers_are_kept():
    model = tiny("gpt2").eval()
    model.transformer.h[1].mlp.c_fc.train()
    modes = {n: m.training for n, m in model.named_modules()}
    quantize_model(model)
    assert {n: m.training for n, m in model.named_modules()} == modes


def test_the_same_weights_give_the_same_codes():
    first, second = tiny("llama"), tiny("llama")
    quantize_model(first)
    quantize_model(second)
    a, b = first.state_dict(), second.state_dict()
    assert a.keys() == b.keys()
    assert all(bits(a[k]) == bits(b[k]) for k in a)
