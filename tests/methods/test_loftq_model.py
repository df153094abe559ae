"""LoftQ in a model: nearer than quantization alone; its files, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from conftest import output, state_of, tiny
from torch import nn

from minipeft import LoftQConfig, LoraConfig, QuantizedLinear, get_peft_model, quantize_model
from minipeft.checks.errors import ConfigError, ConfigTypeError, StateError, TargetError
from minipeft.lab.counting import count
from minipeft.layers.quant import dequantize, quantize
from minipeft.tuner.slots import Wrapper

ALL: dict[str, Any] = {"target_modules": "all-linear", "init_lora_weights": "loftq"}


def made(name: str, *, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    """A tiny model with LoftQ's start."""
    task = {"task_type": "SEQ_CLS"} if name == "bert" else {}
    return get_peft_model(tiny(name, dtype), LoraConfig(**{"r": 4, **ALL, **task, **options}))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lora_alpha": 32},
        {"use_rslora": True},
        {"use_dora": True},
        {"loftq_config": {"loftq_iter": 5}},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["gpt2", "llama", "bloom", "bert"])
def test_the_layers_stand_for_w_and_the_answer_is_nearer(name: str, options: dict[str, Any]):
    plain, model = tiny(name), made(name, **options)
    report = quantize_model(tiny(name), double_quant=False)
    wrapped = {n: m for n, m in model.get_base_model().named_modules() if isinstance(m, Wrapper)}
    assert set(report.layers) == set(wrapped)
    for path, wrapper in wrapped.items():
        old: Any = plain.get_submodule(path)
        w = old.weight if isinstance(old, nn.Linear) else old.weight.T
        layer, lora = wrapper.base_layer, wrapper.adapters["default"]
        assert type(layer) is QuantizedLinear
        assert layer.source_cls is type(old)
        assert layer.quant_type == "nf4"
        alone = (w - dequantize(quantize(w))).norm()
        assert (w - layer.weight - lora.delta_weight()).norm() < 0.9 * alone
        assert old.bias is None or torch.equal(layer.bias, old.bias)
    exact, rounded = output(plain, name), tiny(name)
    quantize_model(rounded, double_quant=False)
    far = (output(rounded, name) - exact).norm()
    assert (output(model, name) - exact).norm() < 0.9 * far
    with model.disable_adapter():  # Q alone; one iteration quantizes W itself
        same = torch.allclose(output(model, name), output(rounded, name), atol=1e-4)
    assert same is ("loftq_config" not in options)


@pytest.mark.parametrize("n", [8, 4, 2])
def test_bits_and_counts(n: int):
    config = LoraConfig(r=3, loftq_config=LoftQConfig(n, 2), **ALL)
    assert config.loftq_config == {"loftq_bits": n, "loftq_iter": 2}
    model = get_peft_model(tiny("llama"), config)
    assert model.get_nb_trainable_parameters() == (
        count(tiny("llama"), config).trainable,
        count(tiny("llama"), config).all,
    )
    layers = [m for m in model.modules() if isinstance(m, QuantizedLinear)]
    assert {layer.quant_type for layer in layers} == {f"nf{n}"}
    assert len(layers) == 14


def test_on_the_meta_device_there_are_shapes():
    empty = get_peft_model(tiny("llama").to("meta"), LoraConfig(r=4, **ALL))
    assert all(p.is_meta for p in empty.parameters())
    assert empty.get_nb_trainable_parameters() == made("llama").get_nb_trainable_parameters()
    shapes = {n: t.shape for n, t in made("llama").state_dict().items()}
    assert {n: t.shape for n, t in empty.state_dict().items()} == shapes


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        (
            {"bits": 4},
            ConfigTypeError,
            "loftq_config has 'bits'; known: ['loftq_bits', 'loftq_iter']",
        ),
        ({"loftq_bits": 3}, ConfigError, "loftq_bits must be 4, 8 or 2, got 3"),
        ({"loftq_bits": True}, ConfigError, "loftq_bits must be 4, 8 or 2, got True"),
        ({"loftq_bits": 4.0}, ConfigError, "loftq_bits must be 4, 8 or 2, got 4.0"),
        ({"loftq_bits": [4]}, ConfigError, "loftq_bits must be 4, 8 or 2, got [4]"),
        ({"loftq_iter": 0}, ConfigError, "loftq_iter must be a positive integer, got 0"),
        ({"loftq_iter": 1.5}, ConfigTypeError, "loftq_iter must be a positive integer, got 1.5"),
        (3, ConfigTypeError, "loftq_config must be a LoftQConfig, got int"),
    ],
    ids=str,
)
def test_wrong_options(options: Any, error: type[Exception], said: str):
    with pytest.raises(error, match=re.escape(said)):
        LoraConfig(init_lora_weights="loftq", loftq_config=options)
    with pytest.raises(ConfigError, match="does nothing with init_lora_weights=True; LoftQ n"):
        LoraConfig(loftq_config=options)
    with pytest.raises(ConfigTypeError, match="must be a LoftQConfig, got list"):
        LoraConfig(loftq_config=[])
    with pytest.raises(ConfigError, match="does nothing with init_lora_weights='gaussian'"):
        LoraConfig(loftq_config=LoftQConfig(), init_lora_weights="gaussian")


def test_numpys_integers_are_integers():
    given = {"loftq_bits": np.int64(2), "loftq_iter": np.int32(3)}
    config = LoraConfig(init_lora_weights="loftq", loftq_config=given).loftq_config
    assert {k: type(v) for k, v in config.items()} == {"loftq_bits": int, "loftq_iter": int}
    assert LoraConfig(init_lora_weights="loftq").loftq_config == {"loftq_bits": 4, "loftq_iter": 1}


def test_models_that_cannot_be_started_so_are_not_changed():
    packed, broken = tiny("gpt2"), tiny("gpt2")
    quantize_model(packed, skip_modules=["mlp"])
    broken.transformer.h[1].mlp.c_fc.weight.data[2, 5] = float("nan")
    beside = get_peft_model(tiny("gpt2"), LoraConfig(r=2, target_modules=["c_attn"]))
    for model, r, error, said in (
        (
            packed,
            4,
            TargetError,
            r"h\.0\.attn\.c_attn is a nf4 QuantizedLinear; give the model before",
        ),
        (tiny("gpt2"), 17, TargetError, r"c_attn \(48, 16\) has 16, got r=17"),
        (broken, 4, ConfigError, r"h\.1\.mlp\.c_fc\.weight holds nan at position \(2, 5\)"),
        (
            beside,
            4,
            StateError,
            r"the frozen weight of '.*c_attn', on which 'default' stand",
        ),
        (made("gpt2"), 4, TargetError, r"c_attn is a nf4 QuantizedLinear"),
    ):
        before, config = state_of(model), LoraConfig(r=r, **ALL)
        add = getattr(model, "add_adapter", None)
        wrapped = hasattr(model, "peft_config")
        with pytest.raises(error, match=said):
            add("b", config) if wrapped else get_peft_model(model, config)
        assert state_of(model) == before
