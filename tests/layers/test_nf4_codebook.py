"""The tables of levels, against bitsandbytes', the paper's, and a derivation of our own.

The derivation here uses no torch: the quantiles are those of `statistics.NormalDist`, in double
precision. Ours are spaced in float32, as bitsandbytes' are, and `close_to` says what that may move.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import pytest
import torch

from minipeft.checks.errors import ConfigError
from minipeft.layers.quant import codebook
from minipeft.layers.quant.blocks import quantize
from minipeft.layers.quant.codebook import (
    QUANT_TYPES,
    bits_of,
    byte_table,
    dynamic8,
    fp4,
    int4,
    largest_probability,
    levels,
    normal_float,
)

NORMAL = NormalDist()
BITS = {"nf4": 4, "fp4": 4, "int4": 4, "nf2": 2, "nf8": 8, "dynamic8": 8}
# Appendix E of the paper, as printed there.
PAPER = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
]  # fmt: skip


@pytest.fixture(scope="module")
def bnb() -> Any:
    """bitsandbytes' functions, the oracle."""
    return pytest.importorskip("bitsandbytes").functional


@pytest.fixture
def cold(monkeypatch: pytest.MonkeyPatch) -> None:
    """No table has been asked for yet."""
    monkeypatch.setattr(codebook, "_TABLES", {})


# --- the same as bitsandbytes' and the paper's ---------------------------------------------------


def test_nf4_is_bitsandbytes_table(bnb: Any):
    theirs = bnb.get_4bit_type("nf4", device="cpu")
    assert (normal_float() - theirs).abs().max() <= 1e-7  # what is asked for ...
    assert torch.equal(normal_float(), theirs)  # ... and what holds


def test_nf4_is_the_table_in_the_paper():
    assert normal_float().tolist() == PAPER  # float32 numbers, printed in full
    assert torch.equal(levels("nf4"), normal_float(4))


def test_fp4_is_bitsandbytes_table(bnb: Any):
    """Theirs is in the order of the bits, ours ascending."""
    assert torch.equal(fp4(), bnb.get_4bit_type("fp4", device="cpu").sort().values)


def test_dynamic8_is_bitsandbytes_map(bnb: Any):
    assert torch.equal(dynamic8(), bnb.create_dynamic_map())
    assert torch.equal(levels("dynamic8"), bnb.create_dynamic_map(signed=True))


# --- an independent derivation -------------------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_largest_probability_is_the_mean_of_two_halves(bits: int):
    n = 2**bits
    mean = (Fraction(2 * n - 1, 2 * n) + Fraction(2 * n - 3, 2 * n - 2)) / 2
    assert abs(largest_probability(bits) - mean) <= Fraction(1, 2 * 10**7)  # seven digits
    assert round(largest_probability(bits), 7) == largest_probability(bits)


def test_the_published_constant():
    assert largest_probability(4) == 0.9677083  # 929/960


def close_to(bits: int) -> float:
    """How far a level may be moved by float32 spacing: a rounding of p over the density there.

    Three roundings of half a step, 2⁻²⁵, where the density is least: 7e-7 for 4 bits.
    """
    outermost = NORMAL.inv_cdf(largest_probability(bits))
    return 3 * 2**-25 / NORMAL.pdf(outermost) / outermost


