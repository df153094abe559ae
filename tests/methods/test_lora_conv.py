"""LoRA and DoRA beside a convolution: the layer with W + ΔW, ΔW = s B A as a matrix (out, in·k·k).

A (r, in/groups, k, k) is a convolution like the frozen one with r outputs, B (out, r, 1, 1) one of
width 1 behind it. The oracle is torch's own layer, called with the changed weight in float64; the
tolerance is fifty times float64's spacing at the size of the entries. peft is asked about what it
does right: dilation 1, padding with zeros, one group (LEDGER, section 5).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from dora_kinds import dora_conv
from hypothesis import given, settings
from hypothesis import strategies as st
from peft_pairs import both_ways, compare, factors, ours_on, pair
from test_lora_conv_models import CNN, Wave, image, made, sound
from torch import Tensor, nn

from minipeft import DoRALayer, LoraConfig, get_peft_model
from minipeft.checks.errors import TargetError
from minipeft.methods.lora_options.conv import LoRAConv

# torch says that it copies the input when an even kernel is to keep its size.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
MODES = ["zeros", "reflect", "replicate", "circular"]


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Module, Tensor]:
    """A layer in float64 and an input that it takes."""
    dims = draw(st.sampled_from([1, 2]))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    each = st.integers(1, 3)
    kernel = [draw(each) for _ in range(dims)]
    dilation = [draw(st.integers(1, 2)) for _ in range(dims)]
    padding: Any = draw(st.sampled_from(["same", "valid", "numbers"]))
    stride = [1 if padding == "same" else draw(each) for _ in range(dims)]
    if padding == "numbers":
        padding = [draw(st.integers(0, 2)) for _ in range(dims)]
    kind: Any = (nn.Conv1d, nn.Conv2d)[dims - 1]
    layer = kind(
        groups * draw(each), groups * draw(each), tuple(kernel), stride=tuple(stride),
        padding=tuple(padding) if isinstance(padding, list) else padding, dilation=tuple(dilation),
        groups=groups, bias=draw(st.booleans()), padding_mode=draw(st.sampled_from(MODES)),
    ).double()  # fmt: skip
    torch.manual_seed(draw(st.integers(0, 99)))
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    rows = draw(st.sampled_from([(), (1,), (2,)]))  # without a batch axis too
    size = [draw(st.integers(6, 8)) for _ in range(dims)]  # wider than the padding and the kernel
    return layer, torch.randn(*rows, layer.in_channels, *size, dtype=torch.float64)


def changed(layer: Any, method: Any, scale: float) -> Tensor:
    """The weight of the one layer that does what both do, with DoRA's length held constant."""
    a, b = factors(method)
    v: Tensor = layer.weight.detach() + scale * (b.flatten(1) @ a.flatten(1)).view_as(layer.weight)
    if isinstance(method, DoRALayer):
        m = method.lora_magnitude_vector.view(-1, *[1] * (v.dim() - 1))
        v = m / v.detach().flatten(1).norm(dim=1).view_as(m) * v
    return v


@settings(max_examples=250, deadline=None, derandomize=True, database=None)
@given(convolutions(), st.integers(1, 5), st.sampled_from([0.5, 2, 7]), st.booleans())
def test_beside_the_layer_is_the_layer_with_the_changed_weight(
    case: tuple[Any, Tensor], r: int, alpha: float, use_dora: bool
):
    layer, x = case
    kind: Any = dora_conv if use_dora else LoRAConv
    method = kind(layer, r, alpha, dtype=torch.float64)
    for parameter in method.parameters():
        nn.init.normal_(parameter)
    a, b = factors(method)
    width = layer.in_channels // layer.groups
    assert a.shape == (r, width, *layer.kernel_size)
    assert b.shape == (layer.out_channels, r, *[1] * len(layer.kernel_size))
    w = changed(layer, method, alpha / r)
    expected = torch.func.functional_call(layer, {"weight": w}, (x,))
    found = method(x, layer(x))
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, rtol=1e-11, atol=1e-11)
    weight, parts = torch.randn_like(found), list(method.parameters())
    mine = torch.autograd.grad((found * weight).sum(), parts)
    theirs = torch.autograd.grad((expected * weight).sum(), parts)
    for one, other in zip(mine, theirs, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-10)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(convolutions(), st.integers(1, 4), st.booleans())
def test_merged_is_unmerged_and_the_way_back_is_exact(
    case: tuple[Any, Tensor], r: int, use_dora: bool
):
    layer, x = case
    original = layer.weight.detach().clone()
    config = LoraConfig(r=r, use_dora=use_dora, target_modules=["0"])
    model = get_peft_model(nn.Sequential(layer), config)
    method = model.get_base_model()[0].adapters["default"]
    for parameter in method.parameters():
        nn.init.normal_(parameter)
    before = model.eval()(x)
    model.merge_adapter()
    assert torch.allclose(layer.weight, changed(layer_of(layer, original), method, 8 / r))
    assert torch.allclose(model(x), before, rtol=1e-11, atol=1e-11)
    model.unmerge_adapter()
    assert torch.equal(layer.weight, original)
    assert torch.equal(model(x), before)
    plain = model.merge_and_unload()
    assert plain[0] is layer
    assert torch.allclose(plain(x), before, rtol=1e-11, atol=1e-11)


