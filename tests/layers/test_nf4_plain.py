"""The fast forms against plain loops, and what may be worked out by hand."""

from __future__ import annotations

import bisect
from itertools import pairwise

import numpy as np
import pytest
import torch

from minipeft.layers.quant.blocks import (
    dequantize,
    nearest,
    pack,
    quantize,
    quantize_nf4,
    quantize_scales,
)
from minipeft.layers.quant.codebook import QUANT_TYPES, bits_of, levels

f32 = np.float32

# --- the nearest level ---------------------------------------------------------------------------


@pytest.mark.parametrize("quant_type", QUANT_TYPES)
def test_nearest_is_the_argmin_away_from_ties(quant_type: str):
    level = levels(quant_type)
    x = torch.cat([torch.rand(20_000) * 2.2 - 1.1, torch.randn(2_000) * 1e-3])
    distance = (x.double()[:, None] - level.double().unique()).abs()  # FP4 has its zero twice
    two = distance.topk(2, dim=1, largest=False).values
    clear = two[:, 1] - two[:, 0] > 1e-7  # two float32 roundings of a midpoint, at most 1
    codes = nearest(x, quant_type)
    assert clear.float().mean() > 0.95
    assert codes.dtype == torch.uint8
    assert torch.equal(level[codes.int()][clear], level.unique()[distance.argmin(1)][clear])


@pytest.mark.parametrize("quant_type", QUANT_TYPES)
def test_nearest_is_bucketize_at_ties_too(quant_type: str):
    """A number on the midpoint gets the lower level's code: also the next floats on both sides."""
    level = levels(quant_type)
    middle = (level[:-1] + level[1:]) / 2
    up, down = (middle.nextafter(torch.full_like(middle, far)) for far in (2.0, -2.0))
    x = torch.cat([middle, up, down, level, torch.tensor([0.0, -0.0, 1.5, -1.5])])
    assert torch.equal(nearest(x, quant_type), torch.bucketize(x, middle).to(torch.uint8))
    edges = middle.tolist()
    expected = [bisect.bisect_left(edges, v) for v in x.tolist()]  # how many midpoints are below v
    assert nearest(x, quant_type).tolist() == expected


