"""Block-wise quantization: a code per weight, a scale per block, and scales of the scales.

    c = the code of the level nearest to w / absmax(block)        w ≈ level[c] · absmax(block)

One scale for a whole matrix would be set by its largest weight, and leave most others near zero
with two or three levels to share; in blocks of 64 an outlier spoils 64 weights only. The scales
cost 32/64 = 0.5 bits per weight. *Double quantization* stores them in 8 bits, in blocks of 256,
after taking their mean away (they are all positive): 8/64 + 32/(64·256) = 0.127 bits.

QLoRA (arXiv 2305.14314), section 3. Lecture note: 003_2a78d11827cb1020.txt, lines 173-190.
Codes, scales and values are those of bitsandbytes' functions on the CPU, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ...checks import unfit
from ...checks.errors import ConfigTypeError
from ...checks.say import shown
from .codebook import bits_of, byte_table, levels

# Blocks of the scales themselves (double quantization).
SCALE_BLOCK = 256
# Numbers to quantize, or bytes of codes to dequantize, at a time.
SLICE = 2**17
# Instead of 1/0 in a block of zeros; bitsandbytes' constant.
TINY = 1e-38


@dataclass(frozen=True)
class Quantized:
    """A tensor in k bits, and all that is needed to get it back.

    Attributes:
        codes: uint8, (⌈numel · bits / 8⌉,); the first code of a byte is in its high bits.
        absmax: the blocks' scales: float32, (blocks,), or their 8-bit codes, uint8.
        shape, dtype: of the tensor that was quantized.
        blocksize: weights per scale.
        quant_type: which levels: "nf4" and others (see `codebook.QUANT_TYPES`).
        offset: with double quantization, the mean of the scales: float32, ().
        absmax_scale: with it, a scale per 256 scales: float32, (⌈blocks / 256⌉,).
    """

    codes: Tensor
    absmax: Tensor
    shape: torch.Size
    dtype: torch.dtype = torch.float32
    blocksize: int = 64
    quant_type: str = "nf4"
    offset: Tensor | None = None
    absmax_scale: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """What is held, by attribute name."""
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in given.items() if isinstance(value, Tensor)}

    @property
    def nbytes(self) -> int:
        """The bytes held."""
        return sum(t.numel() * t.element_size() for t in self.tensors().values())

    @property
    def bits_per_weight(self) -> float:
        """The bits held for each number of the tensor."""
        return 8 * self.nbytes / max(1, self.shape.numel())


def quantize(
    tensor: Tensor,
    quant_type: str = "nf4",
    blocksize: int = 64,
    double_quant: bool = False,
    *,
    name: str = "the tensor",
) -> Quantized:
    """Quantize in blocks of consecutive numbers, row after row.

    Args:
        tensor: any shape, any floating dtype, contiguous or not; it is read as float32.
        quant_type: a key of `codebook.QUANT_TYPES`.
        blocksize: numbers per scale, a multiple of 8 / bits; the last block may be shorter.
        double_quant: quantize the scales as well.
        name: what an error calls the tensor.

    Raises:
        ConfigTypeError: no floating-point tensor. ConfigError: an unknown type, a block size that
            does not fill bytes, or NaN or infinity, with its position.
    """
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
        kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
        raise ConfigTypeError(f"{name} must be a floating-point tensor, got {kind}")
    if not isinstance(double_quant, bool):
        raise ConfigTypeError(f"double_quant must be True or False, got {shown(double_quant)}")
    check_block(blocksize, 8 // bits_of(quant_type))
    n = tensor.numel()
    x = tensor.detach().reshape(-1).float()
    rest = -n % blocksize
    x = (F.pad(x, (0, rest)) if rest else x).view(-1, blocksize)  # (blocks, blocksize)
    absmax = x.abs().amax(1) if n else x.new_zeros(0)  # (blocks,); NaN if there is one
    refuse_non_finite(tensor, absmax, name)
    # bitsandbytes multiplies by the reciprocal, but divides in a last block that is not full; the
    # two differ in the last bit, which may decide between two codes.
    scaled = x * (1 / absmax.clamp(min=TINY))[:, None]
    if rest:
        absmax[-1] = absmax[-1].clamp(min=TINY)
        scaled[-1] = x[-1] / absmax[-1]
    codes = pack(nearest(scaled.view(-1), quant_type), bits_of(quant_type))
    codes = codes[: -(-n * bits_of(quant_type) // 8)].clone() if rest else codes
    plain = Quantized(codes, absmax, tensor.shape, tensor.dtype, blocksize, quant_type)
    if not double_quant:
        return plain
    offset = absmax.mean() if n else absmax.new_zeros(())
    small, scale = quantize_scales(absmax - offset)
    return replace(plain, absmax=small, absmax_scale=scale, offset=offset)


def nearest(scaled: Tensor, quant_type: str) -> Tensor:
    """The code of the nearest level: how many midpoints between levels lie below; uint8, (n,)."""
    level = levels(quant_type, scaled.device)
    midpoints = (level[:-1] + level[1:]) / 2
    if len(level) > 16:
        return torch.bucketize(scaled, midpoints, out_int32=True).to(torch.uint8)
    # The same as bucketize for few levels, in less time: 15 comparisons, no search. A slice at a
    # time, what they compare stays in the cache.
    codes = torch.zeros(scaled.shape, dtype=torch.uint8, device=scaled.device)
    if codes.is_meta:
        return codes  # a shape; slice after slice, Llama-2-7B would take minutes
    for x, code in zip(*(torch.split(t, SLICE) for t in (scaled, codes)), strict=True):
        for midpoint in midpoints:
            code += x > midpoint  # in place: `code` is a view of `codes`
    return codes


def pack(codes: Tensor, bits: int) -> Tensor:
    """[a, b, c, d] -> [ab, cd]: uint8 codes (n,) in n · bits / 8 bytes, the first one highest."""
    parts = codes.view(-1, 8 // bits)
    packed = parts[:, 0]
    for j in range(1, 8 // bits):
        packed = (packed << bits) | parts[:, j]
    return packed


def quantize_scales(scales: Tensor) -> tuple[Tensor, Tensor]:
    """Scales less their mean, (blocks,), as 8-bit codes (blocks,) and (⌈blocks / 256⌉,) float32.

    bitsandbytes on the CPU finds the code in a table over 65,536 even steps of [-1, 1], so that a
    value within half a step of a midpoint may get the neighbour's code; on a GPU it searches
    exactly. This is the CPU's way, on any device.
    """
    x = F.pad(scales, (0, -len(scales) % SCALE_BLOCK)).view(-1, SCALE_BLOCK)
    absmax = x.abs().amax(1) if len(scales) else x.new_zeros(0)
    scaled = (x * (1 / absmax)[:, None]).nan_to_num(0).clamp(-1, 1)  # 0 · (1/0) is NaN
    step = ((scaled + 1) * 0.5 * 65535 + 0.5).int()  # (blocks of scales, 256)
    codes = nearest(-1 + 2 * step.float() / 65535, "dynamic8")
    codes[absmax == 0] = 0
    return codes.view(-1)[: len(scales)].clone(), absmax


def dequantize_scales(q: Quantized) -> Tensor:
    """The blocks' scales as dequantization uses them: float32, (blocks,)."""
    if q.offset is None or q.absmax_scale is None:
        return q.absmax
    values: Tensor = levels("dynamic8", q.absmax.device)[q.absmax.int()]  # (blocks,)
    return values * q.absmax_scale.repeat_interleave(SCALE_BLOCK)[: len(values)] + q.offset


