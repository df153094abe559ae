"""Options that speak of single layers: what is refused, and that it changes nothing.

A message names the option and what was given, what there is, and the near misses.
"""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from conftest import adapted, state_of, tiny

from minipeft import LoraConfig, get_peft_model
from minipeft.checks.errors import ConfigError, ConfigTypeError, TargetError

NAN, INF = float("nan"), float("inf")
# option, other options, what of the value the message names
BAD: list[tuple[str, Any, dict[str, Any], str]] = [
    ("layers_to_transform", -1, {}, "-1"),
    ("layers_to_transform", [0, -2], {}, "-2"),
    ("layers_to_transform", True, {}, "True"),
    ("layers_to_transform", [False], {}, "False"),
    ("layers_to_transform", "1", {}, "'1'"),
    ("layers_to_transform", 1.0, {}, "1.0"),
    ("layers_to_transform", [0, "x"], {}, "'x'"),
    ("layers_to_transform", [], {}, "layers_to_transform"),
    ("layers_to_transform", {0: 1}, {}, "0"),
    ("layers_to_transform", 0, {"target_modules": ".*c_attn"}, ".*c_attn"),
    ("layers_to_transform", [0], {"target_modules": "all-linear"}, "all-linear"),
    ("layers_pattern", "h", {}, "layers_to_transform"),
    ("layers_pattern", ["h"], {}, "layers_to_transform"),
    ("layers_pattern", 3, {"layers_to_transform": 0}, "3"),
    ("layers_pattern", ["h", None], {"layers_to_transform": 0}, "None"),
    ("layers_pattern", "h(", {"layers_to_transform": 0}, "h("),
    ("exclude_modules", "c_(attn", {}, "c_(attn"),
    ("exclude_modules", 3, {}, "3"),
    ("exclude_modules", ["c_attn", 3], {}, "3"),
    ("exclude_modules", [""], {}, "''"),
    ("rank_pattern", ["c_attn"], {}, "c_attn"),
    ("rank_pattern", {"c_attn": 0}, {}, "0"),
    ("rank_pattern", {"c_attn": -1}, {}, "-1"),
    ("rank_pattern", {"c_attn": True}, {}, "True"),
    ("rank_pattern", {"c_attn": 2.0}, {}, "2.0"),
    ("rank_pattern", {"c_attn": "4"}, {}, "'4'"),
    ("rank_pattern", {3: 4}, {}, "3"),
    ("rank_pattern", {"c_(": 4}, {}, "c_("),
    ("alpha_pattern", "c_attn", {}, "c_attn"),
    ("alpha_pattern", {"c_attn": 0}, {}, "0"),
    ("alpha_pattern", {"c_attn": NAN}, {}, "nan"),
    ("alpha_pattern", {"c_attn": INF}, {}, "inf"),
    ("alpha_pattern", {"c_attn": False}, {}, "False"),
    ("alpha_pattern", {"c_attn": None}, {}, "None"),
    ("alpha_pattern", {"": 2}, {}, "empty"),
]


@pytest.mark.parametrize(("option", "value", "others", "said"), BAD, ids=str)
def test_a_bad_value_is_named(option: str, value: Any, others: dict[str, Any], said: str):
    with pytest.raises((ConfigError, ConfigTypeError)) as caught:
        LoraConfig(**{option: value, **others})
    assert option in str(caught.value)
    assert said in str(caught.value)


