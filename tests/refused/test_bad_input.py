"""Mistakes: the message names what was given, what is allowed and the fix; nothing is changed.

A config reports at construction, so no model is there to be changed. A target or a name is
reported by `get_peft_model` or `add_adapter`, which leave the model as it was, to the bit: the
modules, their weights, what is trainable, the modes and the hooks.
"""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from conftest import adapted, state_of, tiny
from torch import nn

from minipeft import LoraConfig, LoraModel, MinipeftError, PeftModel, get_peft_model
from minipeft.checks.errors import (
    AdapterNameError,
    ConfigError,
    ConfigTypeError,
    StateError,
    TargetError,
)

NAN, INF = float("nan"), float("inf")

# option, value, fragments of the message
BAD_VALUES: list[tuple[str, Any, str]] = [
    ("r", 0, "r must be a positive integer, got 0"),
    ("r", -3, "r must be a positive integer, got -3"),
    ("r", True, "r must be a positive integer, got True (bool)"),
    ("r", "8", "r must be a positive integer, got '8' (str)"),
    ("r", 8.0, "r must be a positive integer, got 8.0 (float)"),
    ("r", NAN, "r must be a positive integer, got nan"),
    ("r", None, "r must be a positive integer, got None"),
    ("r", [8], "r must be a positive integer, got [8] (list)"),
    ("r", torch.tensor(8), "r must be a positive integer, got tensor(8) (Tensor)"),
    ("lora_alpha", 0, "lora_alpha must be a number in (0, infinity), got 0"),
    ("lora_alpha", -1.0, "lora_alpha must be a number in (0, infinity), got -1.0"),
    ("lora_alpha", NAN, "lora_alpha must be a number in (0, infinity), got nan"),
    ("lora_alpha", INF, "lora_alpha must be a number in (0, infinity), got inf"),
    ("lora_alpha", "16", "lora_alpha must be a number in (0, infinity), got '16' (str)"),
    ("lora_alpha", True, "lora_alpha must be a number in (0, infinity), got True (bool)"),
    ("lora_alpha", None, "lora_alpha must be a number in (0, infinity), got None"),
    ("lora_dropout", 1, "lora_dropout must be a number in [0, 1), got 1"),
    ("lora_dropout", 1.5, "lora_dropout must be a number in [0, 1), got 1.5"),
    ("lora_dropout", -0.1, "lora_dropout must be a number in [0, 1), got -0.1"),
    ("lora_dropout", NAN, "lora_dropout must be a number in [0, 1), got nan"),
    ("lora_dropout", "0.1", "lora_dropout must be a number in [0, 1), got '0.1' (str)"),
    ("lora_dropout", False, "lora_dropout must be a number in [0, 1), got False (bool)"),
    ("use_rslora", "False", "use_rslora must be True or False, got 'False' (str)"),
    ("use_rslora", 1, "use_rslora must be True or False, got 1 (int)"),
    ("fan_in_fan_out", None, "fan_in_fan_out must be True or False, got None"),
    ("inference_mode", "yes", "inference_mode must be True or False, got 'yes' (str)"),
    (
        "init_lora_weights",
        "gausian",
        "False, 'gaussian', 'orthogonal', 'loftq', got 'gausian' (str); did you",
    ),
    (
        "init_lora_weights",
        1,
        "must be one of True, False, 'gaussian', 'orthogonal', 'loftq', got 1 (int)",
    ),
    ("init_lora_weights", "pissa", "init_lora_weights must be one of"),
    ("init_lora_weights", None, "init_lora_weights must be one of"),
    ("loftq_config", {"loftq_bits": 4}, "does nothing with init_lora_weights=True; LoftQ needs"),
    ("loftq_config", "4", 'needs init_lora_weights="loftq" as well'),  # more in test_loftq.py
    ("use_dora", "False", "use_dora must be True or False, got 'False' (str)"),
    ("task_type", "causal_lm", "task_type must be None or one of SEQ_CLS, SEQ_2_SEQ_LM, CAUSAL_LM"),
    ("task_type", "CAUSAL", "got 'CAUSAL'; did you mean 'CAUSAL_LM'?"),
    ("task_type", 3, "task_type must be None or one of"),
    ("task_type", [], "task_type must be None or one of"),
    ("base_model_name_or_path", 3, "must be a non-empty string, got 3 (int)"),
    ("base_model_name_or_path", "", "must be a non-empty string, got ''"),
    ("target_modules", [], "target_modules must not be empty; leave it out for the default"),
    ("target_modules", "", "target_modules must not be an empty string; leave it out"),
    ("target_modules", "c_(attn", "is a string, so it is read as a regular expression, and is not"),
    ("target_modules", "*attn", "for plain names give a list, such as ['q_proj', 'v_proj']"),
    ("target_modules", 3, "target_modules must be a list of module names, got 3 (int)"),
    ("target_modules", b"c_attn", "target_modules must be a list of module names, got b'c_attn'"),
    ("target_modules", {"c_attn": 1}, "target_modules must be a list of module names"),
    ("target_modules", ["c_attn", 3], "must hold module names (non-empty strings), got 3 (int)"),
    ("target_modules", {"c_attn", None}, "must hold module names (non-empty strings), got None"),
    ("target_modules", [""], "must hold module names (non-empty strings), got '' (str)"),
    ("target_modules", nn.Linear, "target_modules must be a list of module names"),
    ("bias", "lora", "bias must be one of 'none', 'all', 'lora_only', got 'lora' (str); did you"),
    ("bias", True, "bias must be one of 'none', 'all', 'lora_only', got True (bool)"),
    ("exclude_modules", "c_(attn", "exclude_modules='c_(attn' is a string, so it is read as a reg"),
    ("layers_to_transform", -1, "layers_to_transform counts layers from 0, got -1"),
    ("layers_to_transform", True, "must be a layer's number or a list of them"),
    ("layers_pattern", "h", "layers_pattern='h' says where layers_to_transform counts, and that"),
    ("rank_pattern", {"c_attn": 0}, "rank_pattern['c_attn'] must be a positive integer, got 0"),
    ("rank_pattern", {"c_(": 1}, "rank_pattern='c_(' is a string, so it is read as a regular"),
    ("alpha_pattern", {"c_attn": float("nan")}, "alpha_pattern['c_attn'] must be a number in (0"),
    ("layer_replication", [], "layer_replication must be a list of (start, end) pairs"),
    ("layer_replication", [(2, 1)], "pairs, such as [(0, 4), (2, 5)] with 0 <= start < end"),
    ("layer_replication", [(-1, 1)], "with 0 <= start < end, got (-1, 1)"),
    ("modules_to_save", "classifier", "modules_to_save must be a list of module names"),
    ("modules_to_save", [], "modules_to_save must not be empty; leave it out"),
    ("modules_to_save", [3], "modules_to_save must hold module names"),
]
# What is refused: a value that asks for something, the neutral ones, and the reason.
REFUSED: dict[str, tuple[Any, list[Any], str]] = {
    "trainable_token_indices": ([1], [None], "a LoRA on the embedding trains all tokens"),
    "megatron_config": ({"a": 1}, [None], "needs Megatron"),
    "megatron_core": ("other.core", ["megatron.core", None], "needs Megatron"),
}


