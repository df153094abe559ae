"""Merging: W + ΔW does what both did, the way back is exact, and it is all or nothing."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from conftest import MLP, adapted, bits, inputs, output, shake, state_of, tiny
from torch import nn

import minipeft
from minipeft import LoraConfig, MinipeftError, get_peft_model
from minipeft.checks.errors import StateError

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
# Merged against not merged, relative to the largest logit: the merged weight is rounded to the
# model's dtype, where the update beside it was not. Measured 7e-7, 2.3e-3 and 2.8e-2; times four.
BOUNDS = {torch.float32: 3e-6, torch.float16: 1e-2, torch.bfloat16: 0.12}


def weights(model: nn.Module) -> dict[str, bytes]:
    """The bits of all weights of the base model, by the name they have without adapters."""
    named = model.named_parameters()
    return {n.replace("base_layer.", ""): bits(p) for n, p in named if ".adapters." not in n}


def poison(model: nn.Module) -> str:
    """Put a NaN into the last layer's B; the name of that layer."""
    name, last = [(n, p) for n, p in model.named_parameters() if "lora_B" in n][-1]
    last.data[0, 0] = float("nan")
    return name


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["gpt2", "bloom", "llama", "bert"])
def test_merged_equals_unmerged_and_the_way_back_is_exact(name: str, dtype: torch.dtype):
    model = adapted(name, dtype, target_modules="all-linear", lora_alpha=3)
    before, bare = output(model, name), weights(model)
    model.merge_adapter()
    merged = output(model, name)
    assert (merged - before).abs().max() <= BOUNDS[dtype] * before.abs().max()
    assert weights(model) != bare
    assert not torch.allclose(merged, output(tiny(name, dtype), name), rtol=0.1)
    model.unmerge_adapter()
    assert weights(model) == bare
    assert torch.equal(output(model, name), before)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_hundred_cycles_leave_no_trace_where_subtracting_would(dtype: torch.dtype):
    model = adapted("mlp", dtype)
    layer = model.get_base_model().first
    bare, delta = weights(model), layer.adapters["default"].delta_weight()
    for _ in range(100):
        model.merge_adapter()
        model.unmerge_adapter()
    assert weights(model) == bare
    drifted = layer.weight.detach().clone()
    for _ in range(100):
        drifted = (drifted.float() + delta).to(dtype)
        drifted = (drifted.float() - delta).to(dtype)
    assert not torch.equal(drifted, layer.weight)  # what the kept original saves us from


def test_the_merged_matrix_by_hand():
    model = adapted("mlp", torch.bfloat16, r=2, lora_alpha=6, target_modules=["first"])
    model.add_adapter("b", LoraConfig(r=1, lora_alpha=1, target_modules=["first"]))
    shake(model)
    a, b = model.first.adapters.values()
    expected = model.first.weight.float() + 3 * (a.lora_B @ a.lora_A) + b.lora_B @ b.lora_A
    model.merge_adapter(["default", "b"])
    assert torch.equal(model.first.weight, expected.to(torch.bfloat16))  # rounded once


@pytest.mark.parametrize("name", ["gpt2", "llama", "mlp"])
def test_merge_and_unload_gives_a_plain_model(name: str):
    model = adapted(name)
    before = output(model, name)
    plain = model.merge_and_unload()
    assert type(plain) is type(tiny(name))
    assert {n for n, _ in plain.named_modules()} == {n for n, _ in tiny(name).named_modules()}
    assert all(p.requires_grad for p in plain.parameters())
    assert (output(plain, name) - before).abs().max() <= 1e-5 * before.abs().max()
    again = adapted(name)
    again.merge_adapter()
    assert torch.equal(output(again.merge_and_unload(), name), output(plain, name))


def test_unload_gives_back_the_model_as_it_was():
    base = tiny("gpt2")
    base.transformer.wpe.weight.requires_grad_(False)
    base.transformer.h[1].train()
    before = state_of(base)
    model = get_peft_model(base, LoraConfig(lora_dropout=0.1))
    shake(model)
    model.merge_adapter()
    assert model.unload() is base
    assert state_of(base) == before


def test_several_adapters_merge_as_their_sum():
    model = adapted("gpt2")
    model.add_adapter("b", LoraConfig(r=2, target_modules=["c_attn", "c_fc"]))
    model.set_adapter(["default", "b"])
    shake(model, seed=4)
    both, bare = output(model, "gpt2"), weights(model)
    for part in (["default"], ["b"], "b", None, ["b", "default", "b"]):
        model.merge_adapter(part)  # what is not merged stays active beside the layer
        assert (output(model, "gpt2") - both).abs().max() <= 1e-5 * both.abs().max()
        model.unmerge_adapter()
        assert weights(model) == bare
    model.set_adapter("b")
    only_b = output(model, "gpt2")
    plain = model.merge_and_unload(["b"])
    assert (output(plain, "gpt2") - only_b).abs().max() <= 1e-5 * only_b.abs().max()


