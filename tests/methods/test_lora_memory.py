"""LoRA without dropout keeps one (tokens x r) more per layer for the backward pass, and no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import VOCAB, tiny
from live_bytes import LiveBytes
from saved_bytes import extra_saved
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from minipeft import LoraConfig, get_peft_model
from minipeft.methods.lora import LoRALayer
from minipeft.tuner.slots import Slot

BATCH, LENGTH, R = 3, 5, 2
UNIT = 4 * BATCH * LENGTH * R  # bytes of one (tokens x r) in float32


def one_layer(shape: tuple[int, ...], bias: bool = True, kind: str = "Linear") -> float:
    """How many (tokens x r) a LoRA on one layer of 12 x 20 keeps, from an x of this shape."""
    layer = nn.Linear(12, 20, bias) if kind == "Linear" else Conv1D(20, 12)
    x = torch.randn(*shape, 12, requires_grad=True)

    def call(model: Any) -> Tensor:
        out: Tensor = model[0](x)
        return out

    def base() -> nn.Module:
        return nn.Sequential(layer).requires_grad_(False)

    adapted = get_peft_model(base(), LoraConfig(r=R, target_modules=["0"])).get_base_model()
    return extra_saved(base(), adapted, ["0"], call) / UNIT


def whole_model(name: str, train: bool = False, **options: Any) -> float:
    """How many (tokens x r) the LoRAs on all linear layers of a tiny model keep, per layer."""
    frozen, base = tiny(name).requires_grad_(False), tiny(name)
    for module in [*frozen.modules(), *base.modules()]:
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # the masks of the model's own dropout are not in question
    config = LoraConfig(r=R, target_modules="all-linear", **options)
    adapted = get_peft_model(base, config).get_base_model()
    layers = [n for n, m in adapted.named_modules() if isinstance(m, Slot)]
    ids = torch.randint(2, VOCAB, (BATCH, LENGTH))
    for model in (frozen, adapted):
        model.enable_input_require_grads()
        model.train(train)

    def call(model: Any) -> Any:
        return model(input_ids=ids, labels=ids, use_cache=False)

    assert len(layers) == {"llama": 14, "gpt2": 8}[name]
    return extra_saved(frozen, adapted, layers, call) / UNIT / len(layers)


@pytest.mark.parametrize("kind", ["Linear", "Conv1D"])
@pytest.mark.parametrize("shape", [(BATCH * LENGTH,), (BATCH, LENGTH), (1, BATCH, LENGTH)], ids=str)
def test_one_layer_keeps_at_most_one_more(shape: tuple[int, ...], kind: str):
    assert one_layer(shape, kind=kind) <= 1


def test_a_layer_without_bias_keeps_at_most_one_more():
    assert one_layer((BATCH, LENGTH), bias=False) <= 1


def alive_after_forward() -> list[int]:
    """Bytes alive after a forward pass of one layer, frozen and with a LoRA."""
    x, alive = torch.randn(BATCH, LENGTH, 12, requires_grad=True), []
    layer = nn.Linear(12, 20).requires_grad_(False)
    adapted = get_peft_model(nn.Sequential(layer), LoraConfig(r=R, target_modules=["0"]))
    for model in (layer, adapted.get_base_model()):
        with LiveBytes() as live:
            out = model(x)
        alive.append(live.now)
        del out
    return alive


def test_nor_is_more_alive_after_the_forward_pass(monkeypatch: pytest.MonkeyPatch):
    frozen, adapted = alive_after_forward()
    assert 0 < frozen <= adapted <= frozen + UNIT
    forward = LoRALayer.forward

    def stash(self: LoRALayer, x: Tensor, base_output: Tensor) -> Tensor:
        self.kept = (out := forward(self, x, base_output)).clone()  # no hook sees this one
        return out

    monkeypatch.setattr(LoRALayer, "forward", stash)
    frozen, adapted = alive_after_forward()
    assert adapted > frozen + UNIT


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_model_keeps_at_most_one_more_per_layer(name: str, train: bool):
    assert whole_model(name, train) <= 1


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_the_scale_of_rslora_keeps_no_more(name: str):
    assert whole_model(name, use_rslora=True, lora_alpha=3) <= 1


def whole_update(self: LoRALayer, x: Tensor, base_output: Tensor) -> Tensor:
    """Scaled by a tensor that is trained, so that the update (tokens x out) is kept."""
    update = F.linear(F.linear(x, self.lora_A), self.lora_B)
    return base_output + update * (self.scaling * self.lora_A.sum().exp())


def scaled_input(self: LoRALayer, x: Tensor, base_output: Tensor) -> Tensor:
    """Scales x first, so that a second (tokens x in) is kept."""
    return base_output + F.linear(F.linear(x * self.scaling, self.lora_A), self.lora_B)


def kept_output(self: LoRALayer, x: Tensor, base_output: Tensor) -> Tensor:
    """Multiplies what comes out, as DoRA does, so that the sum (tokens x out) is kept."""
    h = base_output + self.scaling * F.linear(F.linear(x, self.lora_A), self.lora_B)
    return h * (1 + 0 * self.lora_B.sum(1))


def twice(self: LoRALayer, x: Tensor, base_output: Tensor) -> Tensor:
    """Keeps A x a second time, as the square root of its square: two (tokens x r)."""
    ax = F.linear(x, self.lora_A)
    return base_output + self.scaling * F.linear(ax.abs() * ax.sign(), self.lora_B)


@pytest.mark.parametrize("broken", [whole_update, scaled_input, kept_output, twice])
def test_the_measure_sees_what_a_wasteful_lora_keeps(
    broken: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(LoRALayer, "forward", broken)
    measured = [one_layer((BATCH, LENGTH)), one_layer((BATCH, LENGTH), kind="Conv1D")]
    measured += [whole_model("llama"), whole_model("gpt2")]
    assert min(measured) > 1
    if broken is whole_update:  # A x and the update: r and 20 numbers per token, and one scale
        assert measured[0] == pytest.approx(1 + 20 / R, abs=0.1)


def test_the_measure_counts_what_is_kept(monkeypatch: pytest.MonkeyPatch):
    def plain(self: LoRALayer, x: Tensor, base_output: Tensor) -> Tensor:
        return base_output + F.linear(F.linear(x, self.lora_A) * self.scaling, self.lora_B)

    def none(self: LoRALayer, x: Tensor, base_output: Tensor) -> Tensor:
        return base_output

    for forward, count in ((plain, 1), (none, 0)):
        monkeypatch.setattr(LoRALayer, "forward", forward)
        assert one_layer((BATCH, LENGTH)) == count
        assert [whole_model(name) for name in ("llama", "gpt2")] == [count, count]


def test_dropout_keeps_more():
    assert whole_model("llama", train=True, lora_dropout=0.5) > 1
