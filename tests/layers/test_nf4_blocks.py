"""Blocks and double quantization against bitsandbytes on the CPU, bit for bit.

Codes and scales: its public quantize_4bit. Values: its portable kernel, the one that runs for a GPU
build's CPU tensors and odd shapes, and its public dequantize_4bit wherever that is right: see
`test_why_values_are_not_always_compared_with_the_public_function`.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from conftest import bits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from minipeft.layers.quant import blocks
from minipeft.layers.quant.blocks import dequantize, dequantize_nf4, quantize, quantize_nf4

BF = pytest.importorskip("bitsandbytes").functional
PORTABLE = pytest.importorskip("bitsandbytes.backends.default.ops")._dequantize_4bit_compute
# Not the compiled one. (There is none where a warning, an error in these tests, met its import.)
PORTABLE = getattr(PORTABLE, "__wrapped__", PORTABLE)

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
SIZES = [32, 64, 128, 256, 512, 1024, 2048, 4096]
LAYOUTS = ["contiguous", "transposed", "every other", "reversed axes", "expanded"]
KINDS = ["normal", "pruned", "pruned rows", "outliers", "zeros"]
FIXED = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def laid_out(shape: list[int], layout: str, make: Any) -> Tensor:
    """A tensor of this shape, contiguous or not."""
    if layout == "transposed" and len(shape) > 1:
        return make([*shape[:-2], shape[-1], shape[-2]]).mT
    if layout == "every other" and shape:
        return make([*shape[:-1], 2 * shape[-1]])[..., ::2]
    if layout == "reversed axes" and shape:
        return make(shape[::-1]).permute(*reversed(range(len(shape))))
    if layout == "expanded" and shape:
        return make([1, *shape[1:]]).expand(shape)
    return make(shape)


@st.composite
def tensors(draw: st.DrawFn) -> tuple[Tensor, str]:
    """Weights of 0 to 3 dimensions: normal, some pruned, some with outliers, some all zero."""
    size = st.integers(1, 40) | st.sampled_from([2, 31, 32, 33, 64, 96, 128, 257, 512])
    shape = draw(st.lists(size, max_size=3))
    while torch.Size(shape).numel() > 80_000:
        shape[shape.index(max(shape))] //= 4
    dtype, layout = draw(st.sampled_from(DTYPES)), draw(st.sampled_from(LAYOUTS))
    kind = draw(st.sampled_from(KINDS))
    powers = st.integers(-5, 2)
    if dtype != torch.float16:
        powers |= st.sampled_from([-39, -37, 30])  # below float32's normal numbers, and far up
    scale = 10.0 ** draw(powers)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))

    def make(shape: list[int]) -> Tensor:
        x = torch.randn(shape, generator=generator)
        if kind == "outliers":
            x = x * torch.where(torch.rand(shape, generator=generator) > 0.99, 50.0, 1.0)
        elif kind == "pruned":
            x = x * (torch.rand(shape, generator=generator) > 0.7)
        elif kind == "pruned rows" and shape:
            x = x * (torch.rand([*shape[:-1], 1], generator=generator) > 0.5)
        elif kind == "zeros":
            x = x * 0
        return (x * scale).to(dtype)

    return laid_out(shape, layout, make), kind


def values_of(codes: Tensor, state: Any) -> Tensor:
    """What bitsandbytes' portable kernel makes of its own codes."""
    scales = state.absmax
    if state.nested:
        scales = BF.dequantize_blockwise(state.absmax, state.state2) + state.offset
    flat = codes.reshape(-1)
    made = PORTABLE(flat, scales, state.code, state.blocksize, state.shape, state.dtype)
    return made.reshape(state.shape)


def public_values(codes: Tensor, state: Any) -> Tensor:
    """What its public function makes of them."""
    made = BF.dequantize_4bit(codes, state)
    return made.t() if codes.shape[0] == 1 else made  # it takes one row of codes for a transpose


def flushed(value: Tensor) -> Tensor:
    """Subnormal bfloat16 values as zeros of their sign.

    Where the processor has it, bitsandbytes rounds by AVX512's VCVTNEPS2BF16, which knows none.
    """
    small = value.abs() < torch.finfo(value.dtype).tiny
    return torch.where(small & (value.dtype == torch.bfloat16), value.sign() * 0, value)


