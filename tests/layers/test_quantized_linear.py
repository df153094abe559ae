"""The 4-bit layer alone: a linear layer with dq(Q), which nobody keeps.

The oracle is a dense layer with the same W, as `dequantize` gives it; that W itself is held by
test_nf4_*.py. The sums are the same products in the same order, so everything is to the bit.
"""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest
import torch
from conftest import bits
from live_bytes import LiveBytes
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from minipeft import QuantizedLinear
from minipeft.layers.quant import dequantize, linear, quantize

HALVES = [torch.bfloat16, torch.float16]
OUT, IN = 6, 70  # the last block is not full, and blocks go over the ends of rows


def layer_of(out: int = OUT, width: int = IN, bias: bool = True, **options: Any) -> QuantizedLinear:
    """A layer with random numbers in it."""
    b = nn.Parameter(torch.randn(out)) if bias else None
    return QuantizedLinear.of(torch.randn(out, width), b, **options)


def dense_of(layer: QuantizedLinear, dtype: torch.dtype = torch.float32) -> nn.Linear:
    """The dense layer with the same numbers."""
    dense = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None)
    dense.weight = nn.Parameter(dequantize(layer.quantized()), requires_grad=False)
    if layer.bias is not None:
        dense.bias = nn.Parameter(layer.bias.detach().clone())
    return dense.to(dtype)


# --- forward -------------------------------------------------------------------------------------

SHAPES = [(IN,), (1, IN), (3, IN), (2, 3, IN), (2, 1, 2, 3, IN), (0, IN), (2, 0, IN)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALVES], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_product_with_what_the_codes_stand_for(shape: tuple[int, ...], dtype: torch.dtype):
    for options in ({}, {"double_quant": True, "blocksize": 32}, {"quant_type": "nf8"}):
        weight, b, x = torch.randn(OUT, IN), torch.randn(OUT), torch.randn(shape).to(dtype)
        w = dequantize(quantize(weight, **options), dtype)
        y = QuantizedLinear.of(weight, nn.Parameter(b), **options)(x)
        assert (y.shape, y.dtype) == ((*shape[:-1], OUT), dtype)
        assert torch.equal(y, nn.functional.linear(x, w) + b.to(dtype))
        assert torch.equal(QuantizedLinear.of(weight, **options)(x), nn.functional.linear(x, w))


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)
def test_the_answer_is_near_that_of_numpy(dtype: torch.dtype):
    layer, x = layer_of(), torch.randn(4, IN).to(dtype)
    w, b = dequantize(layer.quantized()).double().numpy(), layer.bias.detach().double().numpy()
    exact = torch.from_numpy(x.double().numpy() @ w.T + b)
    # x and W are rounded to the dtype (½ eps each), and 70 products of size 1 are summed
    assert (layer(x).double() - exact).abs().max() < 2 * torch.finfo(dtype).eps * IN**0.5 * 3


def test_the_dtype_of_the_multiplication_is_a_choice():
    x, weight, b = torch.randn(3, IN), torch.randn(OUT, IN), nn.Parameter(torch.randn(OUT))
    layer = QuantizedLinear.of(weight, b, compute_dtype=torch.bfloat16)
    w = dequantize(quantize(weight), torch.bfloat16)
    expected = nn.functional.linear(x.bfloat16(), w) + b.bfloat16()
    assert layer(x).dtype == torch.float32
    assert torch.equal(layer(x), expected.float())
    half = nn.functional.linear(x.half().bfloat16(), w) + b.bfloat16()
    assert torch.equal(layer(x.half()), half.half())
    up = QuantizedLinear.of(weight, b, compute_dtype=torch.float32)
    wide = nn.functional.linear(x.bfloat16().float(), dequantize(quantize(weight))) + b
    assert torch.equal(up(x.bfloat16()), wide.bfloat16())


@pytest.mark.parametrize("compute_dtype", [None, torch.float32], ids=str)
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_autocast_decides_as_for_a_dense_layer(
    dtype: torch.dtype, compute_dtype: torch.dtype | None
):
    layer, x = layer_of(compute_dtype=compute_dtype), torch.randn(3, IN, requires_grad=True)
    dense, other = dense_of(layer), x.detach().clone().requires_grad_()
    with torch.autocast("cpu", dtype):
        y, expected = layer(x), dense(other)
        assert layer(x.double()).dtype == torch.float64  # which autocast leaves alone
    assert y.dtype == expected.dtype == dtype
    # addmm rounds once where we round the product and the sum: half a step of y each
    assert (y - expected).abs().max() <= torch.finfo(dtype).eps * expected.abs().max()
    y.float().square().sum().backward()
    expected.float().square().sum().backward()
    assert x.grad.dtype == torch.float32
    assert (x.grad - other.grad).norm() <= 2 * torch.finfo(dtype).eps * other.grad.norm()


# --- backward ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)
@pytest.mark.parametrize("shape", [(IN,), (3, IN), (2, 3, IN)], ids=str)
def test_gradients_are_those_of_a_dense_layer(shape: tuple[int, ...], dtype: torch.dtype):
    layer = layer_of(double_quant=True).to(dtype)
    dense, x = dense_of(layer, dtype), torch.randn(shape).to(dtype).requires_grad_()
    other, dy = x.detach().clone().requires_grad_(), torch.randn(*shape[:-1], OUT).to(dtype)
    layer(x).backward(dy)
    dense(other).backward(dy)
    assert x.grad.abs().max() > 0
    assert torch.equal(x.grad, other.grad)
    assert torch.equal(layer.bias.grad, dense.bias.grad)
    assert [n for n, p in layer.named_parameters() if p.grad is not None] == ["bias"]


