"""Adapters: what the config and the class refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import adapted, output, state_of, tiny

from minipeft import Adapter, AdapterConfig, get_peft_model
from minipeft.checks.errors import ConfigError, ConfigTypeError, TargetError

# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"adapter_dim": 0}, "adapter_dim must be a positive integer, got 0"),
        ({"adapter_dim": "64"}, r"adapter_dim must be a positive integer, got '64' \(str\)"),
        ({"adapter_dropout": 1}, r"adapter_dropout must be a number in \[0, 1\), got 1"),
        ({"adapter_dropout": True}, "adapter_dropout must be a number"),
        ({"hidden_act": "gleu"}, r"hidden_act must be one of 'gelu', .*did you mean 'gelu"),
        ({"hidden_act": None}, "hidden_act must be one of"),
        ({"init": "kaiming"}, "init must be one of 'zero', 'xavier'"),
        ({"adapter_size": 4}, "did you mean 'adapter_dim'"),
        ({"target_modules": []}, "target_modules must not be empty"),
        ({"target_modules": ""}, "target_modules must not be an empty string"),
    ],
    ids=str,
)
def test_options_out_of_range_or_mistyped(options: dict[str, Any], said: str):
    with pytest.raises((ConfigError, ConfigTypeError), match=said):
        AdapterConfig(**options)


@pytest.mark.parametrize(
    ("name", "target", "said"),
    [
        (
            "mlp",
            None,
            r"known for bart, .*, not for MLP, a plain nn.Module; name the layers .*'sec",
        ),
        ("mlp", ["first", "mlp"], r"target_modules=\['mlp'\] means the layers that end"),
        ("gpt2", ["attention", "c_porj"], r"\['c_porj'\] matches no module; did you mean 'c_proj"),
        ("gpt2", "pfeifer", "matches no module"),
        ("bert", ["output"], "only linear layers"),
    ],
    ids=str,
)
def test_targets_that_are_not_there(name: str, target: Any, said: str):
    model = tiny(name)
    before = state_of(model)
    with pytest.raises(TargetError, match=said):
        get_peft_model(model, AdapterConfig(target_modules=target))
    assert state_of(model) == before


def test_a_family_that_is_not_known_and_a_sublayer_that_is_not_there():
    model = tiny("gpt2")
    model.config.model_type = "brand_new"
    with pytest.raises(TargetError, match="not for model type 'brand_new'"):
        get_peft_model(model, AdapterConfig())
    model.config.model_type = "llama"
    with pytest.raises(
        TargetError, match=r"\['attention', 'mlp'\] matches no layer of this GPT2LM"
    ):
        get_peft_model(model, AdapterConfig())


@pytest.mark.parametrize("options", [{"hidden_act": "gleu"}, {"init": "ones"}], ids=str)
def test_the_class_alone_refuses_too(options: dict[str, Any]):
    with pytest.raises(ConfigError, match="must be one of"):
        Adapter(4, 2, **options)


def test_it_does_not_disturb_an_adapter_that_is_there():
    model = adapted("gpt2")
    before = output(model, "gpt2")
    model.add_adapter("bottleneck", AdapterConfig(adapter_dim=2))
    assert torch.equal(output(model, "gpt2"), before)
    model.set_adapter(["default", "bottleneck"])
    assert torch.equal(output(model, "gpt2"), before)  # the identity at the start