def derived(bits: int) -> list[float]:
    """The definition, in double precision: n/2 positive levels, zero, n/2 - 1 negative ones."""
    half, n = largest_probability(bits) - 0.5, 2**bits
    up = [NORMAL.inv_cdf(0.5 + half * i / (n // 2)) for i in range(1, n // 2 + 1)]
    down = [NORMAL.inv_cdf(0.5 - half * i / (n // 2 - 1)) for i in range(n // 2 - 1, 0, -1)]
    return [v / up[-1] for v in [*down, 0.0, *up]]


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_levels_are_the_quantiles(bits: int):
    assert normal_float(bits).tolist() == pytest.approx(derived(bits), abs=close_to(bits), rel=0)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_levels_are_evenly_spaced_in_probability(bits: int):
    """Φ of the levels, by math.erf alone: n/2 equal steps above ½, n/2 - 1 below."""
    largest, n = largest_probability(bits), 2**bits
    table = [v * NORMAL.inv_cdf(largest) for v in normal_float(bits).tolist()]
    phi = [(1 + math.erf(v / math.sqrt(2))) / 2 for v in table]
    steps = [b - a for a, b in pairwise(phi)]
    below, above = steps[: n // 2 - 1], steps[n // 2 - 1 :]
    assert below == pytest.approx([(largest - 0.5) / (n // 2 - 1)] * (n // 2 - 1), abs=4e-7)
    assert above == pytest.approx([(largest - 0.5) / (n // 2)] * (n // 2), abs=4e-7)
    assert (phi[0], phi[-1]) == pytest.approx((1 - largest, largest), abs=1e-7)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_form_of_a_normal_float(bits: int):
    table = normal_float(bits)
    assert (table.dtype, table.shape) == (torch.float32, (2**bits,))
    assert (table.diff() > 0).all()
    assert (table[0], table[-1]) == (-1, 1)
    assert table[2 ** (bits - 1) - 1] == 0  # exactly, and it is +0
    assert not torch.signbit(table[2 ** (bits - 1) - 1])
    assert (table > 0).sum() == 2 ** (bits - 1)
    assert (table < 0).sum() == 2 ** (bits - 1) - 1


def test_nf2_by_hand():
    """p = 41/48; the one level inside is Φ⁻¹(½ + 17/96) / Φ⁻¹(41/48)."""
    inside = NORMAL.inv_cdf(65 / 96) / NORMAL.inv_cdf(41 / 48)
    assert normal_float(2).tolist() == pytest.approx([-1, 0, inside, 1], abs=close_to(2))


# --- the others, by hand -------------------------------------------------------------------------


def test_fp4_by_hand():
    positive = [0, 0.0625 / 12, 2 / 12, 3 / 12, 4 / 12, 6 / 12, 8 / 12, 1]
    expected = [-v for v in reversed(positive)] + positive
    assert fp4().tolist() == pytest.approx(expected, abs=1e-7)
    assert fp4().dtype == torch.float32


def test_int4_by_hand():
    assert int4().tolist() == pytest.approx([k / 7 for k in range(-7, 8)], abs=1e-7)
    assert int4().dtype == torch.float32
    assert int4()[7] == 0


def test_dynamic8_by_hand():
    """0, 1 and, for each of seven sizes, 1, 2, ..., 64 midpoints of even steps of [0.1, 1]."""
    expected = [0.0, 1.0]
    for i in range(7):
        for j in range(2**i):
            v = 10 ** (i - 6) * (0.1 + 0.9 * (j + 0.5) / 2**i)
            expected += [v, -v]
    table = dynamic8()
    assert (table.dtype, table.shape) == (torch.float32, (256,))
    assert (table.diff() > 0).all()
    assert table.tolist() == pytest.approx(sorted(expected), rel=1e-6, abs=0)


@pytest.mark.parametrize("quant_type", QUANT_TYPES)
def test_every_table_ascends_and_fits_its_bits(quant_type: str):
    table = levels(quant_type)
    assert (table.diff() >= 0).all()
    assert table.abs().max() == 1
    assert (table == 0).any()  # padding and pruned weights stay exactly zero
    assert bits_of(quant_type) == BITS[quant_type]
    assert len(table) == {"int4": 15}.get(quant_type, 2 ** BITS[quant_type])


def test_no_type_was_forgotten():
    assert {t: bits_of(t) for t in QUANT_TYPES} == BITS


# --- what a byte holds ---------------------------------------------------------------------------


@pytest.mark.parametrize("quant_type", QUANT_TYPES)
def test_byte_table_is_a_plain_loop(quant_type: str):
    bits, table = BITS[quant_type], levels(quant_type).tolist()
    expected = []
    for byte in range(256):
        digits = f"{byte:08b}"  # the first code is on the left, in the high bits
        codes = [int(digits[j : j + bits], 2) for j in range(0, 8, bits)]
        expected.append([table[c] if c < len(table) else 0.0 for c in codes])
    found = byte_table(quant_type)
    assert (found.dtype, found.shape) == (torch.float32, (256, 8 // bits))
    assert found.tolist() == expected


@pytest.mark.parametrize("table", [levels, byte_table])
def test_tables_are_made_once_for_each_device(table: Any):
    assert table("nf4") is table("nf4", "cpu") is table("nf4", torch.device("cpu"))
    assert table("nf4", "meta").is_meta
    assert table("nf4", "meta").shape == table("nf4").shape
    assert not torch.equal(table("nf4"), table("fp4"))


@pytest.mark.parametrize("ask", [bits_of, levels, byte_table, lambda t: quantize(torch.ones(2), t)])
@pytest.mark.parametrize(
    ("given", "hint"),
    [("nf44", "; did you mean 'nf4'"), ("fp-4", "; did you mean 'fp4'"), ("gguf", ""), (4, "")],
)
def test_an_unknown_type_is_refused(ask: Any, given: Any, hint: str):
    known = "'nf4', 'fp4', 'int4', 'nf2', 'nf8', 'dynamic8'"
    message = f"quant_type must be one of {known}, got {given!r}{hint}"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}{'' if hint else '$'}"):
        ask(given)
