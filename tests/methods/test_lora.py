"""LoRA alone: the formula by hand, its start, its gradients, and what half precision does to it.

h = W0 x + b + s B A x,   s = alpha / r
"""

from __future__ import annotations

import inspect
import math

import pytest
import torch
from conftest import adapted, inputs
from torch import nn
from transformers.pytorch_utils import Conv1D

from minipeft import LoRALayer, LoRALinear
from minipeft.checks.errors import TargetError
from minipeft.methods.lora import lora_parameters, scaling


def by_hand(layer: LoRALayer) -> None:
    """A = [1 2], B = [3 4]ᵀ."""
    layer.lora_A.data = torch.tensor([[1.0, 2.0]])
    layer.lora_B.data = torch.tensor([[3.0], [4.0]])


# --- the notes' signatures and the formula ------------------------------------------------------


def test_the_signatures_are_the_notes():
    layer = inspect.signature(LoRALayer).parameters
    assert list(layer)[:4] == ["in_features", "out_features", "rank", "lora_alpha"]
    assert (layer["rank"].default, layer["lora_alpha"].default) == (16, 32)
    assert list(inspect.signature(LoRALayer.forward).parameters) == ["self", "x", "base_output"]
    linear = {n: p.default for n, p in inspect.signature(LoRALinear).parameters.items()}
    assert list(linear) == ["base_layer", "rank", "lora_alpha", "dropout"]
    assert (linear["rank"], linear["lora_alpha"], linear["dropout"]) == (16, 32, 0.0)


def test_a_layer_worked_by_hand():
    layer = LoRALayer(2, 2, rank=1, lora_alpha=2)  # s = 2
    by_hand(layer)
    # x = (1, 1): A x = 3, B A x = (9, 12), s B A x = (18, 24)
    out = layer(torch.tensor([1.0, 1.0]), torch.tensor([0.5, -1.0]))
    assert out.tolist() == [18.5, 23.0]
    # ΔW = 2 · [[3, 6], [4, 8]]: out rows, in columns
    assert layer.delta_weight().tolist() == [[6.0, 12.0], [8.0, 16.0]]


@pytest.mark.parametrize("kind", [nn.Linear, Conv1D])
def test_a_linear_layer_worked_by_hand(kind: type[nn.Module]):
    base = kind(2, 2)
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]])  # (out, in)
    base.weight.data = weight if kind is nn.Linear else weight.T.contiguous()
    base.bias.data = torch.tensor([0.0, 1.0])
    linear = LoRALinear(base, rank=1, lora_alpha=0.5)
    by_hand(linear.lora)
    # x = (1, -1): W x + b = (-1, 0); A x = -1, s B A x = (-1.5, -2)
    assert linear(torch.tensor([1.0, -1.0])).tolist() == [-2.5, -2.0]


def test_a_matrix_that_is_not_square_keeps_its_sides():
    layer = LoRALayer(5, 3, rank=2)
    assert layer.lora_A.shape == (2, 5)
    assert layer.lora_B.shape == (3, 2)
    assert layer(torch.randn(4, 7, 5), torch.randn(4, 7, 3)).shape == (4, 7, 3)
    assert sum(p.numel() for p in layer.parameters()) == lora_parameters(5, 3, 2) == 2 * (5 + 3)


def test_the_scale():
    assert scaling(32, 16) == 2.0
    assert scaling(8, 16) == 0.5
    assert scaling(32, 16, use_rslora=True) == 8.0
    assert LoRALayer(2, 2, rank=3, lora_alpha=6, use_rslora=True).scaling == 6 / math.sqrt(3)


def test_folding_gives_one_matrix_that_does_what_both_do():
    base, layer = nn.Linear(5, 3).double(), LoRALayer(5, 3, rank=2, dtype=torch.float64)
    layer.reset_parameters(False)
    weight, bias = layer.fold(base.weight, base.bias)
    assert bias is base.bias
    x = torch.randn(4, 5, dtype=torch.float64)
    # float64, sums of 5 terms of size 1: measured difference 4e-16
    assert torch.allclose(nn.functional.linear(x, weight, bias), layer(x, base(x)), atol=1e-14)


# --- the start -----------------------------------------------------------------------------------


@pytest.mark.parametrize("init", [True, "gaussian"])
@pytest.mark.parametrize("kind", [nn.Linear, Conv1D])
def test_nothing_changes_at_the_start(kind: type[nn.Module], init: bool | str):
    base = kind(6, 8)
    linear = LoRALinear(base, rank=4)
    linear.lora.reset_parameters(init)
    x = torch.randn(3, base.weight.shape[1] if kind is nn.Linear else base.weight.shape[0])
    assert torch.equal(linear(x), base(x))
    assert linear.lora.lora_A.abs().min() > 0  # A moves, or B would never get a gradient


