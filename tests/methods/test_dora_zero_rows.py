"""DoRA's row lengths in use: rows of V that are zero, constants in the backward pass, against peft.

A row of zeros has no direction: h is b there, and nothing becomes NaN.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import inputs
from hypothesis import given, settings
from hypothesis import strategies as st
from peft_pairs import base_of, compare, factors, pair
from test_dora_gram import filled, layer_of, matrix
from torch import nn
from transformers.pytorch_utils import Conv1D

from minipeft import DoRALayer, LoraConfig, get_peft_model


def layers(kind: str) -> tuple[nn.Module, torch.Tensor, int]:
    """A layer, an input, and the axis of its outputs."""
    if kind == "embedding":
        return nn.Embedding(9, 5), torch.arange(9).view(3, 3), -1
    if kind == "conv":
        return nn.Conv2d(2, 5, 3), torch.randn(2, 2, 6, 6), 1
    return layer_of(kind, 6, 5, torch.float32), torch.randn(3, 6), -1


KINDS = ["Linear", "Conv1D", "embedding", "conv"]


def on(layer: nn.Module) -> Any:
    config = LoraConfig(r=2, use_dora=True, target_modules=["0"])
    return get_peft_model(nn.Sequential(layer), config)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_of_zeros_gives_the_bias_and_stays_finite_in_training(kind: str):
    layer, x, axis = layers(kind)
    matrix(layer)[2] = 0
    model = on(layer)
    method = model.get_base_model()[0].adapters["default"]
    b = factors(method)[1]
    if kind == "embedding":
        b.data[2] = 0  # B is random and A zero
    bias = 0 if getattr(layer, "bias", None) is None else layer.bias[2].item()
    found = model(x).select(axis, 2)
    assert torch.equal(found, torch.full_like(found, bias))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(5):
        loss = (model(x) - 1).square().sum()
        loss.backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
        optimizer.step()
        optimizer.zero_grad()
        assert model(x).isfinite().all()
        assert method.row_lengths().isfinite().all()
    model.eval().merge_adapter()
    assert model(x).isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_zero_row_that_b_fills_takes_part(kind: str):
    layer, x, axis = layers(kind)
    matrix(layer)[2] = 0
    model = on(layer)
    method = model.get_base_model()[0].adapters["default"]
    a, b = factors(method)
    for parameter in (a, b):
        nn.init.normal_(parameter)
    m = method.lora_magnitude_vector.data.flatten()
    m[2] = 3.0
    v = method.scaling * b.flatten(1)[2] @ a.flatten(1)
    assert torch.allclose(method.row_lengths().flatten()[2], v.norm(), rtol=1e-5)
    layer_weight = matrix(layer)
    before = model(x).select(axis, 2)
    model.eval().merge_adapter()
    assert torch.allclose(layer_weight[2], 3 * v / v.norm(), rtol=1e-4, atol=1e-5)
    assert torch.allclose(model(x).select(axis, 2), before, rtol=1e-4, atol=1e-5)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.integers(1, 30), st.integers(1, 5), st.sampled_from([1e-4, 1.0, 1e4]), st.integers(0, 99))
def test_a_row_that_cancels_is_finite(n: int, r: int, size: float, seed: int):
    torch.manual_seed(seed)
    layer = nn.Linear(n, 4)
    method = DoRALayer(layer, r, 2 * r)
    filled(layer, method, 1, size, 1)
    with torch.no_grad():
        # W = -s B A up to rounding: the sum of the three terms may come out below zero
        layer.weight.copy_(-method.delta_weight())
    x = torch.randn(3, n)
    assert method.row_lengths().isfinite().all()
    assert (method.row_lengths() >= 0).all()
    out = method(x, layer(x))
    assert not out.isnan().any()


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 4), st.booleans(), st.integers(0, 99))
def test_the_length_is_a_constant_in_the_backward_pass(
    n: int, out: int, r: int, turned: bool, seed: int
):
    torch.manual_seed(seed)
    layer = layer_of("Conv1D" if turned else "Linear", n, out, torch.float64)
    method = DoRALayer(layer, r, 3 * r, dtype=torch.float64)
    filled(layer, method, 1, 1, 1)
    layer.weight.requires_grad_(False)
    x = torch.randn(4, n, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, out, dtype=torch.float64)
    (method(x, layer(x)) * weight).sum().backward()
    mine = [x.grad, *(p.grad for p in method.parameters())]
    (a, b), m = factors(method), method.lora_magnitude_vector
    v = matrix(layer) + 3 * b @ a
    h = (m / v.detach().norm(dim=1)) * (x @ v.T) + layer.bias
    theirs = torch.autograd.grad((h * weight).sum(), [x, *method.parameters()])
    for one, other in zip(mine, theirs, strict=True):
        assert one is not None
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-10)


# --- against peft --------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.1, 4, 300])
@pytest.mark.parametrize("name", ["gpt2", "llama", "bloom"])
def test_outputs_and_gradients_are_pefts_at_any_scale(peft: Any, name: str, alpha: float):
    options = {"use_dora": True, "lora_alpha": alpha, "target_modules": "all-linear"}
    compare(*pair(peft, base_of(name), **options), name)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_ten_steps_of_training_lose_the_same(peft: Any, name: str):
    ours, theirs = pair(peft, base_of(name), use_dora=True, lora_alpha=7, r=3)
    losses: list[list[float]] = []
    for model in (ours, theirs):
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-2)
        losses.append([])
        for _ in range(10):
            loss = model(**inputs(name)).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
    # float32; AdamW divides by the gradient's size, which keeps rounding relative
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0][-1] < losses[0][0] - 0.1


def test_the_layer_of_gpt2_is_turned():
    layer = layer_of("Conv1D", 3, 2, torch.float32)
    assert isinstance(layer, Conv1D)
    method = DoRALayer(layer, 1)
    assert torch.allclose(method.lora_magnitude_vector, layer.weight.norm(dim=0))
