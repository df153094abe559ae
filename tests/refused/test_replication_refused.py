"""layer_replication: what is refused, and leaves the model as it was; several adapters; copies."""

from __future__ import annotations

import copy
import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import inputs, shake, state_of, tiny
from peft_pairs import adapters_of, answer
from test_replication import RANGES, five, replicated, seven
from torch import nn

import minipeft
from minipeft import LoraConfig, get_peft_model
from minipeft.checks.errors import (
    ConfigError,
    ConfigTypeError,
    MinipeftError,
    StateError,
    TargetError,
)

BATCH = inputs("llama")
BAD: list[tuple[Any, str]] = [
    ([], "[]"), ((), "()"), (4, "4"), ("0-4", "'0-4'"), ({0: 4}, "{0: 4}"), ([0, 4], "0 (int)"),
    ([(0,)], "(0,)"), ([(0, 1, 2)], "(0, 1, 2)"), ([(0, "4")], "(0, '4')"),
    ([(0.0, 4)], "(0.0, 4)"), ([(True, 4)], "(True, 4)"), ([(0, None)], "(0, None)"),
    ([(-1, 4)], "(-1, 4)"), ([(2, 2)], "(2, 2)"), ([(3, 1)], "(3, 1)"),
    ([(0, 4), (2, 1)], "(2, 1)"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "said"), BAD, ids=str)
def test_what_is_no_list_of_ranges_is_refused_where_it_is_made(value: Any, said: str):
    with pytest.raises((ConfigError, ConfigTypeError), match="layer_replication") as caught:
        LoraConfig(layer_replication=value)
    assert re.search(rf"got {re.escape(said)}", str(caught.value))
    assert "[(0, 4), (2, 5)]" in str(caught.value)


def refused(base: Any, config: Any, error: type[MinipeftError], said: str) -> None:
    """get_peft_model refuses, and neither the model nor its config has changed."""
    before, known = state_of(base), getattr(base, "config", None)
    text = None if known is None else json.dumps(known.to_dict(), default=str)
    with pytest.raises(error, match=said):
        get_peft_model(base, config)
    assert state_of(base) == before
    assert getattr(base, "config", None) is known
    assert known is None or json.dumps(known.to_dict(), default=str) == text


@pytest.mark.parametrize("ranges", [[(0, 6)], [(0, 4), (4, 9)], [(5, 6)]], ids=str)
def test_ranges_past_the_end_name_the_layers_that_there_are(ranges: Any):
    config = LoraConfig(layer_replication=ranges)
    refused(five("llama"), config, TargetError, rf"layer_replication.*{ranges[-1][1] - 1}.*\b4\b")


def test_models_without_one_list_of_layers_are_refused():
    said = "layer_replication"
    refused(tiny("t5"), LoraConfig(layer_replication=[(0, 2)]), TargetError, said)
    plain = LoraConfig(layer_replication=[(0, 2)], target_modules=["first"])
    refused(tiny("mlp"), plain, TargetError, said)


def test_a_bad_target_or_name_leaves_the_layers_as_they_were():
    config = LoraConfig(layer_replication=RANGES, target_modules=["q_porj"])
    refused(five("llama"), config, TargetError, "q_porj")
    config = LoraConfig(layer_replication=RANGES, layers_to_transform=[6, 7])
    refused(five("llama"), config, TargetError, r"\b7\b")
    base = five("llama")
    before = state_of(base)
    with pytest.raises(MinipeftError):
        get_peft_model(base, LoraConfig(layer_replication=RANGES), "layers")
    assert state_of(base) == before


@pytest.mark.parametrize("verb", ["merge_adapter", "merge_and_unload"])
def test_merging_is_refused(verb: str):
    model = replicated("llama")
    before, answered = state_of(model), answer(model, BATCH)
    with pytest.raises(StateError, match=r"share|replicat"):
        getattr(model, verb)()
    assert state_of(model) == before
    assert model.config.num_hidden_layers == 7
    assert torch.equal(answer(model, BATCH), answered)


