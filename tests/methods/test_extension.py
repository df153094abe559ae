"""A new method from outside the package: one config, one module, one call of `register`.

`Scale` (a learned factor per output, as in IA³) is written here as a reader would write it. The
rest of this file shows what it gets without another line: training, switching, several adapters,
merging, saving, loading, counting, and the refusals.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from conftest import FAMILIES, inputs, output, state_of, tiny
from torch import Tensor, nn

from minipeft import LoraConfig, Method, PeftModel, get_peft_model, register
from minipeft.checks.errors import CheckpointError, ConfigTypeError, MinipeftError, StateError
from minipeft.lab.counting import count
from minipeft.methods.config import LayerConfig
from minipeft.methods.method import REGISTRY


@dataclass
class ScaleConfig(LayerConfig):
    peft_type: ClassVar[str] = "SCALE"
    start: float = 1.0


class Scale(Method[ScaleConfig]):
    def __init__(self, out_features: int, start: float, **kwargs):
        super().__init__()
        self.scale = nn.Parameter(torch.full((out_features,), start, **kwargs))

    @classmethod
    def for_layer(cls, base, config):
        return cls(base.out_features, config.start, dtype=base.adapter_dtype, device=base.device)

    @classmethod
    def count(cls, base, config):
        return base.out_features

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        return (y * self.scale).to(y.dtype)

    def fold(self, weight, bias):
        return self.scale[:, None] * weight, None if bias is None else self.scale * bias


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    register(ScaleConfig, Scale)
    yield
    del REGISTRY["SCALE"]


def scaled(name: str = "gpt2") -> PeftModel:
    model = get_peft_model(tiny(name), ScaleConfig(target_modules="all-linear"))
    for n, parameter in model.named_parameters():
        if n.endswith(".scale"):
            parameter.data += 0.3 * torch.randn_like(parameter)
    return model


def test_it_is_written_in_under_40_lines():
    written = inspect.getsource(ScaleConfig) + inspect.getsource(Scale)
    assert len(written.splitlines()) + 1 < 40  # one line registers it


@pytest.mark.parametrize("name", FAMILIES)
def test_it_changes_what_it_says(name: str):
    base = tiny(name)
    before = output(base, name)
    model = get_peft_model(base, ScaleConfig(target_modules="all-linear"))
    assert torch.equal(output(model, name), before)  # the start is 1
    assert not torch.allclose(output(scaled(name), name), before, atol=1e-3)


def test_it_trains_and_only_it():
    model = scaled()
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert all(n.endswith(".adapters.default.scale") for n in trained)
    optimizer = torch.optim.AdamW(trained.values(), lr=0.05)
    losses = []
    for _ in range(5):
        loss = model(**inputs("gpt2")).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1


def test_it_switches_and_stands_beside_another_method():
    model = scaled()
    alone = output(model, "gpt2")
    model.add_adapter("lora", LoraConfig(r=2, init_lora_weights=False))
    assert torch.equal(output(model, "gpt2"), alone)
    model.set_adapter("lora")
    other = output(model, "gpt2")
    model.set_adapter(["default", "lora"])
    both = output(model, "gpt2")
    assert not torch.allclose(both, alone, atol=1e-3)
    assert not torch.allclose(both, other, atol=1e-3)
    model.merge_adapter()  # folded in the order in which they act: scale first, then the update
    assert torch.allclose(output(model, "gpt2"), both, atol=1e-4)
    model.unmerge_adapter()
    assert torch.equal(output(model, "gpt2"), both)
    with model.disable_adapter():
        assert torch.equal(output(model, "gpt2"), output(tiny("gpt2"), "gpt2"))


@pytest.mark.parametrize("name", ["gpt2", "llama"])  # with biases and without, Conv1D and Linear
def test_it_merges_weight_and_bias_and_back(name: str):
    model = scaled(name)
    before, state = output(model, name), state_of(model)
    model.merge_adapter()
    # float32, logits up to 5: measured difference 3e-6
    assert torch.allclose(output(model, name), before, atol=2e-5)
    model.unmerge_adapter()
    assert state_of(model) == state
    plain = model.merge_and_unload()
    assert torch.allclose(output(plain, name), before, atol=2e-5)


def test_a_bias_that_is_not_finite_is_refused():
    model = get_peft_model(tiny("mlp"), ScaleConfig(target_modules=["first", "second"]))
    model.second.base_layer.bias.data[0] = 3e38
    model.second.adapters["default"].scale.data.fill_(100.0)  # the bias overflows, the weight not
    before = state_of(model)
    with pytest.raises(StateError, match="not finite"):
        model.merge_adapter()
    assert state_of(model) == before


def test_it_is_saved_and_loaded_strictly(tmp_path):
    model = scaled()
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(tiny("gpt2"), tmp_path)
    assert isinstance(again.active_peft_config, ScaleConfig)
    assert torch.equal(output(again, "gpt2"), output(model, "gpt2"))
    with pytest.raises(CheckpointError, match="tensors"):
        PeftModel.from_pretrained(tiny("llama"), tmp_path)


def test_it_is_counted_by_its_formula():
    for name in FAMILIES:
        config = ScaleConfig(target_modules="all-linear")
        built = get_peft_model(tiny(name), config).get_nb_trainable_parameters()
        counted = count(tiny(name), config)
        assert built == (counted.trainable, counted.all)
    assert count("gpt2", ScaleConfig(target_modules=["c_attn"])).trainable == 12 * 2304


def test_its_mistakes_are_answered_too():
    with pytest.raises(
        ConfigTypeError, match="ScaleConfig has no option 'strat'; did you mean 'start'"
    ):
        ScaleConfig(strat=2.0)
    del REGISTRY["SCALE"]
    with pytest.raises(MinipeftError, match=r"no method is registered for ScaleConfig.*register\("):
        get_peft_model(tiny("gpt2"), ScaleConfig(target_modules=["c_attn"]))
    register(ScaleConfig, Scale)


def test_a_method_without_a_fold_says_that_it_cannot_be_merged():
    class Unfoldable(Scale):
        fold = Method.fold

    register(ScaleConfig, Unfoldable)
    model = scaled("mlp")
    before = state_of(model)
    with pytest.raises(StateError, match="Unfoldable cannot be merged: it does not fold"):
        model.merge_adapter()
    assert state_of(model) == before
