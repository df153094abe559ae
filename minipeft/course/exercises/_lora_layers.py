"""What the exercises of lesson 08 test on layers: numbers worked by hand, algebra, autograd.

Everywhere B is set before an update is looked at: at B = 0 every scale and every A look right.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..expect import Wrong, describe, expect, expect_close

# r = 2, α = 12, so s = 6; in = 3, out = 2.
# By hand: A x = (1, 2) and (3, 1); B A x = (3, 6) and (4, 3).
A = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
B = torch.tensor([[1.0, 1.0], [0.0, 3.0]])
X = torch.tensor([[1.0, 2.0, 5.0], [3.0, 1.0, 7.0]])
BASE = torch.tensor([[100.0, 200.0], [300.0, 400.0]])
S = 6.0
BAX = torch.tensor([[3.0, 6.0], [4.0, 3.0]])
# What x · Aᵀ · B would be: B not turned over.
AXB = torch.tensor([[1.0, 7.0], [3.0, 6.0]])

FACTORS = {
    2.0: "α where α/r was asked",
    1 / S: "the scale s is missing",
    S: "the scale s is applied twice",
    math.sqrt(2): "α/√r (rank-stabilised) where α/r was asked",
    1 / S**2: "divided by s where times s was asked",
}


def _set(layer: Any, a: Tensor = A, b: Tensor = B) -> Any:
    """Puts known numbers into A and B."""
    with torch.no_grad():
        layer.lora_A.copy_(a)
        layer.lora_B.copy_(b)
    return layer


def forward(answer: Any) -> str:
    """The output base + s · B A x by hand, leading dimensions, bfloat16, and gradients."""
    layer = _set(answer(3, 2, rank=2, lora_alpha=12))
    base = BASE.clone()
    got = layer(X, base)
    expect(torch.equal(base, BASE), "base_output was changed in place; return a new tensor")
    diagnose = [
        (S * BAX, "the base output is missing: only the update is returned"),
        (BASE, "the update is missing: the base output comes back as it was"),
        (S * (BASE + BAX), "the base output is scaled too; s belongs to the update only"),
        (BASE - S * BAX, "the update is subtracted; it is added"),
        (BASE + S * AXB, "B was not turned over: x Aᵀ B where x Aᵀ Bᵀ was asked"),
    ]
    if isinstance(got, Tensor) and got.shape == BASE.shape:
        for value, message in diagnose:
            expect(not torch.allclose(got.float(), value), message)
        expect_close(got.detach() - BASE, S * BAX, "your update", factors=FACTORS)
    expect_close(got, BASE + S * BAX, "the output")
    layer.scaling = 0.5
    expect_close(layer(X, BASE), BASE + 0.5 * BAX, "with self.scaling = 0.5 the output")
    deep = layer(X.view(2, 1, 3), BASE.view(2, 1, 2))
    expect_close(deep, (BASE + 0.5 * BAX).view(2, 1, 2), "for x of shape (2, 1, 3) the output")
    _gradients(layer, layer(X, BASE))
    half = torch.bfloat16
    try:
        low = layer(X.to(half), BASE.to(half))
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        message = "with x in bfloat16 and A in float32 your forward raises: "
        raise Wrong(f"{message}{first}\nbring x to A's dtype before you multiply") from None
    expect(
        isinstance(low, Tensor) and low.dtype == half,
        f"x and base_output are bfloat16, and so should be the sum; it is {describe(low)}: "
        f"`.to(base_output.dtype)`",
    )
    return "base + s·BAx by hand, s from self.scaling, leading dimensions, gradients, bfloat16"


def _gradients(layer: nn.Module, output: Tensor) -> None:
    expect(output.requires_grad, "no gradient reaches A and B: a detach, .data or no_grad")
    layer.zero_grad()
    output.sum().backward()  # type: ignore[no-untyped-call]
    for name in ("lora_A", "lora_B"):
        grad = getattr(layer, name).grad
        expect(grad is not None and (grad != 0).any(), f"{name} receives no gradient")


class _Erase(nn.Module):
    """A dropout that drops everything."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def linear(answer: Any) -> str:
    """W₀ x + b + s · B A · dropout(x), by hand."""
    base = nn.Linear(3, 2)
    with torch.no_grad():
        base.weight.copy_(torch.tensor([[1.0, 0.0, 1.0], [0.0, 10.0, 0.0]]))
        base.bias.copy_(torch.tensor([1000.0, 2000.0]))
    frozen = torch.tensor([[1006.0, 2020.0], [1010.0, 2010.0]])
    layer = answer(base, rank=2, lora_alpha=12)
    _set(layer.lora)
    expect_close(
        layer(X),
        frozen + S * BAX,
        "the output",
        diagnose=[
            (frozen, "the LoRA's update is missing: only the frozen layer runs"),
            (S * BAX, "the frozen layer's output is missing: only the update is returned"),
            (2 * frozen + S * BAX, "the frozen output counts twice: `self.lora` adds it already"),
        ],
    )
    layer.dropout = _Erase()
    got = layer(X)
    bias = base.bias.detach().expand(2, 2)
    expect_close(
        got,
        frozen,
        "with everything dropped the output",
        diagnose=[
            (frozen + S * BAX, "dropout is not applied to the LoRA path"),
            (bias, "dropout reaches the frozen path; it is for the LoRA path only"),
            (torch.zeros(2, 2), "dropout is applied to the output; it belongs on the LoRA's input"),
            (bias + S * BAX, "dropout is on the frozen path; it belongs on the LoRA path"),
        ],
    )
    return "W₀x + b + s·BAx by hand; dropout on the LoRA path and not on the frozen one"


def fold(answer: Any) -> str:
    """Merged equals unmerged, and the old weight is left alone."""
    square = answer(2, 2, rank=1, lora_alpha=3)
    _set(square, torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0], [10.0]]))
    delta = torch.tensor([[3.0, 6.0], [30.0, 60.0]])  # 3 · (1, 10)ᵀ (1, 2)
    w, b = torch.tensor([[100.0, 200.0], [300.0, 400.0]]), torch.tensor([5.0, 6.0])
    kept = w.clone()
    pair = square.fold(w, b)
    expect(torch.equal(w, kept), "the weight was changed in place; return a new tensor")
    if not (isinstance(pair, tuple | list) and len(pair) == 2):
        raise Wrong(f"return the pair (weight, bias); this is {describe(pair)}")
    weight = pair[0]
    known = [
        (delta, "W is missing: only ΔW is returned"),
        (w - delta, "ΔW is subtracted; it is added"),
        (w + delta.T, "ΔW is transposed: B A is (out, in), (A.T B.T) is not"),
        (w + delta / 3, "ΔW is not scaled: s is missing"),
        (w + 3 * delta, "ΔW is scaled twice: `delta_weight` holds s already"),
        (w + 3 * 21, "that is A B, (r, r), here one number added to all of W; ΔW is s · B A"),
        (w, "W comes back as it was: ΔW is missing"),
    ]
    expect_close(weight, w + delta, "the folded weight", diagnose=known)
    expect_close(pair[1], b, "the bias")
    layer = _set(answer(3, 2, rank=2, lora_alpha=12))
    weight, none = layer.fold(torch.zeros(2, 3), None)
    expect(none is None, f"a layer without bias must stay without; this is {describe(none)}")
    expect_close(weight, S * B @ A, "the folded weight of a zero W, (out, in) = (2, 3),")
    expect_close(X @ weight.T, S * BAX, "the merged layer's output")
    return "W + s·BA by hand; merged equals unmerged; bias kept; the old weight untouched"
