"""What BitFit refuses: models without biases, and biases that nothing can stand beside."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import inputs, state_of, tiny
from test_bitfit import BARE, deltas
from torch import Tensor, nn

from minipeft import BitFitConfig, LoraConfig, Method, get_peft_model
from minipeft.checks.errors import ConfigError, ConfigTypeError, StateError, TargetError
from minipeft.tuner.slots import Wrapper


@pytest.mark.parametrize("name", sorted(BARE))
def test_a_model_without_biases_is_refused_with_other_methods(name: str):
    model = tiny(name)
    before = state_of(model)
    for options in ({}, {"biases": "small"}, {"target_modules": "all-linear"}):
        with pytest.raises(TargetError, match=r"has no biases.*LoraConfig\), IA³ \(IA3Config\)"):
            get_peft_model(model, BitFitConfig(**options))
    assert state_of(model) == before


def test_the_small_variant_of_an_unknown_model_is_refused():
    with pytest.raises(TargetError, match=r"not known for MLP, a plain nn.Module.*gpt2"):
        get_peft_model(tiny("mlp"), BitFitConfig(biases="small"))


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (["c_atn"], r"\['c_atn'\] matches no layer with a bias; did you mean 'c_attn'"),
        (["wte"], r"\['wte'\] matches no layer with a bias"),
        (["c_attn", "wte"], r"\['wte'\] matches no layer with a bias.*'ln_1', 'c_attn'"),
        (r".*\.wte", r"'.*wte' matches no layer with a bias"),
    ],
)
def test_a_target_without_a_bias_is_refused(target: Any, said: str):
    model = tiny("gpt2")
    before = state_of(model)
    with pytest.raises(TargetError, match=said):
        get_peft_model(model, BitFitConfig(target_modules=target))
    assert state_of(model) == before


def test_wrong_options_are_answered():
    with pytest.raises(ConfigError, match="biases must be one of 'all', 'small', got 'smal'"):
        BitFitConfig(biases="smal")
    with pytest.raises(ConfigTypeError, match="no option 'bias'; did you mean 'biases'"):
        BitFitConfig(bias="all")


# --- biases that nobody can stand beside ---------------------------------------------------------


class Odd(nn.Module):
    """A module with a bias of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.inner = nn.Module()
        self.inner.bias = nn.Parameter(torch.zeros(4))


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (nn.MultiheadAttention(4, 2), "'odd.in_proj_bias' cannot be trained.*where Multihead"),
        (nn.LSTM(4, 4), "'odd.bias_ih_l0' cannot be trained beside its layer"),
        (Odd(), "'odd.inner.bias' cannot be trained.*not known where Module adds it.*target_mod"),
        (nn.InstanceNorm1d(4, affine=True), "'odd.bias' cannot.*not known where InstanceNorm1d"),
    ],
)
def test_a_bias_is_never_left_out_silently(layer: nn.Module, said: str):
    base = nn.ModuleDict({"odd": layer, "good": nn.Linear(4, 4)})
    before = state_of(base)
    with pytest.raises(TargetError, match=said):
        get_peft_model(base, BitFitConfig())
    assert state_of(base) == before
    model = get_peft_model(base, BitFitConfig(target_modules=["good"]))  # the fix it names
    assert list(deltas(model)) == ["good.bias"]


def test_the_output_projection_of_multihead_attention_is_refused_by_name():
    base = nn.ModuleDict({"odd": nn.MultiheadAttention(4, 2)})
    with pytest.raises(TargetError, match=r"'odd.out_proj.bias'.*reads it without calling"):
        get_peft_model(base, BitFitConfig(target_modules=["out_proj"]))


def test_a_shared_bias_and_a_bias_of_the_model_itself_are_refused():
    base = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
    base["b"].bias = base["a"].bias
    with pytest.raises(TargetError, match="'a', 'b' share one bias"):
        get_peft_model(base, BitFitConfig())
    get_peft_model(base, BitFitConfig(target_modules=["a"]))
    with pytest.raises(TargetError, match="the bias 'bias' cannot be trained"):
        get_peft_model(nn.Linear(4, 4), BitFitConfig())


def test_a_bias_in_a_head_of_another_adapter_is_refused():
    model = get_peft_model(tiny("bert"), LoraConfig(r=2, task_type="SEQ_CLS"))
    before = state_of(model)
    with pytest.raises(TargetError, match=r"'classifier.bias' cannot.*another adapter trains"):
        model.add_adapter("b", BitFitConfig())
    assert state_of(model) == before
    model.add_adapter("b", BitFitConfig(task_type="SEQ_CLS"))
    model.set_adapter("b")
    assert model(**inputs("bert")).loss.requires_grad


class Renamer(Method[Any]):
    """A fold that adds a bias, or drops one."""

    def fold(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return weight, weight[:, 0] if bias is None else None


@pytest.mark.parametrize(("bias", "verb"), [(False, "add"), (True, "drop")])
def test_a_merge_neither_invents_nor_drops_a_bias(bias: bool, verb: str):
    wrapper = Wrapper(nn.Linear(4, 4, bias=bias))
    wrapper.adapters["a"] = Renamer()
    before = state_of(wrapper)
    with pytest.raises(StateError, match=f"would {verb} a bias, and a Linear cannot"):
        wrapper.merge(("a",))
    assert state_of(wrapper) == before