# what is asked for, what the message must say
MISSES: list[tuple[dict[str, Any], str]] = [
    ({"layers_to_transform": 2}, r"layers_to_transform.*\b2\b.*\b0\b.*\b1\b"),
    ({"layers_to_transform": [1, 9]}, r"layers_to_transform.*\b9\b.*\b0\b.*\b1\b"),
    ({"layers_to_transform": 0, "layers_pattern": "hh"}, r"layers_to_transform=0.*'hh'"),
    ({"exclude_modules": ["c_fcc"]}, r"exclude_modules.*'c_fcc'.*did you mean 'c_fc'"),
    ({"exclude_modules": ["c_attn", "zzz"]}, r"exclude_modules.*'zzz'"),
    ({"exclude_modules": r".*\.c_att"}, r"exclude_modules.*c_att"),
    ({"exclude_modules": ["c_attn"]}, r"exclude_modules"),  # nothing is left
    ({"rank_pattern": {"c_atn": 4}}, r"rank_pattern.*'c_atn'.*did you mean.*'c_attn'"),
    ({"rank_pattern": {"c_attn": 4, "h.2.attn.c_attn": 2}}, r"rank_pattern.*h\.2\.attn\.c_attn"),
    ({"rank_pattern": {"c_fc": 4}}, r"rank_pattern.*'c_fc'"),  # there, and not adapted
    ({"alpha_pattern": {"c_atn": 4}}, r"alpha_pattern.*'c_atn'"),
    ({"alpha_pattern": {r"attn\.\w+_fc": 4}}, r"alpha_pattern.*attn"),
]


@pytest.mark.parametrize(("options", "said"), MISSES, ids=str)
def test_what_means_nothing_is_named_and_changes_nothing(options: dict[str, Any], said: str):
    config = LoraConfig(r=2, target_modules=["c_attn"], **options)
    base = tiny("gpt2").train()
    base.transformer.wpe.requires_grad_(False)
    before = state_of(base)
    with pytest.raises(TargetError, match=said):
        get_peft_model(base, config)
    assert state_of(base) == before
    model = adapted("gpt2")
    before = state_of(model)
    with pytest.raises(TargetError, match=said):
        model.add_adapter("b", config)
    assert state_of(model) == before
    assert list(model.peft_config) == ["default"]


OPTIONS: dict[str, Any] = {
    "target_modules": ["c_attn", "c_fc"], "layers_to_transform": [1], "layers_pattern": ["h"],
    "exclude_modules": ["h.1.mlp.c_fc"], "rank_pattern": {"c_attn": 3},
    "alpha_pattern": {"c_attn": 2.5},
}  # fmt: skip


def test_a_config_goes_through_json():
    config = LoraConfig(**OPTIONS)
    text = json.dumps(config.to_dict())
    read = json.loads(text)
    read.pop("peft_type")
    assert LoraConfig(**read) == config
    assert {key: read[key] for key in OPTIONS} == OPTIONS


def test_numpy_numbers_are_numbers():
    config = LoraConfig(
        layers_to_transform=[np.int64(1), 0],
        rank_pattern={"c_attn": np.int32(3)},
        alpha_pattern={"c_attn": np.float32(2.5)},
    )
    assert json.loads(json.dumps(config.to_dict()))["rank_pattern"] == {"c_attn": 3}
    assert config.alpha_pattern == {"c_attn": 2.5}
    assert LoraConfig(layers_to_transform=np.int64(1)).to_dict()["layers_to_transform"] in (1, [1])


def test_the_neutral_values_are_taken():
    plain = LoraConfig().to_dict()
    assert (
        LoraConfig(layers_to_transform=None, rank_pattern={}, exclude_modules=None) == LoraConfig()
    )
    for option in ("rank_pattern", "alpha_pattern"):
        assert LoraConfig(**{option: None}).to_dict()[option] in (None, {})
    assert plain["rank_pattern"] == {}


def test_the_config_is_not_changed_by_use():
    config = LoraConfig(r=2, **OPTIONS)
    before = json.dumps(config.to_dict())
    model = get_peft_model(tiny("gpt2"), config)
    get_peft_model(tiny("gpt2"), config)
    assert json.dumps(config.to_dict()) == before
    own = model.peft_config["default"]
    assert own.rank_pattern is not config.rank_pattern


def test_the_bias_follows_the_layers_that_are_chosen():
    model = get_peft_model(tiny("gpt2"), LoraConfig(r=2, bias="lora_only", layers_to_transform=1))
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    assert all(re.search(r"\.h\.1\.attn\.c_attn\.", name) for name in trained)
    assert len(trained) == 3