# --- packing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [2, 4, 8])
def test_pack_is_a_plain_loop(width: int):
    codes = torch.randint(0, 2**width, (8 * 25,), dtype=torch.uint8)
    before, expected = codes.clone(), []
    for i in range(0, len(codes), 8 // width):
        digits = "".join(f"{c:0{width}b}" for c in codes[i : i + 8 // width].tolist())
        expected.append(int(digits, 2))
    packed = pack(codes, width)
    assert packed.tolist() == expected
    assert packed.dtype == torch.uint8
    assert torch.equal(codes, before)


def test_pack_by_hand():
    assert pack(torch.tensor([0x1, 0xF, 0xA, 0x0], dtype=torch.uint8), 4).tolist() == [0x1F, 0xA0]
    assert pack(torch.tensor([0, 1, 2, 3], dtype=torch.uint8), 2).tolist() == [0b00011011]


# --- scales of scales ----------------------------------------------------------------------------


def steps_of_the_table() -> list[int]:
    """The code of each of 65,536 even steps of [-1, 1], as bitsandbytes builds them for the CPU."""
    level = [f32(v) for v in levels("dynamic8").tolist()]
    middle = [(a + b) / f32(2) for a, b in pairwise(level)]
    return [
        bisect.bisect_left(middle, f32(-1) + f32(2) * f32(i) / f32(65535)) for i in range(65536)
    ]


def test_quantize_scales_is_a_plain_loop():
    """One scale at a time, in float32: its block's largest, 1 / that, the step, its code."""
    table = steps_of_the_table()
    some = torch.cat([torch.randn(256) * 3, torch.rand(256) - 0.5, torch.zeros(256)])
    rare = torch.randn(300) * 10 ** (torch.rand(300) * 12 - 9)
    scales = torch.cat([some, rare])  # four blocks and a short one
    codes, absmax, values = [], [], [f32(v) for v in scales.tolist()]
    for start in range(0, len(values), 256):
        block = values[start : start + 256]
        largest = max(abs(v) for v in block)
        absmax.append(float(largest))
        for v in block:
            scaled = v * (f32(1) / largest) if largest else f32(0)
            step = int(
                (min(max(scaled, f32(-1)), f32(1)) + f32(1)) * f32(0.5) * f32(65535) + f32(0.5)
            )
            codes.append(table[step] if largest else 0)
    found, scale = quantize_scales(scales)
    assert found.tolist() == codes
    assert scale.tolist() == absmax
    assert (found.dtype, scale.dtype) == (torch.uint8, torch.float32)


def test_scales_by_hand():
    """Two blocks with the scales 1 and 3: mean 2, and -1 and 1 are exact in the 8-bit type..."""
    x = torch.zeros(128)
    x[0], x[64] = 1.0, 3.0
    q = quantize_nf4(x, 64, double_quant=True)
    assert (q.offset, q.absmax_scale.tolist()) == (2.0, [1.0])
    assert q.absmax.tolist() == [0, 255]
    low = 0.1 + 0.9 * 63.5 / 64  # ... but its lowest level is not -1
    assert dequantize(q)[[0, 64]].tolist() == pytest.approx([2 - low, 3.0], abs=3e-7)


# --- types by hand -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quant_type", "x", "codes", "back"),
    [
        # absmax 2: x/2 = 1, 0.5, -0.5, -1, 0.04; the midpoint of 0 and 0.0796 is 0.0398
        ("nf4", [2, 1, -1, -2, 0.08, 0], [0xFC, 0x20, 0x87],
         [2, 0.88141966, -1.0501461, -2, 0.1591606, 0]),
        # absmax 12: levels 1/16, 2, 3, 4, 6, 8, 12; 7.1 is nearer to 8, 0.04 to 1/16
        ("fp4", [12, -12, 7.1, -2.4, 0.04, 0], [0xF0, 0xE5, 0x97], [12, -12, 8, -2, 0.0625, 0]),
        # absmax 7: the integers
        ("int4", [7, -7, 2.6, -0.4, 1.4, -6.6], [0xE0, 0xA7, 0x80], [7, -7, 3, 0, 1, -7]),
        # absmax 1: levels -1, 0, 0.4358, 1; the midpoints are -0.5, 0.2179, 0.7179
        ("nf2", [1, -1, -0.4, 0.3, 0.8, -0.6], [0b11000110, 0b11000000], [1, -1, 0, 0.4358, 1, -1]),
    ],
)  # fmt: skip
def test_worked_by_hand(quant_type: str, x: list[float], codes: list[int], back: list[float]):
    q = quantize(torch.tensor(x, dtype=torch.float32), quant_type, 64)
    # the last byte of nf2 has two codes that stand for no number: those of 0, which is code 1
    q_codes = q.codes.tolist()
    if quant_type == "nf2":
        q_codes[-1] &= 0b11110000
    assert q_codes == codes
    assert q.absmax.tolist() == [max(map(abs, x))]
    assert dequantize(q).tolist() == pytest.approx(back, abs=2e-4 if quant_type == "nf2" else 1e-6)


@pytest.mark.parametrize("double_quant", [False, True])
@pytest.mark.parametrize("quant_type", QUANT_TYPES)
def test_every_type_is_dequantized_as_a_plain_loop_does(quant_type: str, double_quant: bool):
    x, blocksize = torch.randn(7, 91) * torch.logspace(-2, 2, 91), 24  # 26 blocks and a short one
    q, width = quantize(x, quant_type, blocksize, double_quant), bits_of(quant_type)
    level = [f32(v) for v in levels(quant_type).tolist()] + [f32(0)]
    scales, stored = [], q.absmax.tolist()
    for i, scale in enumerate(stored):
        if double_quant:
            eight = f32(levels("dynamic8")[scale].item())
            scale = eight * f32(q.absmax_scale[i // 256].item()) + f32(q.offset.item())
        scales.append(f32(scale))
    digits = "".join(f"{byte:08b}" for byte in q.codes.tolist())
    codes = [int(digits[i : i + width], 2) for i in range(0, x.numel() * width, width)]
    expected = [float(level[c] * scales[i // blocksize]) for i, c in enumerate(codes)]
    assert dequantize(q).flatten().tolist() == expected
    assert len(q.codes) == -(-x.numel() * width // 8)


# --- errors and fixed points ---------------------------------------------------------------------


@pytest.mark.parametrize("blocksize", [32, 64, 256])
@pytest.mark.parametrize("quant_type", QUANT_TYPES)
def test_the_error_is_at_most_half_the_largest_gap(quant_type: str, blocksize: int):
    x = torch.randn(48, 160)
    error = (dequantize(quantize(x, quant_type, blocksize)) - x).abs().view(-1, blocksize)
    absmax = x.view(-1, blocksize).abs().amax(1)
    bound = levels(quant_type).diff().max() / 2 * absmax
    # two roundings in float32, of numbers up to absmax
    assert (error <= (bound + 2.5e-7 * absmax)[:, None]).all()
    # and the bound is near what is reached where the gap is wide
    assert bits_of(quant_type) == 8 or (error / bound[:, None]).max() > 0.95


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("quant_type", ["nf4", "int4", "nf2"])
def test_a_second_time_changes_nothing(quant_type: str, dtype: torch.dtype):
    """level · absmax has the same absmax, since the block's largest is ±1 · absmax.

    A level is far from its midpoints, so one rounding to 8 bits or more does not move its code.
    """
    x = torch.randn(33, 75).to(dtype)
    x[3:5] = 0
    once = quantize(x, quant_type)
    again = quantize(dequantize(once), quant_type)
    assert torch.equal(once.codes, again.codes)
    assert torch.equal(once.absmax, again.absmax)


@pytest.mark.parametrize("quant_type", ["fp4", "nf8"])
def test_a_second_time_changes_no_value(quant_type: str):
    """FP4 has two codes for zero, and gives the lower one to zero; dynamic8 has no -1 at all.

    With 8 bits only in float32: the levels are nearer to each other than bfloat16's numbers.
    """
    once = dequantize(quantize(torch.randn(33, 75), quant_type))
    assert torch.equal(once, dequantize(quantize(once, quant_type)))


def test_a_second_time_with_double_quantization_changes_no_code():
    """The scales are other ones then, whose mean and 8-bit codes are not kept; the codes are."""
    once = quantize_nf4(torch.randn(33, 75), 64, double_quant=True)
    assert torch.equal(once.codes, quantize_nf4(dequantize(once), 64, double_quant=True).codes)
