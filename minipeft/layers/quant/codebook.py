"""Which numbers a code can stand for: the 16 levels of NF4, derived, and others to compare with.

A weight matrix looks like samples of a normal distribution. A data type wastes nothing on such data
if each of its 2ᵏ levels stands for equally many samples, so the levels are *quantiles* of N(0, 1):
Φ⁻¹(p) for evenly spaced p, divided by the largest, so that they fit a block scaled to [-1, 1].

Dettmers et al., "QLoRA: Efficient Finetuning of Quantized LLMs" (arXiv 2305.14314), section 3 and
appendix E. Lecture note: 001_6dba3b3b8af31941.txt, line 162; 003_2a78d11827cb1020.txt, line 188.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ...checks.errors import ConfigError
from ...checks.say import did_you_mean, listed


def largest_probability(bits: int) -> float:
    """The p of the outermost quantile: 1 - ½ (1/(2n) + 1/(2(n - 1))), n = 2ᵏ; 0.9677083 for k = 4.

    Φ⁻¹(1) is infinite, so the last level must be a quantile a little inside. n levels cut the
    probability into n equal parts with their levels in the middle: the last is at 1 - 1/(2n). One
    half of the table has n/2 levels and the other, which shares the zero, one less, as if it were
    cut into n - 1: that gives 1 - 1/(2(n - 1)). The published constant is the mean of the two, to
    seven digits.
    """
    n = 2**bits
    return float(round(1 - (1 / (2 * n) + 1 / (2 * (n - 1))) / 2, 7))


def normal_float(bits: int = 4) -> Tensor:
    """NF4 (or NF2, NF8): the quantiles of N(0, 1) that its codes stand for, ascending.

    Evenly spaced quantiles of the whole line come in pairs ±v and have no zero among them, but
    padding and pruned weights are exactly 0 and must stay so. So each half gets its own evenly
    spaced quantiles that end at p = ½, where Φ⁻¹(½) = 0: n/2 positive levels, zero, and n/2 - 1
    negative ones. (A middle level shared by both halves is why one of them has a level less.)

    Returns:
        float32, (2**bits,), from -1 to 1. The spacing is computed in float32, as bitsandbytes
        does: for 4 bits this is its table to the bit.
    """
    p, n = largest_probability(bits), 2**bits
    # Probabilities, (n/2,) and (n/2 - 1,), the last one, ½, left out.
    positive = torch.linspace(p, 0.5, n // 2 + 1, dtype=torch.float32)[:-1]
    negative = torch.linspace(p, 0.5, n // 2, dtype=torch.float32)[:-1]
    quantiles = torch.cat(
        [
            -torch.special.ndtri(negative.double()),  # Φ⁻¹ is odd: Φ⁻¹(1 - p) = -Φ⁻¹(p)
            torch.zeros(1, dtype=torch.float64),
            torch.special.ndtri(positive.double()).flip(0),
        ]
    ).float()
    return quantiles / quantiles.max()


def fp4() -> Tensor:
    """FP4, a float of one sign, two exponent bits and one mantissa bit, as bitsandbytes reads it.

    (1 + m/2)·2ᵉ for m in 0, 1 and e in 1, 2, 3; in the place of e = 0 stand 0 and 1/16; over 12,
    the largest. There is a +0 and a -0, so two of the 16 levels are the same.
    """
    positive = [0.0, 1 / 16, *((1 + m / 2) * 2**e for e in (1, 2, 3) for m in (0, 1))]
    return torch.tensor([-v for v in reversed(positive)] + positive, dtype=torch.float32) / 12


def int4() -> Tensor:
    """INT4: the integers -7 to 7 over 7; evenly spaced, and one of the 16 codes is not used."""
    return torch.arange(-7, 8, dtype=torch.float32) / 7


def dynamic8() -> Tensor:
    """The 256 levels for the scales themselves: bitsandbytes' signed 8-bit "dynamic" type.

    Sign, a unary exponent 10⁻ⁱ and the rest of the bits as a fraction in [0.1, 1]: numbers over
    seven orders of magnitude, finest where they are large. (Dettmers, arXiv 1511.04561.)
    """
    data = [0.0, 1.0]
    for i in range(7):  # 2ⁱ fractions of size 10^(i - 6), each in the middle of its interval
        edges = torch.linspace(0.1, 1, 2**i + 1, dtype=torch.float32)
        middle = (10.0 ** (i - 6) * ((edges[:-1] + edges[1:]) / 2)).tolist()
        data += middle + [-v for v in middle]
    return torch.tensor(sorted(data), dtype=torch.float32)


QUANT_TYPES = {
    "nf4": (4, normal_float),
    "fp4": (4, fp4),
    "int4": (4, int4),
    "nf2": (2, lambda: normal_float(2)),
    "nf8": (8, lambda: normal_float(8)),
    "dynamic8": (8, dynamic8),
}
T = TypeVar("T", bound=Callable[..., Tensor])
# Kept tables, by type, use and device.
_TABLES: dict[tuple[str, str, torch.device], Tensor] = {}


def bits_of(quant_type: str) -> int:
    """How many bits one code has."""
    if quant_type not in QUANT_TYPES:
        raise ConfigError(
            f"quant_type must be one of {listed(QUANT_TYPES)}, got {quant_type!r}"
            f"{did_you_mean(str(quant_type), QUANT_TYPES)}"
        )
    return QUANT_TYPES[quant_type][0]


def constant(function: T) -> T:
    """`torch.compiler.assume_constant_result`: a compiler calls the function and keeps its result.

    That decorator imports the whole compiler, which doubles the time of `import minipeft`; this is
    the mark that it sets (a test compares the two).
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@constant
def levels(quant_type: str, device: torch.device | str = "cpu") -> Tensor:
    """The numbers that the codes of a type stand for, ascending; float32, (at most 2**bits,)."""
    bits_of(quant_type)
    key = (quant_type, "levels", torch.device(device))
    if key not in _TABLES:
        with plainly():
            _TABLES[key] = QUANT_TYPES[quant_type][1]().to(device)
    return _TABLES[key]


@constant
def byte_table(quant_type: str, device: torch.device | str = "cpu") -> Tensor:
    """What each byte holds: float32, (256, 8 / bits), so that one look-up serves a whole byte.

    [a, b] -> [ab]: the first of two 4-bit codes is in the high half. A code that is not used (INT4
    has one) stands for 0.
    """
    bits = bits_of(quant_type)
    key = (quant_type, "bytes", torch.device(device))
    if key not in _TABLES:
        level = levels(quant_type, "cpu")
        with plainly():
            values = F.pad(level, (0, 2**bits - len(level)))
            shifts = torch.arange(8 - bits, -1, -bits)  # 4 bits: (4, 0)
            table = values[(torch.arange(256)[:, None] >> shifts) & (2**bits - 1)]
            _TABLES[key] = table.to(device)
    return _TABLES[key]


@contextmanager
def plainly() -> Iterator[None]:
    """Make real CPU tensors, even while somebody builds a model on "meta" or in inference mode.

    A kept table must not be what the moment of its first use made of it.
    """
    with torch.inference_mode(False), torch.device("cpu"):
        yield