def test_first_and_second_derivatives_by_differences():
    layer = layer_of(4, 10, double_quant=True).double()
    x = torch.randn(2, 3, 10, dtype=torch.float64, requires_grad=True)
    bias = layer.bias.detach().clone().requires_grad_()

    def answer(x: Tensor, bias: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"bias": bias}, (x,)).sin()

    assert torch.autograd.gradcheck(answer, (x, bias))
    assert torch.autograd.gradgradcheck(answer, (x, bias))


def test_only_what_wants_a_gradient_gets_one():
    layer = layer_of()
    layer.bias.requires_grad_(False)
    assert layer(torch.randn(3, IN)).requires_grad is False
    layer.bias.requires_grad_()
    layer(torch.randn(3, IN)).sum().backward()  # an input without a gradient, and a trained bias
    assert torch.equal(layer.bias.grad, torch.full((OUT,), 3.0))


def test_two_layers_in_a_row_and_a_checkpoint():
    first, second = layer_of(8, 5), layer_of(3, 8)
    x = torch.randn(4, 5, requires_grad=True)
    dense = nn.Sequential(dense_of(first), nn.Tanh(), dense_of(second))
    ours = nn.Sequential(first, nn.Tanh(), second)
    (expected,) = torch.autograd.grad(dense(x).square().sum(), x)
    (found,) = torch.autograd.grad(ours(x).square().sum(), x)
    # the dense layer adds b inside the product: float32, sums of 8 numbers of size 1
    assert torch.allclose(found, expected, atol=1e-5)
    (again,) = torch.autograd.grad(checkpoint(ours, x, use_reentrant=False).square().sum(), x)
    assert torch.equal(again, found)
    loss = ours(x).sum()
    loss.backward(retain_graph=True)
    once = x.grad.clone()
    loss.backward()
    assert torch.equal(x.grad, 2 * once)


# --- nobody keeps W ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_autograd_keeps_no_copy(dtype: torch.dtype):
    layer, x = layer_of(40, 300), torch.randn(2, 300).to(dtype).requires_grad_()
    kept: list[Tensor] = []
    with saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        layer(x).sum()
        ours = [t for t in kept if t.is_floating_point() and t.numel() >= 40 * 300]
        kept.clear()
        dense_of(layer, dtype)(x).sum()
    assert ours == []
    assert any(t.numel() == 40 * 300 for t in kept)  # a dense layer's is seen


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_one_copy_at_a_time_and_none_between_the_passes(dtype: torch.dtype, nested: bool):
    n = 1536
    w_bytes = n * n * torch.finfo(dtype).bits // 8  # 9.4 or 4.7 MB
    layers = [layer_of(n, n, double_quant=nested) for _ in range(3)]
    model, x = nn.Sequential(*layers), torch.randn(2, n).to(dtype).requires_grad_()
    model(x)  # tables of levels are made once
    # Beside W: at most a slice's indices (2¹⁷ int32) and products (2 · 2¹⁷ float32), the scales
    # (5 numbers for each block of 64), and activations: measured 1.5 to 2.1 MB.
    slices = 2**17 * (4 + 8) + n * n // 64 * 5 * 4 + 20 * x.numel() * 4
    with LiveBytes() as live:
        y = model(x)
        between, forward = live.now, live.peak
        y.backward(torch.ones_like(y))
    assert w_bytes < forward <= w_bytes + slices
    assert between <= 20 * x.numel() * 4
    assert w_bytes < live.peak <= w_bytes + slices
    with LiveBytes() as live:  # what it would be if autograd kept W
        y = x
        for layer in layers:
            y = nn.functional.linear(y, layer.dequantized(dtype))
        assert live.now >= 3 * w_bytes


# --- compiled ------------------------------------------------------------------------------------


def test_compile_is_a_choice(monkeypatch: pytest.MonkeyPatch):
    used: list[Tensor] = []

    def loop(*args: Any) -> Tensor:
        used.append(args[0])
        return linear.expand(*args)

    monkeypatch.setattr(linear, "compiled_expand", lambda: loop)
    weight, x = torch.randn(OUT, IN), torch.randn(2, IN)
    for on in (False, True):
        y = QuantizedLinear.of(weight, compile=on)(x)
        assert torch.equal(y, QuantizedLinear.of(weight)(x))
        assert len(used) == on


@pytest.mark.slow
@pytest.mark.skipif(
    not any(shutil.which(c) for c in (os.environ.get("CXX", "g++"), "g++", "clang++")),
    reason="torch.compile needs a C++ compiler",
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    ("quant_type", "dtype", "nested"),
    [("nf4", torch.float32, True), ("nf8", torch.bfloat16, False)],
    ids=str,
)
def test_compiled_is_the_same_to_the_bit(quant_type: str, dtype: torch.dtype, nested: bool):
    weight, x = torch.randn(OUT, IN), torch.randn(3, IN).to(dtype).requires_grad_()
    options = {"quant_type": quant_type, "double_quant": nested}
    plain, fast = (QuantizedLinear.of(weight, compile=on, **options) for on in (False, True))
    grads = [torch.autograd.grad(m(x).sum(), x)[0] for m in (plain, fast)]
    assert torch.equal(plain(x), fast(x))
    assert torch.equal(*grads)
    assert bits(plain.dequantized(dtype)) == bits(fast.dequantized(dtype))