def short(value: Any) -> str:
    """A test's name: the same in every process, so no set's order and no address."""
    return type(value).__name__ if isinstance(value, (type, set)) else repr(value)[:20]


@pytest.mark.parametrize(("option", "value", "said"), BAD_VALUES, ids=short)
def test_a_bad_value_is_named_with_what_is_allowed(option: str, value: Any, said: str):
    with pytest.raises((ConfigError, ConfigTypeError), match=re.escape(said)) as caught:
        LoraConfig(**{option: value})
    assert option in str(caught.value)
    right = TypeError if isinstance(caught.value, ConfigTypeError) else ValueError
    assert isinstance(caught.value, right)
    assert isinstance(caught.value, MinipeftError)


def test_every_option_has_its_bad_values():
    tried = {option for option, _, _ in BAD_VALUES} | REFUSED.keys()
    assert tried == {f.name for f in fields(LoraConfig)}


@pytest.mark.parametrize("option", REFUSED)
def test_what_is_refused_says_why_and_takes_its_neutral_value(option: str):
    value, neutral, why = REFUSED[option]
    said = (
        rf"{option}=.*not available in this version of minipeft \(.*{why}.*\); leave {option} out"
    )
    with pytest.raises(ConfigError, match=said):
        LoraConfig(**{option: value})
    for harmless in neutral:
        LoraConfig(**{option: harmless})


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("lora_alfa", "lora_alpha"),
        ("target_module", "target_modules"),
        ("rank_patern", "rank_pattern"),
        ("dropout", "lora_dropout"),
        ("use_rslore", "use_rslora"),
        ("rank", "r"),
        ("alpha", "lora_alpha"),
    ],
)
def test_a_misspelt_option_is_answered_with_the_right_one(wrong: str, right: str):
    with pytest.raises(
        ConfigTypeError, match=rf"LoraConfig has no option '{wrong}'; did you mean"
    ) as e:
        LoraConfig(**{wrong: 8})
    assert f"'{right}'" in str(e.value)
    with pytest.raises(ConfigTypeError, match=r"has no option 'xyzzy'\. Its options: task_type"):
        LoraConfig(xyzzy=1)


def test_numpy_numbers_are_numbers():
    config = LoraConfig(r=np.int32(3), lora_alpha=np.float32(6), lora_dropout=np.float64(0.5))
    assert (config.r, config.lora_alpha, config.lora_dropout) == (3, 6.0, 0.5)
    kinds = [type(getattr(config, name)) for name in ("r", "lora_alpha", "lora_dropout")]
    assert kinds == [int, float, float]  # JSON can hold these
    assert type(LoraConfig(lora_alpha=np.int64(6)).lora_alpha) is int


# --- targets and names: the model stays as it was ------------------------------------------------