def dequantize(
    q: Quantized, dtype: torch.dtype | None = None, loop: Callable[..., Tensor] | None = None
) -> Tensor:
    """level[c] · absmax(block), in float32, rounded once to `dtype`.

    Args:
        q: what `quantize` returned.
        dtype: of the result; that of the tensor that was quantized when None.
        loop: what takes the time: `expand`, or a compiled form of it; `expand` when None.

    Returns:
        `q.shape`, contiguous.
    """
    scales, table = dequantize_scales(q), byte_table(q.quant_type, q.codes.device)
    values = (loop or expand)(by_block(q, len(scales)), scales, table, dtype or q.dtype)
    return values.view(-1)[: q.shape.numel()].view(q.shape)


def by_block(q: Quantized, blocks: int) -> Tensor:
    """The codes, filled up to whole blocks: uint8, (blocks, bytes of a block)."""
    in_block = q.blocksize * bits_of(q.quant_type) // 8
    rest = blocks * in_block - len(q.codes)
    return (F.pad(q.codes, (0, rest)) if rest else q.codes).view(blocks, in_block)


def expand(codes: Tensor, scales: Tensor, table: Tensor, dtype: torch.dtype) -> Tensor:
    """One look-up for each byte, one scale for each block: what takes the time.

    Args:
        codes: uint8, (blocks, bytes of a block).
        scales: float32, (blocks,).
        table: what a byte holds, float32, (256, per_byte).
        dtype: of the result.

    Returns:
        (blocks, bytes of a block, per_byte).
    """
    values = table.new_empty((*codes.shape, table.shape[1]), dtype=dtype)
    # torch wants four bytes of index for each code's one. A slice at a time, these and the float32
    # products stay in the cache and cost no memory; a compiler makes one loop of it by itself.
    step = len(codes) if torch.compiler.is_compiling() else SLICE // codes.shape[1] + 1
    tensors = (codes, scales, values)
    for code, scale, value in zip(*(torch.split(t, step) for t in tensors), strict=True):
        torch.mul(F.embedding(code.int(), table), scale[:, None, None], out=value)
    return values


def quantize_nf4(tensor: Tensor, blocksize: int = 64, double_quant: bool = False) -> Quantized:
    """The tensor in NF4; arguments and errors as `quantize`."""
    return quantize(tensor, "nf4", blocksize, double_quant)


def dequantize_nf4(q: Quantized, dtype: torch.dtype | None = None) -> Tensor:
    """What an NF4 tensor stands for; arguments as `dequantize`."""
    return dequantize(q, dtype)


def check_block(blocksize: int, per_byte: int) -> None:
    """Refuse a block that does not fill whole bytes."""
    good = isinstance(blocksize, int) and not isinstance(blocksize, bool)
    if not good or blocksize < 1 or blocksize % per_byte:
        raise unfit.no_block(blocksize, per_byte)


def refuse_non_finite(tensor: Tensor, absmax: Tensor, name: str) -> None:
    """Refuse NaN and infinity, which would spoil their block, and say where the first one is."""
    if absmax.is_meta or absmax.isfinite().all():
        return
    bad = (~tensor.detach().float().isfinite()).nonzero()
    where = tuple(bad[0].tolist())
    raise unfit.not_finite(name, tensor[where].item(), where, len(bad))