# --- refusals ------------------------------------------------------------------------------------


def test_merging_twice_and_unmerging_nothing_are_refused():
    model = adapted("mlp")
    with pytest.raises(StateError, match=r"nothing is merged; merge_adapter\(\) comes first"):
        model.unmerge_adapter()
    model.merge_adapter()
    before = state_of(model)
    for verb in (
        model.merge_adapter,
        lambda: model.merge_and_unload(["default"]),
        lambda: model.set_adapter("default"),
        lambda: model.delete_adapter("default"),
        lambda: model.add_adapter("b", LoraConfig(target_modules=["first"])),
    ):
        with pytest.raises(StateError, match=r"merged.*unmerge_adapter\(\)"):
            verb()
        assert state_of(model) == before


def test_a_weight_shared_with_another_layer_is_not_merged_into():
    model = adapted("gpt2", target_modules=["c_attn", "lm_head"])  # lm_head and wte share theirs
    before, answer = state_of(model), output(model, "gpt2")
    with pytest.raises(StateError, match=r"merging into 'lm_head'.*wte\.weight.*its own copy"):
        model.merge_adapter()
    with pytest.raises(StateError, match="share one weight"):
        model.merge_and_unload()
    assert state_of(model) == before
    head = model.get_base_model().lm_head.base_layer
    head.weight = nn.Parameter(head.weight.clone(), requires_grad=False)  # the message's advice
    model.merge_adapter()
    assert torch.allclose(output(model, "gpt2"), answer, atol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_nan_anywhere_is_refused_and_nothing_was_merged(dtype: torch.dtype):
    model = adapted("gpt2", dtype, target_modules=["c_attn", "c_fc"])
    poison(model)
    before = state_of(model)
    for verb in (model.merge_adapter, model.merge_and_unload):
        with pytest.raises(StateError, match=r"'default'.*not finite; look for NaN"):
            verb()
        assert state_of(model) == before
        assert model.base_model.merged == ()


def test_an_overflow_is_refused():
    model = adapted("mlp", torch.float16)
    model.get_base_model().first.adapters["default"].lora_B.data.fill_(1e6)  # float16 ends at 65504
    with pytest.raises(StateError, match="not finite"):
        model.merge_adapter()


def test_a_layer_without_a_plain_matrix_is_run_and_not_merged_into():
    base = MLP()
    base.first = nn.utils.parametrizations.weight_norm(base.first)
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["second", "first"]))
    shake(model)
    before = state_of(model)
    with pytest.raises(StateError, match=r"ParametrizedLinear cannot take a merge.*beside it"):
        model.merge_adapter()
    assert state_of(model) == before


# --- other verbs while merged --------------------------------------------------------------------


def test_disabled_while_merged_the_base_model_answers():
    model = adapted("gpt2")
    model.merge_adapter()
    merged = output(model, "gpt2")
    with model.disable_adapter():
        assert torch.equal(output(model, "gpt2"), output(tiny("gpt2"), "gpt2"))
    assert torch.equal(output(model, "gpt2"), merged)
    assert model.base_model.merged == ("default",)


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],
    ids=["copy", "pickle"],
)
def test_a_copy_is_a_model_of_its_own(copied: Any, merged: bool):
    model = adapted("gpt2")
    bare = weights(model)
    if merged:
        model.merge_adapter()
    other = copied(model)
    assert torch.equal(output(other, "gpt2"), output(model, "gpt2"))
    if merged:
        other.unmerge_adapter()
        assert weights(other) == bare
        assert weights(model) != bare
    shake(other, seed=9)
    assert not torch.equal(output(other, "gpt2"), output(model, "gpt2"))
    copied(model.unload())


def test_a_layer_in_two_places_is_one_layer():
    layer = nn.Linear(6, 6)
    base = nn.Sequential(layer, nn.ReLU(), layer)
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["0"]))
    shake(model)
    assert base[0] is base[2]
    x = inputs("mlp")["x"]
    before = model.eval()(x)
    model.merge_adapter()
    assert torch.allclose(model(x), before, atol=1e-5)
    model.unmerge_adapter()
    assert torch.equal(model(x), before)
    assert model.unload()[0] is base[2] is layer


def test_a_trained_head_is_merged_in():
    model = adapted("bert", task_type="SEQ_CLS")
    model.get_base_model().classifier.weight.data.mul_(-2)
    before, head = output(model, "bert"), tiny("bert").classifier.weight
    plain = model.merge_and_unload()
    assert torch.equal(plain.classifier.weight, -2 * head)
    assert torch.allclose(output(plain, "bert"), before, atol=1e-5)


def test_every_refusal_is_ours():
    assert issubclass(StateError, MinipeftError)
    assert issubclass(StateError, RuntimeError)
    assert minipeft.MinipeftError is MinipeftError
