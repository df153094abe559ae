"""DoRA against Hugging Face peft, and its merging beside other adapters.

float32, relative to the largest entry, or to the gradient's length: the largest differences from
peft measured are 7.5e-7 for outputs and 2.2e-6 for gradients; the bounds are four times that.
"""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import WEIGHTS, bits, output, shake, state_of, tiny
from kbit_models import quiet
from safetensors.torch import load_file, save_file
from test_peft_equality import distance
from test_qlora import compare

import minipeft
from minipeft import (
    BitFitConfig,
    DoRALayer,
    IA3Config,
    LoraConfig,
    LoRALayer,
    PeftModel,
    get_peft_model,
)
from minipeft.checks.errors import CheckpointError, StateError

BOUNDS = (3e-6, 9e-6)
FAMILIES = ["gpt2", "bloom", "llama", "t5", "bert"]


def dora(name: str, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    """A tiny model with a DoRA whose magnitudes and factors are random."""
    config = LoraConfig(**{"r": 4, "use_dora": True, **options})
    model = get_peft_model(tiny(name, dtype), config)
    shake(model)
    return model


def theirs_of(peft: Any, ours: Any, name: str, dtype: torch.dtype = torch.float32, **o: Any) -> Any:
    """peft's DoRA with the same numbers."""
    with quiet():
        config = peft.LoraConfig(**{"r": 4, "use_dora": True, **o})
        model = peft.get_peft_model(tiny(name, dtype), config).eval()
        moved = peft.set_peft_model_state_dict(model, minipeft.get_peft_model_state_dict(ours))
    assert not moved.unexpected_keys
    return model


OPTIONS: list[dict[str, Any]] = [
    {"lora_alpha": 8},
    {"r": 3, "lora_alpha": 7, "target_modules": "all-linear"},
    {"r": 2, "lora_alpha": 5, "use_rslora": True},
    {"init_lora_weights": False},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", FAMILIES)
def test_equal_to_peft(peft: Any, name: str, options: dict[str, Any]):
    ours = dora(name, **options)
    compare(ours, theirs_of(peft, ours, name, **options), name, BOUNDS)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_start_is_pefts(peft: Any, name: str):
    options = {"r": 4, "use_dora": True, "init_lora_weights": False}
    with quiet():
        theirs = peft.get_peft_model(tiny(name), peft.LoraConfig(**options)).eval()
    ours = get_peft_model(tiny(name), LoraConfig(**options))
    given = peft.get_peft_model_state_dict(theirs)
    mine = minipeft.get_peft_model_state_dict(ours)
    assert mine.keys() == given.keys()
    assert {k: v.shape for k, v in mine.items()} == {k: v.shape for k, v in given.items()}
    minipeft.set_peft_model_state_dict(ours, given)
    for module in ours.modules():  # with peft's A and B, m = ‖V‖ is what peft started with
        if isinstance(module, DoRALayer):
            assert torch.allclose(module.lora_magnitude_vector, module.row_lengths(), rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", FAMILIES)
def test_files_travel_both_ways(peft: Any, tmp_path: Path, name: str, dtype: torch.dtype):
    ours = dora(name, dtype)
    ours.save_pretrained(tmp_path / "ours")
    tensors = load_file(tmp_path / "ours" / WEIGHTS)
    vectors = {k: t.shape for k, t in tensors.items() if "magnitude" in k}
    assert vectors
    assert all(k.endswith(".lora_magnitude_vector") and len(s) == 1 for k, s in vectors.items())
    with quiet():
        theirs = peft.PeftModel.from_pretrained(tiny(name, dtype), tmp_path / "ours").eval()
        theirs.save_pretrained(tmp_path / "theirs")
    bound = BOUNDS[0] if dtype == torch.float32 else 16 * torch.finfo(dtype).eps
    assert distance(output(theirs, name).float(), output(ours, name).float()) <= bound
    back = PeftModel.from_pretrained(tiny(name, dtype), tmp_path / "theirs")
    assert torch.equal(output(back, name), output(ours, name))
    mine, other = (
        load_file(tmp_path / w / "adapter_model.safetensors") for w in ("ours", "theirs")
    )
    assert {k: bits(t) for k, t in mine.items()} == {k: bits(t) for k, t in other.items()}
    first = next(iter(vectors))
    save_file(
        {k: t for k, t in mine.items() if k != first},
        tmp_path / "ours" / "adapter_model.safetensors",
    )
    with pytest.raises(CheckpointError, match=r"lacks 1 tensors .*lora_magnitude_vector"):
        PeftModel.from_pretrained(tiny(name, dtype), tmp_path / "ours")


@pytest.mark.parametrize("name", FAMILIES)
def test_merged_weights_are_pefts(peft: Any, name: str):
    ours = dora(name, lora_alpha=7)
    theirs = theirs_of(peft, ours, name, lora_alpha=7)
    before = output(ours, name)
    ours, theirs = ours.merge_and_unload(), theirs.merge_and_unload()
    a, b = dict(ours.named_parameters()), dict(theirs.named_parameters())
    changed = [k for k in a if bits(a[k]) != bits(tiny(name).get_parameter(k))]
    assert changed
    assert all(distance(b[k], a[k]) < 1e-6 for k in a)  # a product and a quotient of float32
    assert distance(before, output(ours, name)) < BOUNDS[0]
    assert not any(isinstance(m, LoRALayer) for m in ours.modules())


# --- merging beside other adapters ---------------------------------------------------------------


def pair(other: Any, order: list[str], name: str = "gpt2") -> Any:
    """A DoRA and another adapter, active in this order."""
    model = dora(name)
    model.add_adapter("other", other)
    model.set_adapter(order)
    shake(model, seed=6)
    return model


LORA, SECOND = LoraConfig(r=2), LoraConfig(r=2, use_dora=True)
BOTH = ["default", "other"]


@pytest.mark.parametrize(
    "other", [LORA, LoraConfig(r=2, use_dora=True), IA3Config()], ids=["lora", "dora", "ia3"]
)
@pytest.mark.parametrize("order", [BOTH, BOTH[::-1]], ids=str)
def test_merged_together_they_do_what_they_did(other: Any, order: list[str]):
    model = pair(other, order)
    before, there = output(model, "gpt2"), state_of(model)
    model.merge_adapter()
    assert distance(before, output(model, "gpt2")) < BOUNDS[0]
    model.unmerge_adapter()
    assert torch.equal(output(model, "gpt2"), before)
    assert state_of(model) == there


@pytest.mark.parametrize("order", [BOTH, BOTH[::-1]], ids=str)
def test_a_dora_that_stays_forbids_to_change_the_weight_it_reads(order: list[str]):
    for other in (LORA, SECOND):
        model = pair(other, order)
        before = state_of(model)
        said = (
            r"merging 'other' alone would change what 'default' computes from the weight of '.*c_at"
        )
        with pytest.raises(StateError, match=said):
            model.merge_adapter(["other"])
        assert state_of(model) == before
    model = pair(BitFitConfig(), order, "bloom")  # DoRA takes b off and puts it back: no scaling
    before = output(model, "bloom")
    with pytest.raises(StateError, match="merging 'other' alone would change"):
        model.merge_adapter(["other"])
    model.merge_adapter()
    assert distance(before, output(model, "bloom")) < BOUNDS[0]


def test_a_dora_alone_may_go_before_a_lora_and_not_after():
    model = pair(LORA, BOTH)
    before = output(model, "gpt2")
    model.merge_adapter(["default"])
    assert distance(before, output(model, "gpt2")) < BOUNDS[0]
    model = pair(LORA, BOTH[::-1])
    with pytest.raises(StateError, match=r"merging 'default' alone would change the answer"):
        model.merge_adapter(["default"])
    model.set_adapter("default")  # an adapter that is not active does not count
    before = output(model, "gpt2")
    model.merge_adapter()
    assert distance(before, output(model, "gpt2")) < BOUNDS[0]


@pytest.mark.parametrize("bias", ["all", "lora_only"])
@pytest.mark.parametrize("name", ["gpt2", "bert"])
def test_with_trained_biases(peft: Any, name: str, bias: str):
    model = dora(name, bias=bias)
    before = output(model, name)
    model.merge_adapter()
    assert distance(before, output(model, name)) < BOUNDS[0]
    model.unmerge_adapter()
    assert torch.equal(output(model, name), before)
    own = dora(name)
    assert distance(output(own, name), before) > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_the_way_back_is_exact(dtype: torch.dtype):
    model = dora("llama", dtype, target_modules="all-linear")
    before, there = output(model, "llama"), state_of(model)
    model.merge_adapter()
    # the merged weight is rounded to the model's dtype, the factor beside it was not
    assert distance(before.float(), output(model, "llama").float()) < 24 * torch.finfo(dtype).eps
    model.unmerge_adapter()
    assert torch.equal(output(model, "llama"), before)
    assert state_of(model) == there


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_reads_its_own_weight(copied: Any):
    model = dora("gpt2")
    other, before = copied(model), output(model, "gpt2")
    assert torch.equal(output(other, "gpt2"), before)
    for module in other.modules():
        if isinstance(module, DoRALayer):
            module.base.layer.weight.data.mul_(2)
    assert torch.equal(output(model, "gpt2"), before)
    first = other.get_base_model().transformer.h[0].attn.c_attn
    assert first.adapters["default"].base.layer is first.base_layer
    assert torch.equal(first.weight, 2 * model.get_base_model().transformer.h[0].attn.c_attn.weight)


def test_weights_loaded_later_are_the_ones_that_are_read():
    model, fresh = dora("gpt2"), tiny("gpt2")
    for parameter in fresh.parameters():
        parameter.data.mul_(1.5)
    state = model.state_dict()
    own = {k.replace("base_model.model.", "").replace("base_layer.", ""): k for k in state}
    for name, parameter in fresh.state_dict().items():
        state[own[name]] = parameter
    expected = get_peft_model(fresh, LoraConfig(r=4, use_dora=True))
    minipeft.set_peft_model_state_dict(expected, minipeft.get_peft_model_state_dict(model))
    for assign in (False, True):
        model.load_state_dict(state, assign=assign)
        model.get_base_model().tie_weights()
        assert torch.equal(output(model, "gpt2"), output(expected, "gpt2"))