def test_layers_that_stand_once_cannot_be_merged_apart_from_the_others():
    model = replicated("llama", layers_to_transform=[2])  # its copy, layer 4, shares the weight
    with pytest.raises(StateError, match=r"share|replicat"):
        model.merge_adapter()


def test_further_adapters_must_name_the_same_ranges():
    model = replicated("llama")
    before = state_of(model)
    for config in (
        LoraConfig(r=2),
        LoraConfig(r=2, layer_replication=[(0, 4)]),
    ):
        with pytest.raises(StateError, match=r"layer_replication=\[\[0, 4\], \[2, 5\]\]"):
            model.add_adapter("b", config)
        assert state_of(model) == before
        assert list(model.peft_config) == ["default"]
    model.add_adapter("b", LoraConfig(r=2, layer_replication=RANGES, layers_to_transform=[6]))
    model.set_adapter("b")
    shake(model, seed=4)
    assert list(adapters_of(model, "b")) == [
        f"model.layers.6.self_attn.{part}_proj" for part in ("q", "v")
    ]
    both = answer(model, BATCH)
    model.delete_adapter("default")
    assert torch.equal(answer(model, BATCH), both)
    assert model.config.num_hidden_layers == 7
    assert torch.equal(answer(model.unload(), BATCH), answer(five("llama"), BATCH))


def test_it_must_be_the_first_adapter():
    model = get_peft_model(five("llama"), LoraConfig(r=2))
    before = state_of(model)
    with pytest.raises(StateError, match=r"layer_replication.*first"):
        model.add_adapter("b", LoraConfig(layer_replication=RANGES))
    assert state_of(model) == before


def test_the_lora_config_is_not_changed_by_use():
    config = LoraConfig(layer_replication=RANGES, r=2)
    text = json.dumps(config.to_dict())
    for _ in range(2):
        get_peft_model(five("llama"), config)
    assert json.dumps(config.to_dict()) == text
    read = json.loads(text)
    assert read["layer_replication"] == [[0, 4], [2, 5]]
    assert LoraConfig(layer_replication=read["layer_replication"], r=2) == config


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_is_a_model_of_its_own(copied: Any):
    model = replicated("llama")
    other, before = copied(model), answer(model, BATCH)
    assert torch.equal(answer(other, BATCH), before)
    shake(other, seed=9)
    for parameter in other.get_base_model().model.layers.parameters():
        parameter.data.mul_(1.5)
    assert torch.equal(answer(model, BATCH), before)
    layers = other.get_base_model().model.layers
    a, b = (layers[n].mlp.up_proj.weight for n in (2, 4))
    assert a.data_ptr() == b.data_ptr()
    assert len(other.unload().model.layers) == 5
    assert len(model.get_base_model().model.layers) == 7


def test_a_model_may_be_replicated_again_after_unload():
    base = five("llama")
    first = get_peft_model(base, LoraConfig(layer_replication=RANGES, r=2))
    base = first.unload()
    with pytest.raises(TargetError):
        get_peft_model(base, LoraConfig(layer_replication=[(0, 6)]))
    second = get_peft_model(base, LoraConfig(layer_replication=[(0, 5), (4, 5)], r=2))
    assert second.config.num_hidden_layers == 6
    plain = get_peft_model(second.unload(), LoraConfig(r=2))
    assert len(adapters_of(plain)) == 10


def test_an_adapter_for_seven_layers_says_when_it_finds_five(tmp_path: Path):
    replicated("llama").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    config["layer_replication"] = None
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    base = five("llama")
    before = state_of(base)
    with pytest.raises(MinipeftError, match=r"layers\.5"):
        minipeft.PeftModel.from_pretrained(base, tmp_path)
    assert state_of(base) == before


def test_a_model_wrapped_once_more_is_found():
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = five("llama")
            self.config = self.inner.config

        def forward(self, **batch: Any) -> Any:
            return self.inner(**batch)

    model = get_peft_model(Outer(), LoraConfig(layer_replication=RANGES))
    assert len(adapters_of(model)) == 14
    assert torch.equal(answer(model, BATCH), answer(seven("llama"), BATCH))
