"""IA³: merging beside LoRA, the paper's reading of fused projections, counts, and mistakes."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
import torch
from conftest import inputs, output, shake, state_of, tiny
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from minipeft import (
    IA3Config,
    LoraConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from minipeft.checks.errors import CheckpointError
from minipeft.methods.ia3 import FusedIA3

peft = pytest.importorskip("peft")
FUSED = ["gpt2", "bloom", "gpt_neox"]


def scaled(name: str, dtype: torch.dtype = torch.float32, **options: Any) -> PeftModel:
    """A tiny model with an IA³ that changes its output."""
    model = get_peft_model(tiny(name, dtype), IA3Config(**options))
    shake(model)
    return model


def close(a: Tensor, b: Tensor) -> bool:
    """Equal up to float32's rounding: at most 1.7e-6 of the largest entry was measured."""
    return bool((a - b).abs().max() <= 1e-5 * b.abs().max())


# --- merging -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpt2", "bloom", "llama", "t5", "bert", "opt"])
def test_it_merges_into_weight_and_bias_and_back_to_the_bit(name: str):
    model = scaled(name)
    before, state = output(model, name), state_of(model)
    model.merge_adapter()
    assert close(output(model, name), before)
    model.unmerge_adapter()
    assert state_of(model) == state
    assert close(output(model.merge_and_unload(), name), before)


def test_a_zero_in_the_vector_is_taken_back_too():
    model = scaled("gpt2")
    vector = model.get_base_model().transformer.h[0].attn.c_attn.adapters["default"].ia3_l
    vector.data[3:7] = 0
    before, state = output(model, "gpt2"), state_of(model)
    model.merge_adapter()
    merged = model.get_base_model().transformer.h[0].attn.c_attn.base_layer
    assert merged.weight[:, 3:7].abs().max() == 0
    assert merged.bias[3:7].abs().max() == 0
    assert close(output(model, "gpt2"), before)
    model.unmerge_adapter()
    assert state_of(model) == state
    # peft divides by l + 1e-8, which does not give back what was multiplied by zero
    theirs = peft.get_peft_model(tiny("gpt2"), peft.IA3Config(fan_in_fan_out=True))
    peft.set_peft_model_state_dict(theirs, get_peft_model_state_dict(model))
    layer = theirs.base_model.model.transformer.h[0].attn.c_attn
    weight = layer.weight.detach().clone()
    layer.merge()
    with pytest.warns(UserWarning, match="inaccurate"):
        layer.unmerge()
    assert (layer.weight - weight)[:, 3:7].abs().max() > 0.1


ADAPTERS: dict[str, Any] = {
    "lora": LoraConfig(r=2, target_modules="all-linear"),
    "scale": IA3Config(target_modules="all-linear", feedforward_modules=[]),
    "inputs": IA3Config(target_modules="all-linear", feedforward_modules=r".*\.c_(proj|fc|attn)"),
    "both": IA3Config(),
}


@pytest.mark.parametrize(
    "names",
    [
        order
        for size in (1, 2, 3)
        for chosen in itertools.combinations(ADAPTERS, size)
        for order in itertools.permutations(chosen)
    ],
    ids="-".join,
)
def test_merged_equals_unmerged_in_every_order(names: tuple[str, ...]):
    first, *others = names
    model = get_peft_model(tiny("gpt2"), ADAPTERS[first], first)
    for name in others:
        model.add_adapter(name, ADAPTERS[name])
    model.eval()
    shake(model)
    model.set_adapter(names)
    before, state = output(model, "gpt2"), state_of(model)
    assert not close(output(tiny("gpt2"), "gpt2"), before)
    model.merge_adapter()
    assert close(output(model, "gpt2"), before)
    model.unmerge_adapter()
    assert state_of(model) == state
    with model.disable_adapter():
        assert torch.equal(output(model, "gpt2"), output(tiny("gpt2"), "gpt2"))


# --- K and V only --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FUSED)
def test_keys_and_values_alone_are_what_the_attention_gets(name: str):
    """An l of 2 on K and 3 on V doubles the keys and triples the values, and leaves the queries."""
    model = get_peft_model(tiny(name), IA3Config(fused_qkv="kv", feedforward_modules=[]))
    slot = next(m for m in model.modules() if hasattr(m, "adapters") and "default" in m.adapters)
    method = slot.adapters["default"]
    assert isinstance(method, FusedIA3)
    heads, width = model.config.num_attention_heads, 16 // model.config.num_attention_heads
    pattern = (3, heads, width) if name == "gpt2" else (heads, 3, width)
    part = pattern.index(3)
    factors = torch.tensor([1.0, 2.0, 3.0]).view([3 if i == part else 1 for i in range(3)])
    expected = factors.expand(pattern).reshape(-1, 1)
    with torch.no_grad():
        method.ia3_l.copy_(expected[method.rows])
    assert torch.equal(method.vector(), expected)
    assert method.ia3_l.numel() == 32
    x = torch.randn(2, 5, 16)
    frozen, scaled_ = slot.base_layer(x).view(2, 5, *pattern), slot(x).view(2, 5, *pattern)
    for index, factor in enumerate((1, 2, 3)):
        select = scaled_.select(2 + part, index), frozen.select(2 + part, index)
        assert torch.equal(select[0], factor * select[1])


