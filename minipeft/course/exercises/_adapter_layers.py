"""What the exercises of lesson 04 test on layers: numbers worked by hand, places, gradients.

The matrices are set before anything is looked at: with W_up = 0 every adapter looks right.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..expect import Wrong, describe, expect, expect_close

# d = 3, m = 2, and ReLU.
DOWN = torch.tensor([[1.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
B_DOWN = torch.tensor([0.5, -1.0])
UP = torch.tensor([[1.0, 0.0], [2.0, 1.0], [0.0, -1.0]])
B_UP = torch.tensor([0.0, 10.0, 0.0])
X = torch.tensor([[4.0, 3.0, -1.0], [1.0, -2.0, 4.0]])
# By hand: a = (5.5, 2) and (-2.5, -3), so z = (5.5, 2) and (0, 0).
CHANGE = torch.tensor([[5.5, 23.0, -2.0], [0.0, 10.0, 0.0]])
H = X + CHANGE
# What W_up a + b_up would be, without ReLU.
LINEAR = torch.tensor([[5.5, 23.0, -2.0], [-2.5, 2.0, 3.0]])


def _set(layer: Any) -> Any:
    """Puts the known numbers in, in eval mode."""
    down, up = layer.down_project, layer.up_project
    with torch.no_grad():
        for target, value in zip(
            (down.weight, down.bias, up.weight, up.bias), (DOWN, B_DOWN, UP, B_UP), strict=True
        ):
            target.copy_(value)
    return layer.eval()


def _up(z: Tensor) -> Tensor:
    return z @ UP.T + B_UP


class _Erase(nn.Module):
    """A dropout that drops everything."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def forward(answer: Any) -> str:
    """The output by hand, σ and dropout of the adapter's own, dimensions, gradients, bfloat16."""
    layer, x = _set(answer(3, 2, hidden_act="relu")), X.clone()
    got = layer(x)
    expect(torch.equal(x, X), "x was changed in place; return a new tensor")
    expect_close(
        got,
        H,
        "the output",
        diagnose=[
            (CHANGE, "x is missing: the way around the bottleneck is not there"),
            (X, "the adapter's change is missing: x comes back as it was"),
            (X + LINEAR, "σ is missing between the two layers"),
            (X + LINEAR.relu(), "σ is after the upper layer; it belongs in the bottleneck"),
            (H.relu(), "σ is applied to the sum; it belongs in the bottleneck"),
            (X + CHANGE.relu(), "σ is applied twice; the upper layer's output has none"),
            (X + _up((X.relu() @ DOWN.T + B_DOWN).relu()), "σ is applied to x as well"),
            (X + H, "x counts twice"),
            (X - CHANGE, "the change is subtracted; it is added"),
        ],
    )
    _sigma_and_dropout(_set(answer(3, 2, hidden_act="sigmoid")))
    expect_close(layer(X.view(2, 1, 3)), H.view(2, 1, 3), "for x of shape (2, 1, 3) the output")
    _gradients(layer)
    half = torch.bfloat16
    try:
        low = layer(X.to(half))
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        message = "with x in bfloat16 and a float32 adapter your forward raises: "
        raise Wrong(f"{message}{first}\nbring x to the weights' dtype first") from None
    expect(isinstance(low, Tensor) and low.dtype == half, f"bfloat16 in, {describe(low)} out")
    kept = all(p.dtype == torch.float32 for p in layer.parameters())
    expect(kept, "your forward changes the dtype of the adapter's parameters")
    return "h by hand with ReLU and sigmoid, the place of dropout, dimensions, gradients, bfloat16"


def _sigma_and_dropout(layer: Any) -> None:
    """σ is the adapter's, and dropout acts in the bottleneck, after σ."""
    a = X @ DOWN.T + B_DOWN
    expect_close(
        layer(X),
        X + _up(a.sigmoid()),
        "with hidden_act='sigmoid' the output",
        diagnose=[
            (H, "σ is written down as ReLU; it is `self.activation`"),
            (X + _up(nn.functional.gelu(a)), "σ is written down as GELU; it is `self.activation`"),
        ],
    )
    layer.dropout = _Erase()
    expect_close(
        layer(X),
        X + B_UP,
        "with everything dropped the output",
        diagnose=[
            (X + _up(a.sigmoid()), "dropout is not applied"),
            (X, "dropout is on the upper layer's output; it belongs in the bottleneck"),
            (torch.zeros(2, 3), "dropout is on the sum; it belongs in the bottleneck"),
            (X + _up(B_DOWN.sigmoid()), "dropout is on x; it belongs in the bottleneck"),
            (X + _up(torch.full((2,), 0.5)), "dropout is before σ; it comes after it"),
        ],
    )


