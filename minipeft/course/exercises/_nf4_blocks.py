"""What the exercises of lesson 11 test on blocks: the round trip, the bits, the choice."""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from torch import Tensor

from ...layers.quant import dequantize, quantize
from ..expect import Wrong, describe, expect, expect_close, expect_number
from ._nf4 import NF4

BUDGET = 4.3
TYPES = ("nf4", "fp4", "int4")
SIZES = [2**i for i in range(4, 13)]


def _by_hand(blocks: list[list[float]], scales: list[float], side: str = "near") -> Tensor:
    """Number by number: the nearest level, the one below or the one above, times the scale."""
    out = []
    for row, a in zip(blocks, scales, strict=True):
        for w in row:
            below = NF4[w / a + 1e-6 >= NF4]
            above = NF4[w / a - 1e-6 <= NF4]
            near = NF4[(NF4 - w / a).abs().argmin()]
            low = below[-1] if len(below) else NF4[0]
            high = above[0] if len(above) else NF4[-1]
            out.append({"near": near, "below": low, "above": high}[side] * a)
    return torch.stack(out)


W = [0.5, -1.0, 0.1, 2.0, -8.0, 4.0, 0.4, 2.0]
ROWS = [W[:4], W[4:]]
PAIRS = [W[:2], W[2:4], W[4:6], W[6:]]


def _bugs() -> list[tuple[Tensor, str]]:
    """What each bug of the exercise gives, and each two of them, and all three."""
    said = {
        "pairs": "with blocksize 4 two weights share a scale: rows are blocks, `view(-1, ...)`",
        "signed": "a block with -8 and 4 has the scale 8, not 4: the size counts",
        "above": "each goes to the level above it, not the nearest",
    }
    found = []
    for pairs, signed, above in product((False, True), repeat=3):
        blocks = PAIRS if pairs else ROWS
        scales = [max(row) if signed else max(map(abs, row)) for row in blocks]
        messages = [said[b] for b, on in zip(said, (pairs, signed, above), strict=True) if on]
        if messages:
            value = _by_hand(blocks, scales, "above" if above else "near")
            found.append((value, "; and ".join(messages)))
    return found


def rounded(answer: Any) -> str:
    """Two blocks of four by hand, blocks of 64, zeros."""
    given = torch.tensor(W)
    got = answer(given.clone(), 4)
    columns = [[0.5, 0.1, -8.0, 0.4], [-1.0, 2.0, 4.0, 2.0]]
    strided = _by_hand(columns, [8.0, 4.0]).view(2, 4).T.flatten()
    wanted = _by_hand(ROWS, [2.0, 8.0])
    known = [
        *_bugs(),
        (strided, "every second weight shares a scale; neighbours should"),
        (_by_hand(ROWS, [2.0, 8.0], "below"), "each goes to the level below it, not the nearest"),
        (_by_hand(ROWS, [8.0, 8.0]), "both blocks have one scale, that of the whole tensor"),
        (
            wanted / torch.tensor([2.0] * 4 + [8.0] * 4),
            "the scale is missing on the way back: these are the levels",
        ),
    ]
    expect_close(got, wanted, "the weights in blocks of 4", diagnose=known)
    many = torch.linspace(-3, 3, 128)
    first, second = many[:64].tolist(), many[64:].tolist()
    expect_close(answer(many), _by_hand([first, second], [3.0, 3.0]), "with the default, 64,")
    try:
        none = answer(torch.zeros(8), 4)
    except Exception as error:  # 0/0 has a code that no table has
        raise Wrong(f"a block of zeros raises {type(error).__name__}: {error}") from None
    expect(isinstance(none, Tensor) and not none.isnan().any(), "a block of zeros gives NaN: 0/0")
    expect_close(none, torch.zeros(8), "a block of zeros")
    return "two blocks of 4 by hand, two of 64, and zeros that stay zero"