def same(x: Tensor, blocksize: int, nested: bool) -> bool:
    """Codes, scales and values are bitsandbytes'; whether its public function could be asked."""
    codes, state = BF.quantize_4bit(
        x, blocksize=blocksize, quant_type="nf4", compress_statistics=nested
    )
    before = x.clone()
    q = quantize_nf4(x, blocksize, nested)
    assert bits(q.codes) == bits(codes)
    assert q.codes.shape == (-(-x.numel() // 2),)
    assert bits(q.absmax) == bits(state.absmax)
    assert q.absmax.shape == (-(-x.numel() // blocksize),)
    assert (q.shape, q.dtype, q.blocksize, q.quant_type) == (x.shape, x.dtype, blocksize, "nf4")
    if nested:
        assert bits(q.offset) == bits(state.offset)
        assert bits(q.absmax_scale) == bits(state.state2.absmax)
        assert (q.absmax.dtype, q.offset.shape) == (torch.uint8, ())
    else:
        assert q.offset is None
        assert q.absmax_scale is None
    value = dequantize_nf4(q)
    assert (value.shape, value.dtype, value.is_contiguous()) == (x.shape, x.dtype, True)
    assert bits(value) == bits(values_of(codes, state))
    assert torch.equal(x, before)
    public = bool(x.ndim) and x.shape[-1] % blocksize == 0
    if public:
        theirs = bits(public_values(codes, state).reshape(x.shape))
        assert theirs in (bits(value), bits(flushed(value)))
    return public


def test_subnormal_bfloat16():
    """Hypothesis comes across it in some runs: what it draws follows what else is imported."""
    x = torch.tensor([[1e-39, -1e-39] * 16], dtype=torch.bfloat16)
    assert same(x, 32, False)
    assert bits(flushed(x)) == bits(torch.tensor([[0.0, -0.0] * 16], dtype=torch.bfloat16))
    assert bits(flushed(x.float())) == bits(x.float())


@pytest.mark.slow
def test_codes_scales_and_values_are_bitsandbytes():
    seen: Counter[Any] = Counter()

    @settings(FIXED, max_examples=1000)
    @given(tensors(), st.sampled_from(SIZES), st.booleans())
    def look(made: tuple[Tensor, str], blocksize: int, nested: bool) -> None:
        (x, kind), n = made, made[0].numel()
        public = same(x, blocksize, nested)
        contiguous, ndim = f"contiguous: {x.is_contiguous()}", f"{x.ndim} dimensions"
        seen.update([x.dtype, blocksize, f"nested: {nested}", ndim, kind, contiguous])
        seen["public"] += public
        seen["odd"] += n % 2
        seen["many blocks, the last one short"] += n > blocksize and n % blocksize > 0
        seen["several blocks of scales"] += nested and n > 256 * blocksize

    look()
    # The examples did go everywhere.
    places = [*DTYPES, *SIZES, *KINDS, "public", "odd", "several blocks of scales"]
    places += [f"{n} dimensions" for n in range(4)] + ["many blocks, the last one short"]
    places += [f"{what}: {b}" for what in ("nested", "contiguous") for b in (False, True)]
    assert {p: seen[p] for p in places if seen[p] < 20} == {}


def test_whole_blocks_are_what_the_public_function_makes():
    """Shapes of real layers: rows of whole blocks, where bitsandbytes' fast kernels are right."""

    @settings(FIXED, max_examples=200)
    @given(
        st.integers(1, 40),
        st.integers(1, 6),
        st.sampled_from(DTYPES),
        st.sampled_from(SIZES[:6]),
        st.booleans(),
        st.integers(0, 2**32),
    )
    def look(rows: int, n: int, dtype: Any, blocksize: int, nested: bool, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(rows, n * blocksize, generator=generator).to(dtype)
        assert same(x, blocksize, nested)

    look()


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_layer_of_many_slices(dtype: torch.dtype, nested: bool):
    """More codes than are dequantized at a time, and a rest in the last slice."""
    x = (torch.randn(803, 704) * 0.02).to(dtype)
    assert x.numel() > 2 * 2 * blocks.SLICE
    assert same(x, 64, nested)


@pytest.mark.parametrize("blocksize", SIZES)
def test_numbers_at_the_midpoints(blocksize: int):
    """Where the code changes: each midpoint between levels and its neighbours, scaled by 2ᵏ."""
    level = BF.get_4bit_type("nf4", device="cpu")
    middle = (level[:-1] + level[1:]) / 2
    up, down = torch.full_like(middle, 2.0), torch.full_like(middle, -2.0)
    near = torch.cat([middle, middle.nextafter(up), middle.nextafter(down), torch.tensor([1.0])])
    x = torch.cat([near * s for s in (1, -1, 0.25, 1.1, 3e-3)])  # 5 · 46 numbers
    same(x, blocksize, False)
    same(x.repeat(50), blocksize, True)


def test_scales_at_the_steps_and_midpoints_of_the_8_bit_table():
    """Scales across the whole range of the 8-bit type, and so that they fall between its levels."""
    level = BF.create_dynamic_map()
    middle = (level[:-1] + level[1:]) / 2
    steps = torch.tensor([-1.0, 1.0, *middle, *(middle + 1e-5), *(middle - 1e-5), *level])
    for offset in (1.0, 1.5, 10.0):  # positive, as scales are
        x = torch.zeros(len(steps), 64)
        x[:, 3] = steps + offset
        assert same(x, 64, True)


def test_fp4_has_the_values_of_bitsandbytes():
    """Our codes are in ascending order, theirs in the order of the bits: values are compared."""

    @settings(FIXED, max_examples=200)
    @given(tensors(), st.sampled_from(SIZES), st.booleans())
    def look(made: tuple[Tensor, str], blocksize: int, nested: bool) -> None:
        x, _ = made
        codes, state = BF.quantize_4bit(
            x, blocksize=blocksize, quant_type="fp4", compress_statistics=nested
        )
        q = quantize(x, "fp4", blocksize, nested)
        assert torch.equal(dequantize(q), values_of(codes, state))  # -0 equals 0
        assert bits(q.absmax) == bits(state.absmax)

    look()


def test_why_values_are_not_always_compared_with_the_public_function():
    """bitsandbytes 0.50.2 restarts blocks at each row in one kernel, though scales run through.

    Rows of 96 in blocks of 64: the second block is the end of row 0 and the start of row 1. The
    kernel for AVX-512 gives each row scales of its own, so what it returns is far from what went
    in; the portable kernel, which we equal, is not.
    """
    x = torch.randn(4, 96)
    x[1] *= 100  # the scales of neighbouring blocks differ visibly
    codes, state = BF.quantize_4bit(x, blocksize=64, quant_type="nf4")
    right, public = values_of(codes, state), public_values(codes, state)
    block = x.view(-1, 64).abs().amax(1).repeat_interleave(64).view(4, 96)
    bound = 0.1520 * block  # half the largest gap of the table, 0.3038
    assert ((right - x).abs() <= bound).all()
    assert torch.equal(dequantize(quantize(x)), right)
    if torch.equal(public, right):
        pytest.skip("this machine's kernel is right here")
    assert not ((public - x).abs() <= bound).all()