@pytest.mark.parametrize("name", FUSED)
def test_keys_and_values_alone_travel_to_peft_and_back(name: str, tmp_path):
    ours = scaled(name, fused_qkv="kv")
    ours.save_pretrained(tmp_path)
    state = load_file(tmp_path / "adapter_model.safetensors")
    whole = next(v for k, v in state.items() if "c_attn" in k or "query_key_value" in k)
    assert whole.shape == (48, 1)
    assert int((whole == 1).sum()) == 16
    theirs = peft.PeftModel.from_pretrained(tiny(name), tmp_path)  # any warning is an error
    assert torch.equal(output(theirs, name), output(ours, name))
    again = PeftModel.from_pretrained(tiny(name), tmp_path, is_trainable=True)
    assert again.active_peft_config.fused_qkv == "kv"
    assert torch.equal(output(again, name), output(ours, name))
    assert again.get_nb_trainable_parameters() == ours.get_nb_trainable_parameters()
    inner = {"gpt2": 64, "bloom": 64, "gpt_neox": 24}[name]
    assert ours.get_nb_trainable_parameters()[0] == 2 * (32 + inner)
    theirs.save_pretrained(tmp_path / "theirs")  # peft does not pass it on: Q is trained from here
    plain = PeftModel.from_pretrained(tiny(name), tmp_path / "theirs", is_trainable=True)
    assert plain.active_peft_config.fused_qkv == "qkv"
    assert torch.equal(output(plain, name), output(ours, name))


@pytest.mark.parametrize("name", FUSED)
def test_their_gradient_is_that_of_the_whole_vector(name: str):
    ours, whole = scaled(name, fused_qkv="kv"), scaled(name)
    set_peft_model_state_dict(whole, get_peft_model_state_dict(ours))
    for model in (ours, whole):
        model(**inputs(name)).loss.backward()
    for (path, a), (_, b) in zip(ours.named_modules(), whole.named_modules(), strict=True):
        if isinstance(a, FusedIA3):
            assert torch.equal(a.ia3_l.grad, b.ia3_l.grad[a.rows]), path
    before = state_of(ours)
    ours.merge_adapter()
    assert close(output(ours, name), output(whole, name))
    ours.unmerge_adapter()
    assert state_of(ours) == before


def test_a_cross_attention_that_fuses_keys_and_values_alone_is_scaled_whole():
    config = tiny("gpt2").config
    config.add_cross_attention = True
    model = get_peft_model(type(tiny("gpt2"))(config), IA3Config(fused_qkv="kv"))
    block = model.get_base_model().transformer.h[0]
    shapes = [
        tuple(layer.adapters["default"].ia3_l.shape)
        for layer in (block.attn.c_attn, block.crossattention.c_attn)
    ]
    assert shapes == [(32, 1), (32, 1)]
    assert isinstance(block.attn.c_attn.adapters["default"], FusedIA3)
    assert not isinstance(block.crossattention.c_attn.adapters["default"], FusedIA3)


def test_a_float64_model_gets_a_float64_vector():
    model = scaled("gpt2", torch.float64, fused_qkv="kv")
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    before = output(model, "gpt2")
    model.merge_adapter()
    # float64: the rounding of float32 would leave 1e-7
    assert (output(model, "gpt2") - before).abs().max() <= 1e-13 * before.abs().max()


def test_queries_that_are_scaled_are_refused_and_nothing_is_copied(tmp_path):
    ours, whole = scaled("gpt2", fused_qkv="kv"), scaled("gpt2")
    before = state_of(ours)
    state = dict(reversed(get_peft_model_state_dict(whole).items()))
    with pytest.raises(CheckpointError, match="also scales Q's rows"):
        set_peft_model_state_dict(ours, state)
    assert state_of(ours) == before
    ours.save_pretrained(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    save_file(load_file(file), file, metadata={"format": "pt", "fused_qkv": "q"})
    with pytest.raises(CheckpointError, match="in its header: fused_qkv must be one of"):
        PeftModel.from_pretrained(tiny("gpt2"), tmp_path)
    save_file(get_peft_model_state_dict(whole), file, metadata={"format": "pt", "fused_qkv": "kv"})
    base = tiny("gpt2")
    untouched = state_of(base)
    with pytest.raises(CheckpointError, match="also scales Q's rows"):
        PeftModel.from_pretrained(base, tmp_path)
    assert state_of(base) == untouched


def test_what_peft_lacks_stands_in_the_header_alone(tmp_path):
    scaled("gpt2").save_pretrained(tmp_path)
    assert "fused_qkv" not in json.loads((tmp_path / "adapter_config.json").read_text())
    with safe_open(tmp_path / "adapter_model.safetensors", "pt") as file:
        header = file.metadata()
    assert "fused_qkv" not in json.loads(header.pop("minipeft"))["config"]
    assert header == {"format": "pt", "fused_qkv": "qkv"}