def bits(answer: Any) -> str:
    """Four bits in blocks of 32 and 64, and others."""
    known = [
        (4, "the scales are missing: each block of 32 has one of 32 bits"),
        (4.5, "that is scales of 16 bits; they have 32"),
        (4.25, "that is 8 bits for each scale; without double quantization it is 32"),
        (36, "32 bits are added to each weight; 32 weights share them"),
        (4 + 32 / 256, "256 is for the scales of the scales; a block has `blocksize` weights"),
        (5 / 8, "that is bytes; asked for are bits"),
        (4 * 32 + 32, "that is a whole block of 32 weights; asked for is one weight"),
    ]
    expect_number(answer(4, 32, False), 5, "the cost of plain blocks of 32", known)
    expect_number(answer(4, 64, False), 4.5, "the cost of plain blocks of 64")
    known = [
        (4.5, "with double quantization the scales have 8 bits, not 32"),
        (4.125, "the scales of the scales are missing: 32 bits for each 256 scales"),
        (4 + 8 / 64 + 32 / 256, "256 *scales* share 32 bits: that is 256 · blocksize weights"),
        (4 + 40 / 64, "a scale has 8 bits, and only each 256 of them another 32"),
        (4.5 + 32 / (256 * 64), "the 32-bit scales are counted still; now they have 8 bits"),
        (4.5 + 8 / 64 + 32 / (256 * 64), "the 32-bit scales are counted still, beside the 8-bit"),
        (4 + 32 / (256 * 64), "the 8-bit scales are missing: each block of 64 has one"),
    ]
    expect_number(answer(4, 64, True), 4.126953125, "the cost with double quantization", known)
    expect_number(answer(2, 32, True), 2.25390625, "2 bits in blocks of 32, doubly, it")
    expect_number(answer(8, 128, False), 8.25, "8 bits in blocks of 128 it")
    return "5 bits for blocks of 32, 4.5 and 4.127 for blocks of 64; k = 2 and k = 8"


def tailed() -> Tensor:
    """Normal, and one weight in a hundred is five times as large."""
    g = torch.Generator().manual_seed(11)
    w = torch.randn(256, 256, generator=g)
    return torch.where(torch.rand(256, 256, generator=g) < 0.01, 5 * w, w)


def even() -> Tensor:
    """Uniform in [-1, 1]."""
    return 2 * torch.rand(256, 256, generator=torch.Generator().manual_seed(12)) - 1


def cost(blocksize: int, double: bool) -> float:
    """Bits per weight."""
    return 4 + (8 / blocksize + 32 / (256 * blocksize) if double else 32 / blocksize)


def error(w: Tensor, choice: tuple[str, int, bool]) -> float:
    """The relative rms error."""
    return float((w - dequantize(quantize(w, *choice))).norm() / w.norm())


def _choice(answer: dict[Any, Any], name: str) -> tuple[str, int, bool]:
    """One of the two choices, if it is well formed."""
    given = answer[name]
    form = f"{name}: give (type, block size, double_quant), such as ('nf4', 64, False)"
    expect(isinstance(given, tuple | list) and len(given) == 3, f"{form}; not {describe(given)}")
    kind, size, double = given
    expect(kind in TYPES, f"{name}: the type is one of {', '.join(TYPES)}; not {describe(kind)}")
    expect(
        type(size) is int and size in SIZES,
        f"{name}: the block size is a power of two from 16 to 4096; not {describe(size)}",
    )
    expect(isinstance(double, bool), f"{name}: double_quant is True or False, not {double!r}")
    return kind, size, double


def choose(answer: Any) -> str:
    """Within the budget, the right type, and the smallest block that the budget allows."""
    expect(isinstance(answer, dict), f"give a dictionary; this is {describe(answer)}")
    data = {"tailed": tailed(), "even": even()}
    said = sorted(map(str, answer))
    expect(set(answer) == set(data), f"the keys are tailed and even; these are {said}")
    for name, w in data.items():
        kind, size, double = _choice(answer, name)
        bits = cost(size, double)
        way = "with" if double else "without"
        expect(
            bits <= BUDGET,
            f"{name}: blocks of {size} {way} double quantization cost {bits:.3f} bits per weight; "
            f"{BUDGET} are allowed",
        )
        mine = error(w, (kind, size, double))
        types = {other: error(w, (other, size, double)) for other in TYPES}
        expect(
            mine == min(types.values()),
            f"{name}: {kind} leaves an error of {mine:.3f} with these blocks; another type of four "
            f"bits leaves less on data of this shape",
        )
        fits = [c for c in product([kind], SIZES, (False, True)) if cost(*c[1:]) <= BUDGET]
        least = min(error(w, c) for c in fits)
        why = (
            "a smaller block fits into the budget"
            if double
            else "with the scales quantized too, a smaller block fits into the budget"
        )
        expect(mine <= least * 1.001, f"{name}: the error is {mine:.4f}; {why}")
    return "4.254 bits each; NF4 where the data are normal with tails, INT4 where they are even"
