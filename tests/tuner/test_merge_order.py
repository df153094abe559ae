"""Merging some of several adapters, in any order: the answer stays, or the call is refused."""

from __future__ import annotations

import itertools

import pytest
import torch
from conftest import output, shake, state_of, tiny

from minipeft import AdapterConfig, BitFitConfig, IA3Config, LoraConfig, get_peft_model
from minipeft.checks.errors import StateError

CONFIGS = {
    "lora": LoraConfig(r=2, target_modules="all-linear"),
    "second": LoraConfig(r=2, target_modules=["c_attn", "mlp.c_proj"]),
    "scale": IA3Config(),
    "shift": BitFitConfig(),
    "bottleneck": AdapterConfig(adapter_dim=3),
}


@pytest.mark.parametrize("active", list(itertools.permutations(CONFIGS, 3)), ids="-".join)
def test_a_merge_keeps_the_answer_or_is_refused(active: tuple[str, ...]):
    model = get_peft_model(tiny("gpt2"), CONFIGS[active[0]], active[0]).eval()
    for name in active[1:]:
        model.add_adapter(name, CONFIGS[name])
    model.set_adapter(list(active))
    shake(model)
    before = output(model, "gpt2")
    done = 0
    for size in (1, 2, 3):
        for names in itertools.permutations(active, size):
            state = state_of(model)
            try:
                model.merge_adapter(names)
            except StateError:
                assert state_of(model) == state
                continue
            # float32; the sums of a merge are rounded once more: measured at most 4e-6
            assert torch.allclose(output(model, "gpt2"), before, atol=1e-4), names
            model.unmerge_adapter()
            assert state_of(model) == state
            done += 1
    whole = 0 if "bottleneck" in active else 6  # all three together, named in any order
    assert done >= whole + (active[0] not in ("bottleneck", "scale"))


def test_the_refusal_names_both_and_the_fix():
    model = get_peft_model(tiny("gpt2"), CONFIGS["scale"], "scale")
    model.add_adapter("lora", CONFIGS["lora"])
    model.set_adapter(["scale", "lora"])
    with pytest.raises(StateError, match=r"merging 'lora' alone .* 'scale' stays .*together, or"):
        model.merge_adapter(["lora"])
