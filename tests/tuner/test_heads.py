"""Heads: the new classifier of a task is trained and saved by default, whole, with every method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import WEIGHTS, inputs, logits, output, shake, state_of, tiny
from safetensors.torch import load_file

from minipeft import BitFitConfig, LoraConfig, PeftModel, get_peft_model
from minipeft.checks.errors import ConfigTypeError, TargetError
from minipeft.lab.counting import count
from minipeft.methods.config import LayerConfig
from minipeft.methods.method import REGISTRY
from minipeft.tuner.copies import SavedModule

VIT = {"target_modules": ["q_proj"], "modules_to_save": ["classifier"]}
# model: (what its config says, its head, the head's parameters)
HEADED: dict[str, tuple[dict[str, Any], str, int]] = {
    "bert": ({"task_type": "SEQ_CLS"}, "classifier", 16 * 3 + 3),
    "bert_token": ({"task_type": "TOKEN_CLS"}, "classifier", 16 * 3 + 3),
    "bert_qa": ({"task_type": "QUESTION_ANS"}, "qa_outputs", 16 * 2 + 2),
    "gpt2_cls": ({"task_type": "SEQ_CLS"}, "score", 16 * 3),
    "vit": (VIT, "classifier", 16 * 3 + 3),
}
METHODS = {  # every method that stands beside layers, in its default form
    kind: config
    for kind, (config, _) in REGISTRY.items()
    if issubclass(config, LayerConfig) and kind.isupper()
}


def options_for(kind: str, name: str) -> dict[str, Any]:
    """What the config of that method needs on that model."""
    options = dict(HEADED[name][0])
    if kind == "IA3" and name == "vit":
        options["feedforward_modules"] = []
    if kind == "ADAPTER":
        options.pop("target_modules", None)
    return options


def moved(kind: str, name: str) -> Any:
    """A model whose adapter and head have both changed."""
    model = get_peft_model(tiny(name), METHODS[kind](**options_for(kind, name)))
    shake(model)
    head = model.get_base_model().get_submodule(HEADED[name][1])
    with torch.no_grad():
        for parameter in head.adapters["default"].parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape))
    return model


@pytest.mark.parametrize("name", HEADED)
@pytest.mark.parametrize("kind", METHODS)
def test_the_head_is_trained_saved_and_given_back(tmp_path: Path, kind: str, name: str):
    _, head, size = HEADED[name]
    plain, model = tiny(name), moved(kind, name)
    slot = model.get_base_model().get_submodule(head)
    assert isinstance(slot, SavedModule)
    trained = [p for p in slot.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == size
    model(**inputs(name)).loss.backward()
    assert all(float(p.grad.abs().max()) > 0 for p in trained)
    counted = count(plain, METHODS[kind](**options_for(kind, name)))
    assert counted.heads == size
    assert model.get_nb_trainable_parameters() == (counted.trainable, counted.all)
    model.save_pretrained(tmp_path)
    keys = [k for k in load_file(tmp_path / WEIGHTS) if f".{head}." in k]
    assert keys == [
        f"base_model.model.{head}.{n}" for n in sorted(slot.original_module.state_dict())
    ]
    again = PeftModel.from_pretrained(tiny(name), tmp_path)
    assert torch.equal(output(again, name), output(model, name))
    with model.disable_adapter():
        assert torch.equal(output(model, name), output(plain, name))
    assert torch.equal(output(model.unload(), name), output(plain, name))


def test_all_layer_methods_are_among_them():
    assert {"LORA", "BITFIT"} <= METHODS.keys()


@pytest.mark.parametrize("name", HEADED)
def test_loras_heads_travel_both_ways(peft: Any, tmp_path: Path, name: str):
    options, head, _ = HEADED[name]
    ours = moved("LORA", name)
    ours.save_pretrained(tmp_path / "ours")
    theirs = peft.PeftModel.from_pretrained(tiny(name), tmp_path / "ours", is_trainable=True).eval()
    mine, other = ours(**inputs(name)), theirs(**inputs(name))
    assert torch.equal(logits(mine), logits(other))
    mine.loss.backward()
    other.loss.backward()
    copies = theirs.get_base_model().get_submodule(head).modules_to_save["default"]
    slot = ours.get_base_model().get_submodule(head)
    for a, b in zip(slot.adapters["default"].parameters(), copies.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)
    with torch.no_grad():
        for parameter in copies.parameters():
            parameter.mul_(-2)
    theirs.save_pretrained(tmp_path / "theirs")
    again = PeftModel.from_pretrained(tiny(name), tmp_path / "theirs")
    assert torch.equal(output(again, name), output(theirs, name))
    assert not torch.equal(output(again, name), output(ours, name))
    fan = name == "gpt2_cls"
    config = peft.LoraConfig(fan_in_fan_out=fan, **options)
    built = peft.get_peft_model(tiny(name), config).get_nb_trainable_parameters()
    assert get_peft_model(tiny(name), LoraConfig(**options)).get_nb_trainable_parameters() == built


@pytest.mark.parametrize("kind", METHODS)
def test_wrong_heads_are_refused(kind: str):
    model = tiny("bert")
    before = state_of(model)
    with pytest.raises(ConfigTypeError, match="modules_to_save must be a list of module names"):
        METHODS[kind](modules_to_save="classifier")
    with pytest.raises(TargetError, match="'clasifier' matches no module; did you mean 'classif"):
        get_peft_model(model, METHODS[kind](modules_to_save=["clasifier"]))
    assert state_of(model) == before


@pytest.mark.parametrize("config", [LoraConfig, BitFitConfig])
def test_a_head_is_not_adapted_as_well(config: Any):
    model = get_peft_model(tiny("bert"), config(task_type="SEQ_CLS", target_modules="all-linear"))
    assert isinstance(model.get_base_model().classifier, SavedModule)
    whole = count(tiny("bert"), config(target_modules="all-linear"))
    assert whole.heads == 0
