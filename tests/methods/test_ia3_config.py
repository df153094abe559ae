"""IA³: counts on real models, and what its config refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import adapted, output, state_of, tiny

from minipeft import IA3Config, get_peft_model
from minipeft.checks.errors import ConfigError, ConfigTypeError, TargetError
from minipeft.lab.counting import count, meta_model

# --- counts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "trained"),
    [
        ("gpt2", {}, 12 * (2304 + 3072)),
        ("gpt2", {"fused_qkv": "kv"}, 12 * (1536 + 3072)),
        ("gpt2-medium", {}, 172_032),
        ("bloom-560m", {}, 172_032),
        ("bloom-560m", {"fused_qkv": "kv"}, 24 * (2048 + 4096)),
        ("bloom-1b4-zh", {}, 344_064),
        ("llama-2-7b", {}, 614_400),
        ("llama-2-13b", {}, 962_560),
        ("llama-2-70b", {}, 2_457_600),
        ("bert-base", {"task_type": "SEQ_CLS"}, 66_050),
        ("t5-base", {}, 129_024),
    ],
    ids=str,
)
def test_real_models_by_formula_and_by_building(name: str, options: dict[str, Any], trained: int):
    config = IA3Config(**options)
    counted = count(name, config)
    assert counted.trainable == trained
    built = get_peft_model(meta_model(name), config)
    assert built.get_nb_trainable_parameters() == (trained, counted.all)
    assert all(parameter.is_meta for parameter in built.parameters())


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"feedforward_modules": 3}, "feedforward_modules must be a list of module names, got 3"),
        ({"feedforward_modules": ["", "a"]}, r"must hold module names \(non-empty"),
        ({"feedforward_modules": "("}, "is not one"),
        ({"feedforward_modules": ""}, "must not be an empty string"),
        ({"init_ia3_weights": 1}, "init_ia3_weights must be True or False"),
        ({"fan_in_fan_out": "yes"}, "fan_in_fan_out must be True or False"),
        ({"fused_qkv": "k"}, "fused_qkv must be one of 'qkv', 'kv'"),
        ({"fused_qkv": None}, "fused_qkv must be one of 'qkv', 'kv'"),
        ({"exclude_modules": [3]}, "exclude_modules must hold module names"),
        ({"feedforward_module": ["a"]}, "did you mean 'feedforward_modules'"),
    ],
    ids=str,
)
def test_options_out_of_range_or_mistyped(options: dict[str, Any], said: str):
    with pytest.raises((ConfigError, ConfigTypeError), match=said):
        IA3Config(**options)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("mlp", {}, "no default for MLP"),
        ("mlp", {"target_modules": ["first"], "fan_in_fan_out": True}, "fan_in_fan_out=True says"),
        ("mlp", {"target_modules": ["first"], "fused_qkv": "kv"}, "chooses none in MLP"),
        ("llama", {"fused_qkv": "kv"}, "chooses none in LlamaForCausalLM"),
        ("gpt2", {"target_modules": ["mlp.c_proj"], "fused_qkv": "kv"}, "chooses none"),
        ("gpt2", {"feedforward_modules": ["c_attn"], "fused_qkv": "kv"}, "chooses none"),
        ("gpt2", {"feedforward_modules": ["c_porj"]}, "did you mean 'c_proj'"),
        ("gpt2", {"target_modules": ["c_attn"], "feedforward_modules": ["c_porj"]}, "'c_proj'"),
        (
            "gpt2",
            {"target_modules": r".*c_attn", "feedforward_modules": ["c_fc"]},
            r"feedforward_modules=\['c_fc'\] matches none of the layers that .* chooses",
        ),
        ("gpt2", {"feedforward_modules": r".*c_fc"}, "matches none of the layers"),
        (
            "gpt2",
            {"target_modules": "all-linear", "feedforward_modules": ["c_fc", "c_porj"]},
            r"\['c_porj'\] matches none",
        ),
    ],
    ids=str,
)
def test_what_would_do_nothing_is_refused(name: str, options: dict[str, Any], said: str):
    model = tiny(name)
    before = state_of(model)
    with pytest.raises(TargetError, match=said):
        get_peft_model(model, IA3Config(**options))
    assert state_of(model) == before


def test_it_starts_as_the_base_unless_told_otherwise():
    for name in ("gpt2", "llama"):
        assert torch.equal(
            output(get_peft_model(tiny(name), IA3Config()), name), output(tiny(name), name)
        )
    random = get_peft_model(tiny("gpt2"), IA3Config(init_ia3_weights=False))
    assert not torch.equal(output(random, "gpt2"), output(tiny("gpt2"), "gpt2"))


def test_it_is_added_beside_a_lora_and_does_not_disturb_it():
    model = adapted("gpt2")
    alone = output(model, "gpt2")
    model.add_adapter("scale", IA3Config())
    assert torch.equal(output(model, "gpt2"), alone)
    model.set_adapter(["default", "scale"])
    assert torch.equal(output(model, "gpt2"), alone)  # l = 1
    model.delete_adapter("scale")
    assert not any("ia3" in name for name, _ in model.named_parameters())