def _gradients(layer: nn.Module) -> None:
    x = X.clone().requires_grad_()
    output = layer(x)
    expect(output.requires_grad, "no gradient reaches the adapter: a detach, .data or no_grad")
    layer.zero_grad()
    output.sum().backward()
    for name, p in layer.named_parameters():
        expect(p.grad is not None and (p.grad != 0).any(), f"{name} receives no gradient")
    # ∂(sum of h)/∂x = 1 + (W_upᵀ 1 ⊙ σ'(a)) W_down; by hand (1 + 3, 1 + 0, 1 - 3) for the first.
    want = torch.tensor([[4.0, 1.0, -2.0], [1.0, 1.0, 1.0]])
    told = "the gradient of x, which the layers below learn from,"
    none = x.grad is None or not (x.grad != 0).any()
    expect(not none, f"{told} is missing: a detach, or .data")
    expect_close(x.grad, want, told, diagnose=[(want - 1, "the way around is detached")])


def after(answer: Any) -> str:
    """A(y), whatever x is."""
    layer = _set(answer(3, 2, hidden_act="relu"))
    x = torch.tensor([[2.0, 1.0, 0.0], [0.0, 5.0, 1.0]])
    a_of_x = x + _up((x @ DOWN.T + B_DOWN).relu())
    both = x + X
    expect_close(
        layer.after(x, X),
        H,
        "the output",
        diagnose=[
            (a_of_x, "that is the adapter on x, the frozen layer's input; its output y is asked"),
            (X, "the adapter is missing: y comes back as it was"),
            (X + H, "y counts twice: the adapter's forward adds it already"),
            (CHANGE, "y is missing: only the adapter's change is returned"),
            (x + H, "x is added; the block around adds what it wants to add"),
            (X + a_of_x, "that is y + A(x); asked is A(y)"),
            (both + _up((both @ DOWN.T + B_DOWN).relu()), "that is A(x + y); asked is A(y)"),
        ],
    )
    wide = torch.ones(2, 12)
    expect_close(layer.after(wide, X), H, "for a layer from 12 to 3 the output")
    return "A(y) by hand, for a square layer and for one from 12 to 3"


def block(answer: Any) -> str:
    """The block by hand, with functions in the place of layers.

    x = (1, 2): norm₁ (0, 1), attention (4, 3), A₁ (20, 15), x' = (21, 17);
    norm₂ (14, 10), mlp (196, 100), A₂ (392, 200), out (413, 217).
    """

    def attention(t: Tensor) -> Tensor:
        return t.flip(-1) + 3

    def mlp(t: Tensor) -> Tensor:
        return t * t

    def n1(t: Tensor) -> Tensor:
        return t - 1

    def n2(t: Tensor) -> Tensor:
        return t - 7

    def a1(t: Tensor) -> Tensor:
        return 5 * t

    def a2(t: Tensor) -> Tensor:
        return 2 * t

    start = torch.tensor([[1.0, 2.0]])
    x = start.clone()
    got = answer(x, attention, mlp, n1, n2, a1, a2)
    expect(torch.equal(x, start), "x was changed in place; return a new tensor")

    def known(first: Any, second: Any) -> Tensor:
        """The block in which a sublayer and its adapter are put together in another way."""
        out: Tensor = second(first(start, attention, n1, a1), mlp, n2, a2)
        return out

    def frozen(t: Tensor, f: Any, n: Any, a: Any) -> Any:
        return t + f(n(t))

    def right(t: Tensor, f: Any, n: Any, a: Any) -> Any:
        return t + a(f(n(t)))

    def between(t: Tensor, f: Any, n: Any, a: Any) -> Any:
        return a(t + f(n(t)))

    def early(t: Tensor, f: Any, n: Any, a: Any) -> Any:
        return t + f(a(n(t)))

    def first_of_all(t: Tensor, f: Any, n: Any, a: Any) -> Any:
        return t + f(n(a(t)))

    def beside(t: Tensor, f: Any, n: Any, a: Any) -> Any:
        return t + f(n(t)) + a(n(t))

    def twice(t: Tensor, f: Any, n: Any, a: Any) -> Any:
        return t + f(n(t)) + a(f(n(t)))

    plain = known(frozen, frozen)
    exchanged = start + a2(attention(n1(start)))
    expect_close(
        got,
        torch.tensor([[413.0, 217.0]]),
        "the output",
        diagnose=[
            (plain, "no adapter is used: this is the frozen block"),
            (known(between, between), "the adapters are on the stream, after the sum"),
            (a2(a1(plain)), "the adapters are behind the block, not in it"),
            (a2(plain), "one adapter is behind the block, and the other is not used"),
            (known(early, early), "the adapters are before the sublayers; they come after them"),
            (known(first_of_all, first_of_all), "the adapters are before the norms"),
            (known(beside, beside), "the adapters are beside the sublayers, on the same input"),
            (known(twice, twice), "the sublayer's output counts twice: A(y) has y in it"),
            (known(right, frozen), "adapter_2 is not used"),
            (known(frozen, right), "adapter_1 is not used: that is Pfeiffer's place"),
            (known(right, between), "adapter_2 is on the stream, after the sum"),
            (known(between, right), "adapter_1 is on the stream, after the sum"),
            (exchanged + a1(mlp(n2(exchanged))), "the two adapters are exchanged"),
        ],
    )
    return "out = x' + A₂(mlp(norm₂(x'))) with x' = x + A₁(attention(norm₁(x))), by hand"
