"""What checks are made of: compare, and say what kind of wrong it is before saying "wrong".

A check knows the right value by hand, by algebra or by autograd, and hands both to `expect_close`.
Before the general message come the mistakes that have a name: the ones the exercise lists, a
missing return, a transpose, a constant factor, a sign, NaN, another dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

RTOL, ATOL = 1e-4, 1e-6  # float32 sums of a few dozen terms agree to about 1e-6


class Wrong(Exception):
    """The answer is wrong; the message names the mistake."""


def expect(condition: object, message: str) -> None:
    """Nothing if `condition` holds.

    Raises:
        Wrong: with `message`, otherwise.
    """
    if not condition:
        raise Wrong(message)


def safe(to_text: Callable[[Any], str], value: Any) -> str:
    """The first line of `str(value)` or `repr(value)`, also when that raises."""
    try:
        return (to_text(value).strip() or "").partition("\n")[0]
    except Exception:  # a learner's class may define __repr__, and define it wrongly
        return f"<{type(value).__name__}>"


def describe(value: Any) -> str:
    """A value in few words: tensors by shape and dtype, the rest by type and repr."""
    if isinstance(value, Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        return f"a tensor of shape {tuple(value.shape)}, {dtype}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    text = safe(repr, value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def number(value: float) -> str:
    """A number to four digits, integers whole: 16,777,216 and 0.3333."""
    if isinstance(value, int) or (math.isfinite(value) and value == int(value) and value < 1e15):
        return f"{int(value):,}"
    return f"{value:.4g}"


def _list(t: Tensor) -> str:
    if t.dim() == 0:
        return number(t.item())
    return "[" + ", ".join(_list(row) for row in t) + "]"


def _same(got: Tensor, want: Tensor, rtol: float = RTOL, atol: float = ATOL) -> bool:
    if got.shape != want.shape:
        return False
    return torch.allclose(got.double(), want.double(), rtol=rtol, atol=atol)


def expect_close(
    got: Any,
    want: Tensor,
    what: str,
    diagnose: Sequence[tuple[Any, str]] = (),
    factors: Mapping[float, str] | None = None,
    rtol: float = RTOL,
    atol: float = ATOL,
) -> None:
    """Nothing if `got` equals `want` in shape, values and dtype.

    Args:
        got: the learner's value.
        want: the right one, small enough to be printed.
        what: the name of the value, "the output" or "ΔW"; it starts the message.
        diagnose: pairs (value that a known mistake gives, message that names the mistake).
        factors: {factor: the mistake that gives the right value times this factor}.
        rtol, atol: as in `torch.allclose`.

    Raises:
        Wrong: with the first message that fits.
    """
    if got is None:
        raise Wrong(f"{what} is None: is there a `return`?")
    if not isinstance(got, Tensor):
        raise Wrong(f"{what} should be {describe(want)}, but it is {describe(got)}")
    got, want = got.detach(), want.detach()
    if _same(got, want, rtol, atol):
        if got.dtype != want.dtype:
            raise Wrong(f"{what} has the right values in another dtype: {describe(got)}")
        return
    for value, message in diagnose:
        if isinstance(value, Tensor) and _same(got, value.detach(), rtol, atol):
            raise Wrong(message)
    _shapes(got, want, what)
    if not got.isfinite().all():
        raise Wrong(f"{what} holds NaN or infinity: {_list(got) if got.numel() <= 8 else ''}")
    _ratio(got.double(), want.double(), what, factors or {}, rtol, atol)
    raise Wrong(_difference(got.double(), want.double(), what, rtol, atol))


def _shapes(got: Tensor, want: Tensor, what: str) -> None:
    if got.shape == want.shape:
        if want.dim() == 2 and want.shape[0] == want.shape[1] and _same(got, want.T):
            raise Wrong(f"{what} is transposed")
        return
    if want.dim() == 2 and _same(got, want.T):
        raise Wrong(f"{what} is transposed: {tuple(got.shape)} instead of {tuple(want.shape)}")
    raise Wrong(f"{what} has shape {tuple(got.shape)}; asked for is {tuple(want.shape)}")


def _ratio(
    got: Tensor, want: Tensor, what: str, factors: Mapping[float, str], rtol: float, atol: float
) -> None:
    """Raises Wrong if got = k · want for one number k."""
    size = (want * want).sum()
    if size == 0:
        return
    k = float((got * want).sum() / size)
    if not _same(got, k * want, rtol, atol):
        return
    if abs(k) < 1e-9:
        raise Wrong(f"{what} is zero everywhere")
    why = next((f": {text}" for f, text in factors.items() if abs(k / f - 1) < 1e-3), "")
    if abs(k + 1) < 1e-3:
        raise Wrong(f"{what} has the wrong sign{why}")
    sign = " and has the wrong sign" if k < 0 else ""
    times = f"{abs(k):.4g}" if abs(k) >= 1 else f"{1 / abs(k):.4g}"
    times += "" if "." in times or "e" in times else ".0"
    raise Wrong(f"{what} is {times} times too {'large' if abs(k) > 1 else 'small'}{sign}{why}")


def _difference(got: Tensor, want: Tensor, what: str, rtol: float, atol: float) -> str:
    if want.numel() <= 6:
        return f"{what} is {_list(got)}; it should be {_list(want)}"
    off = (got - want).abs() > atol + rtol * want.abs()
    flat = int((got - want).abs().argmax())
    at = [int(i) for i in torch.unravel_index(torch.tensor(flat), want.shape)]
    here = f"{number(got.flatten()[flat].item())} instead of {number(want.flatten()[flat].item())}"
    return f"{what} is off in {int(off.sum())} of {want.numel()} entries; at {at} it is {here}"


def expect_number(
    got: Any, want: float, what: str, diagnose: Sequence[tuple[float, str]] = (), rel: float = 1e-9
) -> None:
    """Nothing if the number `got` equals `want`.

    Args:
        got: the learner's number.
        want: the right one.
        what: its name, starts the message.
        diagnose: pairs (number that a known mistake gives, message that names the mistake).
        rel: relative tolerance.

    Raises:
        Wrong: with the first message that fits.
    """
    if got is None:
        raise Wrong(f"{what} is None: is there a `return`?")
    if isinstance(got, Tensor) and got.numel() == 1:
        got = got.item()
    if isinstance(got, bool) or not isinstance(got, int | float):
        raise Wrong(f"{what} should be a number, but it is {describe(got)}")
    if math.isclose(got, want, rel_tol=rel):
        return
    for value, message in diagnose:
        if math.isclose(got, value, rel_tol=max(rel, 1e-6)):
            raise Wrong(message)
    ratio = f", {number(got / want)} times as much as asked" if want and got > 0 else ""
    raise Wrong(f"{what} is {number(got)}{ratio}")