BAD_TARGETS: list[tuple[Any, str]] = [
    (["c_porj"], r"target_modules=\['c_porj'\] matches no module; did you mean 'c_proj'\?"),
    (["c_attn", "c_porj"], r"target_modules=\['c_porj'\] matches no module"),
    (["zzz"], r"matches no module; the model's modules end in .*'c_attn'"),
    ("c_attn", r"a string is a regular expression .*; as a list, \['c_attn'\], it would match"),
    (r".*\.c_porj", r"matches no module: a string is a regular expression"),
    (["attn"], r"matches 'transformer.h.0.attn', a GPT2Attention; .*inside it: 'c_attn', 'c_proj'"),
    (["h"], r"matches 'transformer.h', a ModuleList; only linear layers"),
    (["ln_1"], r"matches 'transformer.h.0.ln_1', a LayerNorm; only linear layers"),
    (["c_attn", "ln_f"], r"matches 'transformer.ln_f', a LayerNorm"),
    (".*", r"matches 'transformer', a GPT2Model; only linear layers"),
    (["all-linear"], r"target_modules=\['all-linear'\] matches no module"),
]
BAD_NAMES = ["", "a.b", "a/b", "a\\b", "a b", "a\n", None, 3, "weight", "h", "c_attn", "0",
             "training", "keys", "forward", "..", ["a"]]  # fmt: skip


@pytest.mark.parametrize(("target", "said"), BAD_TARGETS, ids=short)
def test_a_bad_target_changes_nothing(target: Any, said: str):
    base = tiny("gpt2").train()
    base.lm_head.register_forward_hook(lambda *_: None)
    base.transformer.wpe.requires_grad_(False)
    before = state_of(base)
    with pytest.raises(TargetError, match=said):
        get_peft_model(base, LoraConfig(target_modules=target))
    with pytest.raises(TargetError, match=said):
        LoraModel(base, LoraConfig(target_modules=target), "default")
    assert state_of(base) == before
    model = adapted("gpt2")
    before = state_of(model)
    with pytest.raises(TargetError, match=said):
        model.add_adapter("b", LoraConfig(target_modules=target))
    assert state_of(model) == before
    assert list(model.peft_config) == ["default"]


@pytest.mark.parametrize("name", BAD_NAMES, ids=short)
def test_a_bad_name_changes_nothing(name: Any):
    base = tiny("gpt2")
    before = state_of(base)
    said = r"adapter's name must be a non-empty string|cannot name an adapter: it already names"
    for make in (get_peft_model, PeftModel, LoraModel):
        with pytest.raises(AdapterNameError, match=said):
            make(base, LoraConfig(), name)
    assert state_of(base) == before


def test_a_name_that_is_taken_says_which_there_are():
    model = adapted("gpt2")
    before = state_of(model)
    with pytest.raises(
        AdapterNameError, match=r"there is an adapter 'default' already; .*'default'"
    ):
        model.add_adapter("default", LoraConfig())
    assert state_of(model) == before


@pytest.mark.parametrize("config", [{"r": 8}, None, LoraConfig, "lora"], ids=str)
def test_what_is_no_config_is_refused(config: Any):
    base = tiny("gpt2")
    before = state_of(base)
    with pytest.raises(
        ConfigTypeError, match=r"must be a minipeft config such as LoraConfig\(r=8\)"
    ):
        get_peft_model(base, config)
    assert state_of(base) == before


def test_what_is_no_plain_model_is_refused():
    with pytest.raises(ConfigTypeError, match=r"must be the model \(an nn.Module\), got str"):
        get_peft_model("gpt2", LoraConfig())
    model = adapted("gpt2")
    before = state_of(model)
    for wrapped in (model, model.get_base_model()):
        with pytest.raises(StateError, match=r"add_adapter\(name, config\).*unload\(\)"):
            get_peft_model(wrapped, LoraConfig())
    assert state_of(model) == before


def test_fan_in_fan_out_is_the_layers_business():
    with pytest.raises(
        TargetError, match=r"nn.Linear stores \(out, in\); leave fan_in_fan_out out"
    ):
        get_peft_model(tiny("llama"), LoraConfig(fan_in_fan_out=True))
    get_peft_model(tiny("gpt2"), LoraConfig(fan_in_fan_out=True))


@pytest.mark.parametrize(
    ("option", "start", "spoil"),
    [
        ("target_modules", ["c_attn"], lambda names: names.append(0)),
        ("modules_to_save", ["ln_f"], lambda names: names.append("")),
        ("layers_to_transform", [0], lambda layers: layers.append(-1)),
        ("rank_pattern", {"c_attn": 2}, lambda ranks: ranks.update(c_attn=0)),
        ("layer_replication", [[0, 2]], lambda pairs: pairs.append([1, 1])),
    ],
)
def test_what_was_spoilt_in_place_is_met_when_it_is_used(option: str, start: Any, spoil: Any):
    config, base = LoraConfig(**{option: start}), tiny("gpt2")
    spoil(getattr(config, option))
    before = state_of(base)
    with pytest.raises((ConfigError, ConfigTypeError), match=option):
        get_peft_model(base, config)
    assert state_of(base) == before
