"""LoRA and DoRA on convolutions in whole models: a small residual network, ViT, ConvNeXt."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import transformers
from conftest import inputs, state_of
from peft_pairs import adapters_of, answer, base_of, compare, ours_on, pair
from torch import Tensor, nn

from minipeft import LoraConfig, get_peft_model


class CNN(nn.Module):
    """A stem and one residual block, as in a ResNet, with a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.conv1 = nn.Conv2d(6, 8, (3, 2), stride=2, padding=(1, 0))
        self.conv2 = nn.Conv2d(8, 8, 3, padding="same")
        self.shortcut = nn.Conv2d(6, 8, 1, stride=2)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        y = self.conv2(torch.relu(self.conv1(x)))
        return self.fc((y + self.shortcut(x)).mean((2, 3)))


class Wave(nn.Module):
    """Two convolutions over time."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(2, 6, 3, stride=2, padding=1)
        self.second = nn.Conv1d(6, 4, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))


class Odd(nn.Module):
    """What peft's convolutions cannot do: dilation, other paddings, groups."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(4, 6, 3, dilation=2, padding=2)
        self.circle = nn.Conv2d(6, 6, 3, padding=1, padding_mode="circular", groups=3)
        self.mirror = nn.Conv2d(6, 4, 3, padding="same", padding_mode="reflect", bias=False)
        self.depth = nn.Conv2d(4, 4, 2, groups=4, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.depth(torch.tanh(self.mirror(self.circle(torch.tanh(self.wide(x))))))


def made(kind: Any) -> Any:
    """A maker of networks that are the same every time."""

    def make() -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model: nn.Module = kind()
            if isinstance(model, CNN):  # other statistics than those of a fresh norm
                model.norm.running_mean.normal_()
                model.norm.running_var.uniform_(0.5, 2)
        return model.eval()

    return make


def convnext() -> Any:
    """A tiny ConvNeXt, whose convolutions have one group for each channel."""
    config = transformers.ConvNextConfig(
        hidden_sizes=[8, 12], depths=[1, 1], num_stages=2, patch_size=2, image_size=8, num_labels=3
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.ConvNextForImageClassification(config)
        for parameter in model.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
    return model.eval()


def image() -> dict[str, Tensor]:
    return {"x": torch.randn(2, 3, 7, 8, generator=torch.Generator().manual_seed(1))}


def sound() -> dict[str, Tensor]:
    return {"x": torch.randn(2, 2, 11, generator=torch.Generator().manual_seed(1))}


def planes() -> dict[str, Tensor]:
    return {"x": torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))}


WHOLE: list[tuple[Any, str, Any]] = [
    (made(CNN), "stem conv1 conv2 shortcut fc", image),
    (made(Wave), "first second", sound),
    (made(Odd), "wide circle mirror depth", planes),
    (base_of("vit"), "projection q_proj", lambda: inputs("vit")),
    (convnext, "dwconv patch_embeddings pwconv1", lambda: inputs("vit")),
]
IDS = ["cnn", "wave", "odd", "vit", "convnext"]


@pytest.mark.parametrize("options", [{"use_dora": False}, {"use_dora": True},
                                     {"bias": "lora_only"}], ids=str)  # fmt: skip
@pytest.mark.parametrize(("make", "targets", "batch"), WHOLE, ids=IDS)
def test_merged_is_unmerged_and_the_way_back_is_exact(
    make: Any, targets: str, batch: Any, options: dict[str, Any]
):
    model = ours_on(make, target_modules=targets.split(), r=3, **options)
    assert any(isinstance(m.base_layer, nn.modules.conv._ConvNd) for m in wrappers(model))
    before, there = answer(model, batch()), state_of(model)
    assert (before - answer(make(), batch())).abs().max() > 0.01 * before.abs().max()
    model.merge_adapter()
    assert (answer(model, batch()) - before).abs().max() <= 5e-6 * before.abs().max()
    model.unmerge_adapter()
    assert state_of(model) == there
    assert torch.equal(answer(model, batch()), before)
    plain = model.merge_and_unload()
    assert {n for n, _ in plain.named_modules()} == {n for n, _ in make().named_modules()}
    assert (answer(plain, batch()) - before).abs().max() <= 5e-6 * before.abs().max()


def wrappers(model: Any) -> list[Any]:
    return [model.get_base_model().get_submodule(path) for path in adapters_of(model)]


@pytest.mark.parametrize("use_dora", [False, True])
@pytest.mark.parametrize(("make", "targets", "batch"), WHOLE, ids=IDS)
def test_at_the_start_the_model_is_what_it_was_and_learns(
    make: Any, targets: str, batch: Any, use_dora: bool
):
    config = LoraConfig(r=3, lora_alpha=6, use_dora=use_dora, target_modules=targets.split())
    model, bare = get_peft_model(make(), config), answer(make(), batch())
    assert (answer(model, batch()) - bare).abs().max() <= use_dora * 5e-6 * bare.abs().max()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer, losses = torch.optim.AdamW(trained, lr=1e-2), []
    for _ in range(5):
        out = model(**batch())
        loss = out.square().mean() if isinstance(out, Tensor) else out.loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert not torch.equal(answer(model, batch()), bare)


@pytest.mark.parametrize("use_dora", [False, True])
def test_the_patches_of_a_vit_against_peft(peft: Any, use_dora: bool):
    ours, theirs = pair(
        peft, base_of("vit"), target_modules=["projection", "v_proj"], use_dora=use_dora
    )
    compare(ours, theirs, "vit")


def test_the_formula_counts():
    layers = {"wide": (4, 6, 9), "circle": (2, 6, 9), "mirror": (6, 4, 9), "depth": (1, 4, 4)}
    for use_dora in (False, True):
        model = ours_on(made(Odd), target_modules=list(layers), r=3, use_dora=use_dora)
        own = [
            3 * (inputs * pixels + out) + use_dora * out for inputs, out, pixels in layers.values()
        ]
        assert model.get_nb_trainable_parameters()[0] == sum(own)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
@pytest.mark.parametrize("use_dora", [False, True])
def test_a_copy_is_a_model_of_its_own(copied: Any, use_dora: bool):
    model = ours_on(made(CNN), target_modules=["stem", "conv1"], use_dora=use_dora)
    other, before = copied(model), answer(model, image())
    assert torch.equal(answer(other, image()), before)
    for name in ("stem", "conv1"):
        getattr(other.get_base_model(), name).base_layer.weight.data.mul_(2)
    assert torch.equal(answer(model, image()), before)
    assert not torch.equal(answer(other, image()), before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("use_dora", [False, True])
def test_half_precision_convolutions_are_adapted_in_float32(dtype: torch.dtype, use_dora: bool):
    exact = ours_on(made(Wave), target_modules=["first", "second"], use_dora=use_dora)
    half = ours_on(lambda: made(Wave)().to(dtype), target_modules=["first", "second"],
                   use_dora=use_dora)  # fmt: skip
    assert all(p.dtype == torch.float32 for p in half.parameters() if p.requires_grad)
    x = {"x": sound()["x"].to(dtype)}
    full, found = answer(exact, sound()), answer(half, x)
    assert found.dtype == dtype
    # four roundings (x, W, and each layer's sum) of 12 products each
    assert (found.float() - full).abs().max() <= 16 * torch.finfo(dtype).eps * full.abs().max()
