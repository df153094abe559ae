"""Dropout on the LoRA path: its distribution, and what it drops beside each kind of layer.

Statistics are five standard errors wide with fixed seeds: a right program misses one in a million.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from conftest import shake
from torch import Tensor, nn

from minipeft import LoraConfig, get_peft_model
from minipeft.methods.lora import Dropout

N = 200_000


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
def test_each_entry_is_dropped_with_probability_p(p: float, dtype: torch.dtype):
    x = torch.ones(N, dtype=dtype)
    y = Dropout(p)(x)
    assert y.dtype == dtype
    kept = torch.tensor(1 / (1 - p), dtype=dtype)
    assert set(y.unique().tolist()) == {0.0, kept.item()}
    error = math.sqrt(p * (1 - p) / N) + 2**-17  # and p itself is a multiple of 2⁻¹⁶
    assert abs((y == 0).double().mean().item() - p) < 5 * error


@pytest.mark.parametrize("apart", [1, 2, 3, 4, 5, 8])
def test_entries_are_independent_also_those_of_one_integer(apart: int):
    dropped = (Dropout(0.3)(torch.ones(N)) == 0).double()
    both = (dropped[apart:] * dropped[:-apart]).mean().item()
    assert abs(both - 0.09) < 5 * math.sqrt(0.09 * 0.91 / N) * 2  # overlapping pairs: twice as wide
    for lane in range(4):  # each quarter of an integer by itself
        assert abs(dropped[lane::4].mean().item() - 0.3) < 5 * math.sqrt(0.21 / (N / 4))


@pytest.mark.parametrize("shape", [(), (1,), (3,), (5, 7), (2, 3, 5), (0,), (4, 0)], ids=str)
def test_any_shape(shape: Any):
    x = torch.full(shape, 3.0)
    y = Dropout(0.5)(x)
    assert y.shape == x.shape
    assert ((y == 0) | (y == 6)).all()


def test_a_seed_repeats_it_and_eval_leaves_x_as_it_is():
    x, dropout = torch.randn(50, 9), Dropout(0.4)
    torch.manual_seed(3)
    first = dropout(x)
    assert not torch.equal(dropout(x), first)
    torch.manual_seed(3)
    assert torch.equal(dropout(x), first)
    assert dropout.eval()(x) is x or torch.equal(dropout(x), x)


def test_the_gradient_goes_the_same_way():
    x = torch.randn(1000, requires_grad=True)
    y = Dropout(0.25)(x)
    y.sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad * x.detach(), y.detach())
    assert 0 < (x.grad == 0).sum() < 1000


def test_a_view_that_is_not_contiguous():
    x = torch.randn(6, 40).T
    torch.manual_seed(1)
    y = Dropout(0.5)(x)
    assert ((y == 0) | torch.isclose(y, 2 * x)).all()


# --- beside the layers ---------------------------------------------------------------------------


def update(layer: nn.Module, x: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    """What the adapter adds in training mode, and in eval mode."""
    model: Any = get_peft_model(
        nn.Sequential(layer), LoraConfig(r=2, lora_dropout=0.5, target_modules=["0"], **options)
    )
    shake(model)
    bare = layer(x)
    return model.train()(x) - bare, model.eval()(x) - bare


def test_an_embedding_drops_tokens_whole():
    x = torch.randint(0, 9, (20, 30))
    dropped, full = update(nn.Embedding(9, 5), x)
    zero = (dropped.abs() < 1e-6).all(-1)
    assert torch.allclose(dropped[~zero], 2 * full[~zero], atol=1e-5)
    assert abs(zero.double().mean().item() - 0.5) < 5 * 0.5 / math.sqrt(600)
    same = x == 4  # one token, dropped in some places and not in others
    assert 0 < zero[same].sum() < same.sum()


def test_a_convolution_drops_entries_of_its_input():
    x = torch.randn(1, 1, 2000)
    dropped, full = update(nn.Conv1d(1, 3, 1), x)  # one number in each place: all or nothing
    zero = (dropped.abs() < 1e-6).all(1)[0]
    assert torch.allclose(dropped[..., ~zero], 2 * full[..., ~zero], atol=1e-5)
    assert abs(zero.double().mean().item() - 0.5) < 5 * 0.5 / math.sqrt(2000)


@pytest.mark.parametrize("layer", [nn.Linear(4, 3), nn.Conv2d(4, 3, 2), nn.Embedding(4, 3)],
                         ids=lambda m: type(m).__name__)  # fmt: skip
@pytest.mark.parametrize("use_dora", [False, True])
def test_on_average_it_is_the_update_without_dropout(layer: nn.Module, use_dora: bool):
    x: Tensor = {nn.Linear: torch.randn(1, 4), nn.Conv2d: torch.randn(1, 4, 2, 2)}.get(
        type(layer), torch.tensor([2])
    )
    many = x.expand(4000, *x.shape[1:])
    dropped, full = update(layer, many, use_dora=use_dora)
    spread = dropped.std(0) / math.sqrt(4000)
    assert ((dropped.mean(0) - full[0]).abs() <= 5 * spread + 1e-5).all()
    assert (dropped.std(0) > 1e-3).any()
