"""Modules trained whole beside an adapter: a copy for each adapter, the original kept."""

from __future__ import annotations

import pytest
import torch
from conftest import adapted, output, state_of, tiny
from torch import nn

from minipeft import LoraConfig, PeftModel, get_peft_model
from minipeft.checks.errors import StateError, TargetError
from minipeft.tuner.copies import SavedModule


def test_each_adapter_has_its_own_head():
    model = adapted("bert", task_type="SEQ_CLS")
    model.add_adapter("b", LoraConfig(r=2, task_type="SEQ_CLS"))
    head = model.get_base_model().classifier
    assert isinstance(head, SavedModule)
    head.adapters["b"].weight.data.mul_(2)
    assert head.adapters["default"].weight.requires_grad
    assert not head.adapters["b"].weight.requires_grad
    assert not head.original_module.weight.requires_grad
    model.set_adapter("b")
    assert head.weight is head.adapters["b"].weight
    with model.disable_adapter():
        assert torch.equal(output(model, "bert"), output(tiny("bert"), "bert"))
    for verb in (model.set_adapter, model.merge_adapter):
        with pytest.raises(StateError, match=r"each have their own 'classifier'"):
            verb(["default", "b"])
    assert model.unload().classifier is head.original_module


def test_what_one_adapter_trains_whole_another_cannot_adapt():
    model = adapted("mlp", target_modules=["first"], modules_to_save=["second"])
    before = state_of(model)
    with pytest.raises(TargetError, match="'second' is trained whole by 'default'"):
        model.add_adapter("b", LoraConfig(target_modules=["second"]))
    assert state_of(model) == before
    model = adapted("mlp", target_modules=["first"])
    before = state_of(model)
    with pytest.raises(TargetError, match=r"'first' is, or holds, what another adapter adapts"):
        model.add_adapter("b", LoraConfig(target_modules=["second"], modules_to_save=["first"]))
    assert state_of(model) == before


def test_a_head_keeps_the_modes_of_its_parts():
    head = nn.Sequential(nn.Dropout(), nn.Linear(8, 4))
    base = nn.ModuleDict({"body": nn.Linear(6, 8), "top": head})
    head[0].eval()
    model = get_peft_model(base, LoraConfig(target_modules=["body"], modules_to_save=["top"]))
    assert base["top"].training
    assert not base["top"].adapters["default"][0].training
    assert not model.unload()["top"][0].training


def test_a_head_inside_a_head_goes_with_the_outer_one():
    base = nn.ModuleDict(
        {"body": nn.Linear(6, 8), "top": nn.ModuleDict({"inner": nn.Linear(8, 4)})}
    )
    config = LoraConfig(target_modules=["body"], modules_to_save=["top", "inner"])
    model = get_peft_model(base, config)
    assert sum(isinstance(module, SavedModule) for module in model.modules()) == 1


def test_a_head_is_not_adapted_as_well():
    for target in ("all-linear", "first|second"):
        model = adapted("mlp", target_modules=target, modules_to_save=["second"])
        assert isinstance(model.second, SavedModule)
    with pytest.raises(TargetError, match="leaves no layer to adapt"):
        get_peft_model(tiny("mlp"), LoraConfig(target_modules="first", modules_to_save=["first"]))


@pytest.mark.parametrize("saved", [["second"], ["first", "second"]])
def test_a_layer_named_for_both_is_refused(saved: list[str]):
    base = tiny("mlp")
    before = state_of(base)
    said = r"'second' is named in target_modules, and is trained whole .*'second'\): name it in one"
    with pytest.raises(TargetError, match=said):
        get_peft_model(base, LoraConfig(target_modules=["second", "second"], modules_to_save=saved))
    with pytest.raises(
        TargetError, match="'classifier' is named in target_modules, and is trained"
    ):
        config = LoraConfig(target_modules=["query", "classifier"], task_type="SEQ_CLS")
        get_peft_model(tiny("bert"), config)
    assert state_of(base) == before


def test_an_unknown_head_is_named_with_what_is_near():
    base = tiny("bert")
    before = state_of(base)
    with pytest.raises(
        TargetError, match="'clasifier' matches no module; did you mean 'classifier'"
    ):
        get_peft_model(base, LoraConfig(modules_to_save=["clasifier"]))
    assert state_of(base) == before


def test_a_saved_head_is_trained_and_the_original_is_not(tmp_path):
    model = adapted("bert", task_type="SEQ_CLS")
    original = tiny("bert").classifier.weight
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    model.classifier(torch.ones(2, 16)).square().sum().backward()
    optimizer.step()
    assert torch.equal(model.classifier.original_module.weight, original)
    assert not torch.equal(model.classifier.weight, original)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(tiny("bert"), tmp_path)
    assert torch.equal(again.classifier.weight, model.classifier.weight)
    assert again.active_peft_config.modules_to_save == ["classifier", "score"]  # as peft writes it
