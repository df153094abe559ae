"""What the exercises of lesson 04 test on sizes: the count, and how the adapter starts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..expect import Wrong, describe, expect, expect_close, expect_number


def count(answer: Any) -> str:
    """2dm + m + d for GPT-2 and Llama."""
    d, m = 768, 64
    known = [
        (2 * d * m, "the biases are missing: m and d"),
        (2 * d * m + m, "the upper layer's bias is missing: d"),
        (2 * d * m + d, "the lower layer's bias is missing: m"),
        (d * m + m, "that is the lower layer alone; W_up (d, m) is trained too"),
        (d * m + d, "that is the upper layer alone; W_down (m, d) is trained too"),
        (d * m + m + d, "one matrix is missing: there is W_down (m, d) and W_up (d, m)"),
        (2 * d * m + 2 * m, "both biases are counted as m; the upper one has d"),
        (2 * d * m + 2 * d, "both biases are counted as d; the lower one has m"),
        (2 * d * m + 2 * m + 2 * d, "each layer has one bias"),
        (2 * d * m + m + d + m * m, "there is no m × m matrix between the two"),
        (2 * d * m + m + 3 * d, "2d too many: the adapter has no LayerNorm"),
        (2 * (2 * d * m + m + d), "that is the two adapters of a block; one is asked for"),
        (24 * (2 * d * m + m + d), "that is all 24 adapters of GPT-2; one is asked for"),
    ]
    expect_number(answer(d, m), 99_136, "the count for d = 768, m = 64", known)
    expect_number(answer(4096, 64), 528_448, "the count for d = 4096, m = 64")
    value = answer(d, m)
    expect(isinstance(value, int), f"a count is an int; this is {describe(value)}")
    return "d = 768, m = 64: 99,136; d = 4096, m = 64: 528,448"


def start(answer: Any) -> str:
    """The identity at the start, and both matrices move within two steps."""
    torch.manual_seed(0)
    d, m = 48, 8
    layer = answer(d, m, 0.0)
    shapes = tuple(layer.down_project.weight.shape), tuple(layer.up_project.weight.shape)
    expect(shapes == ((m, d), (d, m)), f"the shapes are {shapes}, not {((m, d), (d, m))}")
    x = torch.randn(64, d)
    _is_identity(layer, x)
    _learns(layer, x)
    with torch.no_grad():
        for p in layer.parameters():
            p.normal_()
    want = x + _change(layer, x)
    expect_close(layer(x), want, "with other numbers in it the output", atol=1e-3)
    return "h = x exactly at the start, both matrices move in two steps, and forward is unchanged"


def _change(layer: Any, x: Tensor) -> Tensor:
    """W_up GELU(W_down x + b_down) + b_up."""
    down, up = layer.down_project, layer.up_project
    z = torch.nn.functional.gelu(x @ down.weight.T + down.bias)
    out: Tensor = z @ up.weight.T + up.bias
    return out


def _is_identity(layer: Any, x: Tensor) -> None:
    with torch.no_grad():
        h = layer(x)
    expect(isinstance(h, Tensor) and h.shape == x.shape, f"the output is {describe(h)}")
    if torch.equal(h, x):
        return
    expect(h.isfinite().all(), "the output holds NaN or infinity at the start")
    moved = float((h - x).norm() / x.norm())
    said = f"the output moves by {moved:.2g} of x's size at the start"
    bias = layer.up_project.bias.detach()
    expect(not (bias != 0).any(), f"{said}: b_up is not zero")
    expect(moved > 0.02, f"{said}: near the identity, but asked for is h = x exactly")
    expect(moved < 0.99, f"{said}: is the way around still there?")
    raise Wrong(f"{said}: W_up and σ(W_down x + b_down) are both not zero")


def _learns(layer: Any, x: Tensor) -> None:
    down, up = layer.down_project.weight, layer.up_project.weight
    expect((down != 0).any() or (up != 0).any(), "both matrices are zero: neither learns")
    frozen = [name for name, p in layer.named_parameters() if not p.requires_grad]
    expect(not frozen, f"{', '.join(frozen)} must stay trainable")
    before = down.detach().clone(), up.detach().clone()
    for _ in range(2):  # the zero matrix moves in the first step, the other in the second
        layer.zero_grad()
        layer(x).square().mean().backward()
        with torch.no_grad():
            for p in layer.parameters():
                if p.grad is not None:
                    p -= 0.1 * p.grad
    for name, was, now in zip(("W_down", "W_up"), before, (down, up), strict=True):
        expect(not torch.equal(was, now), f"{name} does not move in the first two steps")


def predict_7b(answer: Any) -> str:
    """64 · (8193 m + 4096) ≥ 67,384,156.16."""
    known = [
        (128, "close: with m = 128 it is 0.99993 %, just below 1 %; the biases decide here"),
        ((67_384_156.16 / 64 - 4096) / 8193, "m is a whole number: round up"),
        (64, "with m = 64 it is 0.502 %"),
        (257, "that is with one adapter in each block; there are two"),
        (8225, "that is one adapter alone; there are 64"),
        (256, "twice too wide: an adapter has two matrices, W_down and W_up"),
        (130, "that is 1 % of model and adapters together; asked is 1 % of the model"),
        (386, "that is for 3 %"),
    ]
    expect_number(answer, 129, "the prediction", known)
    return (
        "m = 129: 64 · (2 · 4096 · 129 + 129 + 4096) is 1.008 % of the model; m = 128 is 0.99993 %"
    )
