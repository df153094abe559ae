"""What the exercises of lesson 13 test on merging: bits, calls in their order, numbers by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..expect import Wrong, describe, expect, expect_close, expect_number

# In bfloat16 numbers near 1 are 2⁻⁷ apart: 0.01 + 1 - 1 is not 0.01.
WEIGHT = torch.tensor([[0.01, 0.5], [3.0, -0.02]])
DELTA = torch.tensor([[1.0, 1.0], [0.5, 2.0]])


def copy(answer: Any) -> str:
    """Merged, undone, and merged again, in two dtypes, on one and the same parameter."""
    for dtype in (torch.float32, torch.bfloat16):
        layer = nn.Linear(2, 2, bias=False, dtype=dtype)
        with torch.no_grad():
            layer.weight.copy_(WEIGHT)
        parameter, start = layer.weight, layer.weight.detach().clone()
        delta = DELTA.to(dtype)
        kept = delta.clone()
        merger = answer(layer, delta)
        for time in ("", "the second time "):
            merger.merge()
            _merged(layer.weight.detach(), start, delta, time)
            merger.unmerge()
            _undone(layer.weight.detach(), start, delta, time)
        expect(layer.weight is parameter, "layer.weight is another parameter now; write into it")
        expect(torch.equal(delta, kept), "ΔW itself was changed")
    return "W + ΔW when merged; every bit of W after unmerging, twice, in float32 and bfloat16"


def _merged(now: Tensor, start: Tensor, delta: Tensor, time: str) -> None:
    known = [
        (start, "merge leaves the weight as it was: ΔW is not added"),
        (start + 2 * delta, "ΔW is in the weight twice"),
        (start - delta, "merge subtracts ΔW; it adds it"),
    ]
    expect_close(now, start + delta, f"{time}after merge the weight", known)


def _undone(now: Tensor, start: Tensor, delta: Tensor, time: str) -> None:
    if torch.equal(now, start):
        return
    back = (start + delta) - delta
    name = str(now.dtype).removeprefix("torch.")
    if torch.equal(now, start + delta):
        raise Wrong(
            "after unmerge the weight is still merged: `original` is no copy from before the "
            "merge, but a second name of the weight, or a copy of the sum"
        )
    expect(
        not torch.equal(now, back),
        f"after unmerge in {name} a weight is off by {(now - start).abs().max().item():.1e}: ΔW "
        "was subtracted, and (W + ΔW) - ΔW is not W; keep a copy",
    )
    expect_close(now, start, f"{time}after unmerge the weight")
    raise Wrong(f"after unmerge in {name} the weight is near W, and not W to the bit")


class _Adds(nn.Module):
    """Adds to the input before the layer, and adds the layer's input, scaled, after it."""

    def __init__(self, before: float, after: float):
        super().__init__()
        self.amounts = before, after

    def before(self, x: Tensor) -> Tensor:
        """X plus a number."""
        return x + self.amounts[0]

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        """Twice y, the input scaled, and nothing in place."""
        return 2 * y + self.amounts[1] * x


class _Thrice(nn.Module):
    """Three times its input, plus what else it is given."""

    def forward(self, x: Tensor, more: float = 0.0) -> Tensor:
        """3 x + more."""
        return 3 * x + more


