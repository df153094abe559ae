"""What the exercises of lesson 11 test on levels, codes and bytes.

The levels are derived here a second time, in double precision by `statistics.NormalDist`; codes and
bytes are worked by hand.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

from ..expect import Wrong, describe, expect, expect_close

quantile = NormalDist().inv_cdf
# float32 spacing of the probabilities moves a level of NF8 by up to 1e-5.
ATOL = 2e-5


def half(p: float, steps: int) -> list[float]:
    """Quantiles at `steps` probabilities from one step above ½ up to p."""
    return [quantile(0.5 + (p - 0.5) * i / steps) for i in range(1, steps + 1)]


def halves(bits: int, p: float | None = None, more_negative: bool = False) -> Tensor:
    """The levels, not divided yet: n/2 - 1 negative, zero, n/2 positive."""
    n = 2**bits
    p = p or 1 - (1 / (2 * n) + 1 / (2 * (n - 1))) / 2
    few, many = half(p, n // 2 - 1), half(p, n // 2)
    negative, positive = (many, few) if more_negative else (few, many)
    return torch.tensor([-v for v in reversed(negative)] + [0.0] + positive)


def divided(table: Tensor) -> Tensor:
    """Divided by the largest."""
    return table / table.max()


NF4 = divided(halves(4))


def _evenly(bits: int, m: int) -> list[float]:
    """m probabilities from ½ + 1/n to the largest."""
    n = 2**bits
    low, p = 0.5 + 1 / n, 1 - (1 / (2 * n) + 1 / (2 * (n - 1))) / 2
    return [low + (p - low) * i / (m - 1) for i in range(m)] if m > 1 else [low]


def _known(bits: int) -> list[tuple[Tensor, str]]:
    """Tables that a known mistake gives."""
    n = 2**bits
    middles = divided(torch.tensor([quantile((i + 0.5) / n) for i in range(n)]))
    swapped = halves(bits, more_negative=True)
    table, low = divided(halves(bits)), n // 2 - 1
    turned = torch.cat([table[:low].flip(0), table[low:]])
    above = [[quantile(v) for v in _evenly(bits, m)] for m in (n // 2, n // 2 - 1)]
    inside = torch.tensor([*(-v for v in reversed(above[1])), 0.0, *above[0]])
    return [
        (middles, "there is no zero among them: each half needs its own spacing, down to ½"),
        (torch.linspace(-1, 1, n), "the levels are evenly spaced; the probabilities should be"),
        (halves(bits), "the levels are not divided by the largest: they go beyond 1"),
        (divided(halves(bits)).flip(0), "the levels descend; asked for is ascending"),
        (turned, "the negative half descends: turn it round, so that all levels ascend"),
        (
            divided(inside),
            "the lowest probability of a half is ½ + 1/n; it is one of the even steps from ½ to p",
        ),
        (divided(swapped), f"the halves are swapped: {n // 2} positive levels, {n // 2 - 1} below"),
        (
            divided(halves(bits, 1 - 1 / (2 * n))),
            "the largest probability is 1 - 1/(2n); `largest_probability(bits)` was asked",
        ),
    ]


def normal_float(answer: Any) -> str:
    """NF2 by hand, NF4 and NF8 by a second derivation."""
    for bits in (2, 4, 8):
        n, what = 2**bits, f"for bits={bits} the table"
        got = answer(bits)
        want = divided(halves(bits))
        if not isinstance(got, Tensor):
            raise Wrong(f"{what} should be {describe(want)}, but it is {describe(got)}")
        expect(not got.isinf().any(), "a level is infinite: Φ⁻¹(0) and Φ⁻¹(1) are; end before them")
        expect(not got.isnan().any(), f"{what} holds NaN: inf / inf, or Φ⁻¹ outside 0 to 1")
        zeros = int((got == 0).sum())
        expect(zeros < 2, f"{what} has {zeros} zeros: leave ½ out of both halves, and add one zero")
        if got.shape != (n,):
            size = f"{tuple(got.shape)}" if got.dim() != 1 else f"{len(got)}"
            raise Wrong(f"{what} has {size} levels; {n // 2 - 1} + 1 + {n // 2} = {n} are asked")
        expect_close(got, want, what, diagnose=_known(bits), atol=ATOL)
        expect(got[n // 2 - 1] == 0, f"{what} has {got[n // 2 - 1]:.1g} where zero should be exact")
        expect(
            got.abs().max() == 1, f"{what} ends at {got.abs().max():.8g}; it should be 1 exactly"
        )
    return "NF2, NF4 and NF8 against a second derivation; 7 + 1 + 8 levels, zero and ±1 exact"


# Worked by hand: NF4 has ... 5: -0.1848, 6: -0.0911, 7: 0, 8: 0.0796, 9: 0.1609 ...
SCALED = [0.25, -0.5, 0.07, -0.11, 0.03, 1.0, 0.0, -1.0]
NEAREST = [10, 2, 8, 6, 7, 15, 7, 0]
BELOW = [10, 2, 7, 5, 7, 15, 7, 0]
ABOVE = [11, 3, 8, 6, 8, 15, 7, 0]


def codes(values: list[int]) -> Tensor:
    """As uint8, (n,)."""
    return torch.tensor(values, dtype=torch.uint8)


def nearest(answer: Any) -> str:
    """Eight numbers in NF4, four in INT4, four in the 8-bit type of the scales."""
    given = torch.tensor(SCALED)
    got = answer(given.clone(), "nf4")
    wanted = codes(NEAREST)
    signed = torch.tensor(NEAREST) - 7
    known = [
        (codes(BELOW), "each goes to the level below it; 0.07 is nearer to 0.0796 than to 0"),
        (codes(ABOVE), "each goes to the level above it; 0.03 is nearer to 0 than to 0.0796"),
        (NF4[wanted.long()], "these are the levels; asked for are their numbers, from 0 to 15"),
        (signed, "zero has the code 0 and others are negative; count from the lowest level"),
        (15 - wanted, "the codes are counted from the top: 1.0 has code 15, -1.0 has 0"),
        (wanted + 1, "the codes are one too large: they are counted from 0"),
        (
            ((given + 1) * 7.5).round().to(torch.uint8),
            "that is right for evenly spaced levels; NF4's are not",
        ),
    ]
    expect_close(got, wanted, "the codes of [0.25, -0.5, 0.07, -0.11, ...]", diagnose=known)
    few = torch.tensor([0.25, -0.45, 1.0, 0.05])  # times 7: 1.75, -3.15, 7, 0.35
    known = [(codes([10, 3, 15, 8]), "with 'int4' these are NF4's codes: use `quant_type`")]
    expect_close(answer(few, "int4"), codes([9, 4, 14, 7]), "with 'int4' the codes", diagnose=known)
    # 127 negative levels, zero, 128 positive; the largest are 0.993 and 1.
    many = torch.tensor([0.0, 1.0, -1.0, 0.994])
    expect_close(answer(many, "dynamic8"), codes([127, 255, 0, 254]), "with 'dynamic8' the codes")
    return "nearest levels of NF4, INT4 (15 levels) and the 8-bit type, by hand; uint8"


def pack(answer: Any) -> str:
    """Four bits, two bits, eight bits, by hand."""
    four = codes([10, 2, 8, 15])
    kept = four.clone()
    got = answer(four, 4)
    expect(torch.equal(four, kept), "`codes` was changed in place; return new bytes")
    wanted = codes([0xA2, 0x8F])
    known = [
        (codes([0x2A, 0xF8]), "the first code is in the low bits; it belongs in the high ones"),
        (codes([0xA8, 0x2F]), "halves of the tensor share a byte; neighbours should: [ab, cd]"),
        (codes([12, 23]), "the codes are added without a shift: both need bits of their own"),
        (codes([10, 10, 8, 143]), "the shift comes too late or too often: 16 · a + b"),
        (four, "the codes come back one to a byte; two share one"),
        (codes([10, 8]), "only the first code of each byte is there"),
        (wanted[:, None], "the bytes stand in a column; asked for is (n · bits / 8,)"),
    ]
    expect_close(got, wanted, "the bytes of [10, 2, 8, 15] in four bits", diagnose=known)
    two = codes([0, 1, 2, 3, 3, 3, 0, 1])
    always = codes([0x01, 0x23, 0x33, 0x01])
    known = [
        (always, "with bits=2 two codes share a byte; four do: 8 // bits"),
        (codes([0b11100100, 0b01001111]), "with bits=2 the order within a byte is turned round"),
    ]
    wanted = codes([0b00011011, 0b11110001])
    expect_close(answer(two, 2), wanted, "the bytes of two-bit codes", diagnose=known)
    expect_close(answer(four, 8), four, "the bytes of eight-bit codes")
    return "[10, 2, 8, 15] -> [162, 143] in four bits, eight two-bit codes in two bytes, eight bits"