def test_a_starts_within_one_over_the_root_of_in():
    layer = LoRALayer(64, 1000, rank=400)
    bound = 1 / math.sqrt(64)
    # 25,600 uniform draws: the largest is within 0.1 % of the bound
    assert 0.999 * bound < layer.lora_A.abs().max() <= bound
    assert layer.lora_A.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert torch.count_nonzero(layer.lora_B) == 0


def test_gaussian_and_false():
    layer = LoRALayer(4000, 1000, rank=4, init_lora_weights="gaussian")
    # 16,000 draws: the standard deviation is known to 0.6 %
    assert layer.lora_A.std().item() == pytest.approx(1 / 4, rel=0.03)
    assert layer.lora_A.abs().max() > 3 / 4  # normal, not uniform
    assert torch.count_nonzero(layer.lora_B) == 0
    layer = LoRALayer(4000, 1000, rank=4, init_lora_weights=False)
    assert 0.99 / 2 < layer.lora_B.abs().max() <= 1 / 2  # ±1/√r


# --- training ------------------------------------------------------------------------------------


def test_only_a_and_b_are_trained_and_b_moves_first():
    linear = LoRALinear(nn.Linear(4, 3), rank=2)
    linear(torch.randn(5, 4)).square().sum().backward()
    grads = {name: parameter.grad for name, parameter in linear.named_parameters()}
    assert sorted(n for n, p in linear.named_parameters() if p.requires_grad) == [
        "lora.lora_A",
        "lora.lora_B",
    ]
    assert grads["base_layer.weight"] is None
    assert grads["base_layer.bias"] is None
    assert torch.count_nonzero(grads["lora.lora_A"]) == 0  # because B is zero
    assert torch.count_nonzero(grads["lora.lora_B"]) == 6


def test_gradients_equal_finite_differences():
    layer = LoRALayer(4, 3, rank=2, lora_alpha=3, dtype=torch.float64)
    x = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    y = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    a, b = torch.randn(2, 4).double().requires_grad_(), torch.randn(3, 2).double().requires_grad_()

    def run(x, y, a, b):
        return torch.func.functional_call(layer, {"lora_A": a, "lora_B": b}, (x, y))

    assert torch.autograd.gradcheck(run, (x, y, a, b))


def test_dropout_is_on_the_lora_path_only():
    base = nn.Linear(64, 64, bias=False)
    base.weight.data = torch.eye(64)
    linear = LoRALinear(base, rank=64, lora_alpha=64, dropout=0.5)
    linear.lora.lora_A.data = torch.eye(64)
    x = torch.ones(8, 64)
    assert torch.equal(linear.train()(x), x)  # B is zero: whatever dropout does, it does to LoRA
    linear.lora.lora_B.data = torch.eye(64)
    assert set(linear(x).flatten().tolist()) == {1.0, 3.0}  # x + 0 or x + x / (1 - p)
    assert torch.equal(linear.eval()(x), 2 * x)
    assert isinstance(LoRALinear(nn.Linear(2, 2)).dropout, nn.Identity)


def test_dropout_in_a_model_acts_in_training_only():
    model = adapted("mlp", lora_dropout=0.5)
    x = inputs("mlp")["x"]
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.zero_()
    assert torch.equal(model(x), model(x))  # the frozen path drops nothing


# --- half precision and refusals -----------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_beside_a_half_precision_layer_the_adapter_is_float32(dtype: torch.dtype):
    base = nn.Linear(16, 8).to(dtype)
    linear = LoRALinear(base, rank=4)
    assert linear.lora.lora_A.dtype == linear.lora.lora_B.dtype == torch.float32
    nn.init.normal_(linear.lora.lora_B)
    x = torch.randn(32, 16).to(dtype)
    out = linear(x)
    assert out.dtype == dtype
    exact = base(x).double() + x.double() @ linear.lora.delta_weight().double().T
    # One rounding to `dtype`, so half a unit in the last place: eps/2 relative to the result
    assert ((out.double() - exact).abs() <= torch.finfo(dtype).eps / 2 * exact.abs() + 1e-5).all()


def test_a_float64_layer_gets_a_float64_adapter():
    assert LoRALinear(nn.Linear(2, 2).double()).lora.lora_A.dtype == torch.float64


@pytest.mark.parametrize("layer", [nn.ReLU(), nn.Embedding(4, 2), nn.LayerNorm(3)])
def test_what_is_no_linear_layer_is_refused(layer: nn.Module):
    before = [p.requires_grad for p in layer.parameters()]
    with pytest.raises(TargetError, match=f"nn.Linear or Conv1D.*got {type(layer).__name__}"):
        LoRALinear(layer)
    assert [p.requires_grad for p in layer.parameters()] == before