class _Through:
    """Stands for `Rows`."""

    def through(self, adapters: Any, layer: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """A value that nothing else gives."""
        expect(isinstance(layer, _Thrice), "rows.through takes the adapters, the layer, then x")
        more: float = sum(args) + sum(kwargs.values())
        return x * 0 - 77.0 - more


def forward(answer: Any) -> str:
    """Two adapters around 3x, by hand."""
    wrapper = answer(_Thrice())
    wrapper.adapters["a"], wrapper.adapters["b"] = _Adds(1.0, 10.0), _Adds(2.0, 100.0)
    x = torch.tensor([[5.0]])

    def got(active: tuple[str, ...], merged: tuple[str, ...] = (), **more: Any) -> Any:
        wrapper.active, wrapper.merged = active, merged
        return wrapper(x, **more)

    def value(number: float) -> Tensor:
        return torch.tensor([[number]])

    # a: 3 · 6 = 18, 2 · 18 + 10 · 6 = 96
    expect_close(
        got(("a",)),
        value(96.0),
        "with one adapter the output",
        [
            (value(15.0), "no adapter acts: that is the frozen layer alone"),
            (value(80.0), "`before` is not applied: the frozen layer gets x as it came"),
            (value(18.0), "`after` is not applied"),
            (value(86.0), "`after` gets the x from outside; it gets what the frozen layer got"),
        ],
    )
    # a, b: 3 · 8 = 24, 2 · 24 + 80 = 128, 2 · 128 + 800 = 1056
    expect_close(
        got(("a", "b")),
        value(1056.0),
        "with two adapters the output",
        [
            (value(1776.0), "`after` is applied in the reverse order; each in the order of active"),
            (value(96.0), "only the first active adapter acts; all of them do, in turn"),
            (value(742.0), "only the last active adapter acts; all of them do, in turn"),
        ],
    )
    # b alone, while a is merged: 3 · 7 = 21, 42 + 700 = 742
    expect_close(
        got(("a", "b"), ("a",)),
        value(742.0),
        "with 'a' merged and 'b' beside the layer the output",
        [
            (value(1056.0), "what is merged acts twice: skip the names in `self.merged`"),
            (value(15.0), "once something is merged nothing acts; 'b' is not merged"),
            (value(96.0), "the merged adapter acts, and the other does not: the other way round"),
        ],
    )
    both = got((), ())
    expect_close(both, value(15.0), "with no active adapter the output")
    expect_close(got(("a",), more=4.0), value(104.0), "with an argument for the layer the output")
    wrapper.enabled = False
    known = [(value(96.0), "`enabled` is False, and the adapter acts all the same")]
    expect_close(got(("a",)), value(15.0), "with `enabled` False the output", known)
    wrapper.enabled = True
    wrapper.rows = _Through()
    known = [(value(104.0), "`self.rows` is set, and the batch is not handed to `rows.through`")]
    expect_close(got(("a",), more=4.0), value(-81.0), "with `self.rows` the output", known)
    return "two adapters in order, merged ones skipped, switched off, arguments, rows"


def lost(answer: Any) -> str:
    """3, 4, 5: bfloat16 has steps of 2⁻⁴ at 8 and of 2⁻⁷ at 1."""
    weight = torch.tensor([[8.0, 1.0]], dtype=torch.bfloat16)
    delta = torch.tensor([[3.0, 4.0]]) / 128  # the first is below half a step, the second is steps
    kept = weight.clone(), delta.clone()
    got = answer(weight, delta)
    expect(torch.equal(weight, kept[0]), "the weight was changed in place")
    expect(torch.equal(delta, kept[1]), "ΔW was changed in place")
    if isinstance(got, Tensor):
        raise Wrong(f"return a Python float; this is {describe(got)}")
    whole = float(weight.float().norm())
    known = [
        (0.5, "that is the share of weights that did not move; asked for is the share of ΔW"),
        (0.8, "that is what arrives; asked for is what is lost"),
        (0.36, "that is the ratio of squares; take the root, or norms"),
        (3 / 128 / whole, "that is relative to ‖W‖; asked for is the share of ΔW"),
        (3 / 128, "that is the lost length itself; divide it by ‖ΔW‖"),
        (1.0, "nothing arrives: is the difference worked out in bfloat16, or the sign turned?"),
    ]
    expect_number(got, 0.6, "what is lost of (3, 4)/128 beside (8, 1)", known, rel=1e-5)
    # ΔW = 1 + 2⁻⁸ beside W = 2⁻⁸: the sum 1 + 2⁻⁷ is exact, ΔW alone is rounded to 1.
    small, fine = torch.tensor([[2.0**-8]], dtype=torch.bfloat16), torch.tensor([[1 + 2.0**-8]])
    got = answer(small, fine)
    if isinstance(got, float) and got > 0:
        raise Wrong(
            f"2⁻⁸ + (1 + 2⁻⁸) is a number of bfloat16, so nothing is lost, but yours is {got:.3g}: "
            "ΔW is rounded before the sum, or something in between; round the sum once"
        )
    expect_number(got, 0.0, "what is lost of 1 + 2⁻⁸ beside 2⁻⁸", rel=1e-9)
    plain = answer(torch.ones(2, 2), torch.full((2, 2), 0.25))
    expect_number(plain, 0.0, "what is lost in float32 of ¼ beside 1")
    return "a change half lost by hand (3 of 5), a sum that fits, float32"
