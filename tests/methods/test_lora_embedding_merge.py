"""An embedding's LoRA and DoRA in a whole model: merging, tied heads, leaving, learning."""

from __future__ import annotations

import pytest
import torch
from conftest import adapted, bits, inputs, output, shake, state_of, tiny
from peft_pairs import answer, ours_on
from test_lora_embedding import MAKERS, TARGETS, batch_of
from torch import nn

import minipeft
from minipeft import LoraConfig, get_peft_model
from minipeft.checks.errors import StateError


@pytest.mark.parametrize("use_dora", [False, True])
@pytest.mark.parametrize("name", ["llama", "bert"])
def test_merged_is_unmerged_and_the_way_back_is_exact(name: str, use_dora: bool):
    model = ours_on(MAKERS[name], target_modules=TARGETS[name], use_dora=use_dora)
    before, there = answer(model, batch_of(name)), state_of(model)
    model.merge_adapter()
    assert (answer(model, batch_of(name)) - before).abs().max() <= 5e-6 * before.abs().max()
    assert state_of(model) != there
    model.unmerge_adapter()
    assert state_of(model) == there
    assert torch.equal(answer(model, batch_of(name)), before)
    plain = model.merge_and_unload()
    assert type(plain) is type(tiny(name))
    assert (answer(plain, batch_of(name)) - before).abs().max() <= 5e-6 * before.abs().max()


@pytest.mark.parametrize("name", ["gpt2", "bloom", "t5", "gemma3"])
def test_a_weight_that_the_head_shares_is_not_merged_into(name: str):
    base = MAKERS[name]()
    assert base.get_output_embeddings().weight is base.get_input_embeddings().weight
    model = get_peft_model(base, LoraConfig(r=2, target_modules=TARGETS[name]))
    shake(model)
    before = state_of(model)
    for verb in (model.merge_adapter, model.merge_and_unload):
        with pytest.raises(StateError, match=rf"merging into '.*{TARGETS[name][0]}'.*its own copy"):
            verb()
        assert state_of(model) == before
    for module in model.modules():  # the fix that the message names
        if isinstance(module, (nn.Linear, nn.Embedding)):
            module.weight = nn.Parameter(module.weight.clone())
    unmerged = answer(model, batch_of(name))
    model.merge_adapter()
    assert (answer(model, batch_of(name)) - unmerged).abs().max() <= 5e-6 * unmerged.abs().max()


def test_disabled_and_taken_out_it_is_gone():
    model = ours_on(MAKERS["gpt2"], target_modules=["wte"])
    assert not torch.equal(output(model, "gpt2"), output(tiny("gpt2"), "gpt2"))
    with model.disable_adapter():
        assert torch.equal(output(model, "gpt2"), output(tiny("gpt2"), "gpt2"))
    plain = model.unload()
    assert plain.lm_head.weight is plain.transformer.wte.weight
    assert bits(plain.transformer.wte.weight) == bits(tiny("gpt2").transformer.wte.weight)


def test_it_learns_beside_other_layers():
    model = adapted("gpt2", target_modules=["wte", "c_attn"])
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer, losses = torch.optim.AdamW(trained, lr=1e-2), []
    for _ in range(6):
        loss = model(**inputs("gpt2")).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1
    assert minipeft.get_peft_model_state_dict(model).keys() >= {
        "base_model.model.transformer.wte.lora_embedding_A",
        "base_model.model.transformer.wte.lora_embedding_B",
    }
