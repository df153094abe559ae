"""What the exercises of lesson 09 test on DoRA: a layer of two rows by hand, algebra, autograd."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..expect import Wrong, describe, expect, expect_close

# r = 1, α = 2, so s = 2. B A = ((3, 6), (4, 8)), V = ((9, 16), (8, 18)), ‖V‖² = (337, 388).
W = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
BIAS = torch.tensor([1.0, -1.0])
A, B, S = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [4.0]]), 2.0
M = torch.tensor([10.0, 30.0])
LENGTHS = torch.tensor([337.0, 388.0]).sqrt()
X = torch.tensor([[1.0, -1.0], [2.0, 0.0]])
VX = torch.tensor([[-7.0, -10.0], [18.0, 16.0]])
BAX = torch.tensor([[-3.0, -4.0], [6.0, 8.0]])


def by_hand(answer: Any, bias: bool = True) -> Any:
    """The learner's DoRA beside a layer of two rows."""
    frozen = nn.Linear(2, 2, bias=bias)
    with torch.no_grad():
        frozen.weight.copy_(W)
        if bias:
            frozen.bias.copy_(BIAS)
    layer = answer(frozen, rank=1, lora_alpha=2)
    layer.lora_magnitude_vector = nn.Parameter(M.clone())
    with torch.no_grad():
        layer.lora_A.copy_(A)
        layer.lora_B.copy_(B)
    frozen.requires_grad_(False)
    return layer


def forward(answer: Any) -> str:
    """H by hand, with and without bias, its gradients, and bfloat16."""
    layer = by_hand(answer)
    y, f = X @ W.T + BIAS, M / LENGTHS
    given = y.clone()
    got = layer(X, given)
    expect(torch.equal(given, y), "base_output was changed in place; return a new tensor")
    lora = y + S * BAX
    known = [
        (lora, "that is LoRA's output: f = m/‖V‖ is missing"),
        (
            f * lora,
            "the bias in base_output is scaled by f too; take it out first, and add it after",
        ),
        (f * lora + BIAS, "the bias counts twice: base_output holds it already; take it out first"),
        (f * VX, "the bias is gone; it is added after the scaling"),
        (y + f * S * BAX, "f scales the update only; it scales V x, which is all but the bias"),
        (f * y + S * BAX + (1 - f) * BIAS, "f scales W₀ x only; the update belongs to V x"),
        (f * y + (1 - f) * BIAS, "the update s · B A x is missing"),
        (f * (y + BAX) + (1 - f) * BIAS, "the update is not scaled by s"),
        (M * VX + BIAS, "‖V‖ is missing: the rows are multiplied by m and not divided"),
        (VX / LENGTHS + BIAS, "m is missing: the rows have length 1"),
        (LENGTHS / M * VX + BIAS, "f is upside down: m/‖V‖, not ‖V‖/m"),
        (
            f * lora + (f - 1) * BIAS,
            "the sign of the last term: f ⊙ (...) + (1 - f) · b, not (f - 1) · b",
        ),
    ]
    expect_close(got, f * VX + BIAS, "the output", known)
    got.sum().backward()
    for name in ("lora_A", "lora_B", "lora_magnitude_vector"):
        grad = getattr(layer, name).grad
        expect(grad is not None and (grad != 0).any(), f"{name} receives no gradient")
    none = by_hand(answer, bias=False)
    expect_close(none(X, X @ W.T), f * VX, "without a bias the output")
    low = layer(X.bfloat16(), y.bfloat16())
    expect(
        isinstance(low, Tensor) and low.dtype == torch.bfloat16,
        f"bfloat16 in, {describe(low)} out; give the sum back in base_output's dtype",
    )
    return "f ⊙ (y - b + s·BAx) + b by hand, without a bias, gradients, bfloat16"


class Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Whether something as large as V was made by other means than from W entry by entry."""

    def __init__(self, size: int):
        super().__init__()  # type: ignore[no-untyped-call]
        self.size, self.found = size, False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The operation itself; its result is looked at."""
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            product = func.overloadpacket.__name__ in ("mm", "addmm", "bmm", "baddbmm")
            self.found |= out.numel() > self.size or (product and out.numel() == self.size)
        return out


def row_lengths(answer: Any) -> str:
    """Two rows by hand, others by forming V, what is formed, and what cancels."""
    layer = by_hand(answer)
    got = layer.row_lengths()
    known = [
        (torch.tensor([5.0, 2.0]), "that is ‖W₀‖: A and B are not in it"),
        (torch.tensor([337.0, 388.0]), "those are the squares: the root is missing"),
        (torch.tensor([145.0, 580.0]).sqrt(), "those are the lengths of V's columns"),
        (torch.tensor([136.0, 116.0]).sqrt(), "s is missing"),
        (torch.tensor([205.0, 324.0]).sqrt(), "the middle term 2 s · (W Aᵀ) · B is missing"),
        (torch.tensor([271.0, 356.0]).sqrt(), "the middle term counts twice: 2 s, not s"),
        (torch.tensor([247.0, 228.0]).sqrt(), "the last term has s², not s"),
        (torch.tensor([157.0, 68.0]).sqrt(), "the last term s² · (B A Aᵀ) · B is missing"),
        (torch.tensor([180.0, 320.0]).sqrt(), "that is the length of s · B A alone"),
        (
            torch.tensor(725.0).sqrt(),
            "that is one length for the whole matrix; asked for is (out,)",
        ),
    ]
    expect_close(got, LENGTHS, "‖V‖", known)
    expect(not got.requires_grad, "the lengths carry a gradient; they are constants: keep no_grad")
    torch.manual_seed(1)
    frozen = nn.Linear(11, 7)
    layer = answer(frozen, rank=3, lora_alpha=6)
    with torch.no_grad():
        nn.init.normal_(layer.lora_A)
        nn.init.normal_(layer.lora_B)
        a, b, w = layer.lora_A, layer.lora_B, frozen.weight
        want = (w + S * b @ a).norm(dim=1)
        cross = 2 * S * ((w @ a.T) * b).sum(1)
        squares = (a.square().sum(1) * b.square()).sum(1)
        diagonal = (w.square().sum(1) + cross + S**2 * squares).clamp(min=0).sqrt()
    with Products(7 * 11) as products:
        got = layer.row_lengths()
    known = [(diagonal, "A Aᵀ is a matrix (r, r), not the lengths of A's rows alone")]
    expect_close(got, want, "with r = 3 ‖V‖", known)
    expect(not products.found, "V, or B A, is formed: it is as large as W; use W Aᵀ and A Aᵀ")
    _cancel(answer)
    return "two rows by hand, r = 3, nothing as large as V, no NaN where BA cancels W₀"


def _cancel(answer: Any) -> None:
    """V = 0 but for rounding."""
    torch.manual_seed(2)
    frozen = nn.Linear(64, 128)
    layer = answer(frozen, rank=4, lora_alpha=8)
    with torch.no_grad():
        nn.init.normal_(layer.lora_A)
        nn.init.normal_(layer.lora_B)
        frozen.weight.copy_(-S * layer.lora_B @ layer.lora_A)
    got, most = layer.row_lengths(), float(frozen.weight.detach().norm(dim=1).max())
    if not got.isfinite().all():
        raise Wrong("where s · BA cancels W₀ a length is NaN: keep the square from being negative")
    expect(
        float(got.max()) < 0.01 * most and not math.isnan(most),
        f"where s · BA cancels W₀ a length is {float(got.max()):.3g}; it should be nearly zero",
    )