def layer_of(layer: Any, weight: Tensor) -> Any:
    """A stand-in that has this weight."""
    return type("Layer", (), {"weight": weight})()


def test_a_pixel_by_hand():
    layer = nn.Conv2d(2, 1, (1, 2), bias=True)  # a row of two pixels, two channels
    layer.weight.data = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])
    layer.bias.data = torch.tensor([5.0])
    method = LoRAConv(layer, rank=1, lora_alpha=3)
    a, b = factors(method)
    a.data, b.data = torch.tensor([[[[1.0, 0.0]], [[0.0, -1.0]]]]), torch.tensor([[[[2.0]]]])
    x = torch.tensor([[[10.0, 20.0, 30.0]], [[1.0, 2.0, 3.0]]])
    # frozen: 10 + 2·20 + 3·1 + 4·2 + 5 = 66, and 20 + 60 + 6 + 12 + 5 = 103
    assert layer(x).tolist() == [[[66.0, 103.0]]]
    # the update: 3 · 2 · (10 - 2) = 48, and 6 · (20 - 3) = 102
    assert method(x, layer(x)).tolist() == [[[114.0, 205.0]]]


def test_the_start():
    layer = nn.Conv2d(6, 4, 3, groups=2)
    a, b = factors(LoRAConv(layer, rank=50))
    assert b.count_nonzero() == 0
    bound = 1 / math.sqrt(3 * 3 * 3)  # fan-in: 6 / 2 channels of 3 · 3 pixels
    assert 0.98 * bound < a.abs().max() <= bound  # 1,350 uniform numbers: 1e-12 of a chance to miss
    a, b = factors(LoRAConv(layer, rank=50, init_lora_weights="gaussian"))
    assert b.count_nonzero() == 0
    spread = 1 / (50 * math.sqrt(2 * a.numel()))  # the standard error of a standard deviation
    assert abs(a.std().item() - 1 / 50) < 5 * spread
    assert all(p.abs().max() > 0 for p in factors(LoRAConv(layer, 2, init_lora_weights=False)))
    method = dora_conv(layer, rank=2)
    lengths = layer.weight.flatten(1).norm(dim=1)
    assert torch.allclose(method.lora_magnitude_vector.flatten(), lengths, rtol=1e-6)
    x = torch.randn(1, 6, 5, 5)
    assert torch.equal(LoRAConv(layer, rank=2)(x, layer(x)), layer(x))
    assert torch.allclose(method(x, layer(x)), layer(x), atol=1e-6)


# --- against peft --------------------------------------------------------------------------------

PEFT_CASES: list[tuple[Any, list[str], dict[str, Any]]] = [
    (CNN, ["stem"], {"lora_alpha": 8}),
    (CNN, ["stem", "conv1", "conv2", "shortcut", "fc"], {"r": 3, "lora_alpha": 7}),
    (CNN, ["conv1", "shortcut"], {"r": 3, "lora_alpha": 5, "use_rslora": True}),
    (CNN, ["conv1", "conv2", "shortcut"], {"rank_pattern": {"conv1": 2}, "use_dora": True}),
    (Wave, ["first", "second"], {"lora_alpha": 7}),
    (Wave, ["first", "second"], {"lora_alpha": 7, "r": 2, "use_dora": True}),
]


def batch_for(kind: Any) -> dict[str, Tensor]:
    return image() if kind is CNN else sound()


@pytest.mark.parametrize(("kind", "targets", "options"), PEFT_CASES, ids=str)
def test_outputs_gradients_and_counts_are_pefts(
    peft: Any, kind: Any, targets: list[str], options: dict[str, Any]
):
    compare(*pair(peft, made(kind), target_modules=targets, **options), batch_for(kind))


@pytest.mark.parametrize(("kind", "targets", "options"), PEFT_CASES, ids=str)
def test_files_travel_both_ways(
    peft: Any, tmp_path: Path, kind: Any, targets: list[str], options: dict[str, Any]
):
    ours, theirs = pair(peft, made(kind), target_modules=targets, **options)
    both_ways(peft, tmp_path, made(kind), batch_for(kind), ours, theirs)


@pytest.mark.parametrize("use_dora", [False, True])
def test_the_weights_merged_by_peft_are_ours(peft: Any, use_dora: bool):
    targets = ["stem", "conv1", "shortcut"]
    ours, theirs = pair(peft, made(CNN), target_modules=targets, use_dora=use_dora)
    a, b = ours.merge_and_unload(), theirs.merge_and_unload()
    for name in targets:
        one, other = getattr(a, name).weight, getattr(b, name).weight
        assert torch.allclose(one, other, atol=2e-6)  # entries below 4, sums of 4 products
        assert not torch.allclose(one, getattr(made(CNN)(), name).weight, atol=0.01)


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [nn.ConvTranspose2d(2, 3, 2), nn.Conv3d(2, 3, 1)], ids=repr)
def test_other_convolutions_are_refused(layer: nn.Module):
    model = nn.Sequential(layer)
    with pytest.raises(TargetError, match=rf"matches '0', a {type(layer).__name__}"):
        get_peft_model(model, LoraConfig(target_modules=["0"]))
    assert model[0] is layer
    assert all(p.requires_grad for p in model.parameters())


def test_all_linear_means_no_convolution():
    model = ours_on(made(CNN), target_modules="all-linear")
    assert {n for n, p in model.named_parameters() if p.requires_grad and "conv" in n} == set()
