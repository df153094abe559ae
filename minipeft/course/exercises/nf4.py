"""The exercises of lesson 11, NF4: levels, codes, bytes, blocks, bits, and a choice."""

from __future__ import annotations

from ..exercise import Exercise
from . import _nf4 as checks
from . import _nf4_blocks as blocks

TURN = '    # YOUR TURN\n    raise NotImplementedError("your turn")'

ROUNDED = '''\
import torch

from minipeft.layers.quant import levels


def rounded(w, blocksize=64):
    """w (n,) -> what NF4 makes of it, (n,); n is a multiple of the block size."""
    level = levels("nf4")  # (16,)
{body}
    return (level[codes] * absmax).flatten()
'''
BUGS = """\
    # YOUR TURN: delete the raise, and mend what follows it.
    raise NotImplementedError("your turn")
    blocks = w.view(blocksize, -1)
    absmax = blocks.amax(1, keepdim=True)
    codes = torch.bucketize(blocks / absmax, level)"""
MENDED = """\
    blocks = w.view(-1, blocksize)  # (blocks, blocksize): neighbours share a scale
    absmax = blocks.abs().amax(1, keepdim=True)  # (blocks, 1)
    codes = torch.bucketize(blocks / absmax, (level[:-1] + level[1:]) / 2)"""

BITS = '''\
def bits_per_weight(k, blocksize, double_quant):
    """What one weight of a large matrix costs, in bits."""
{body}
'''
BITS_BODY = """\
    if double_quant:
        return k + 8 / blocksize + 32 / (256 * blocksize)
    return k + 32 / blocksize"""

DATA = """\
import torch

from minipeft.layers.quant import dequantize, quantize


def tailed():
    \"\"\"Normal, and one weight in a hundred is five times as large.\"\"\"
    g = torch.Generator().manual_seed(11)
    w = torch.randn(256, 256, generator=g)
    return torch.where(torch.rand(256, 256, generator=g) < 0.01, 5 * w, w)


def even():
    \"\"\"Uniform in [-1, 1].\"\"\"
    return 2 * torch.rand(256, 256, generator=torch.Generator().manual_seed(12)) - 1


# For each: the data type, the block size, and whether the scales are quantized too.
{turn}"""

CHOICE = """\
answer = {"tailed": ("nf4", 32, True), "even": ("int4", 32, True)}
for w, choice in zip((tailed(), even()), answer.values(), strict=True):
    q = quantize(w, *choice)
    error = (w - dequantize(q)).norm() / w.norm()
    print(choice, f"{q.bits_per_weight:.3f} bits per weight, error {error:.4f}")"""

EXERCISES = [
    Exercise(
        id="nf4.normal_float",
        lesson="11_nf4",
        title="The levels",
        target="minipeft.layers.quant.codebook:normal_float",
        task="""\
Return the 2ᵏ levels of a normal float, ascending, float32, for k = `bits`. With n = 2ᵏ and
p = `largest_probability(bits)`:

- n/2 positive levels: cut the way from ½ to p into n/2 equal steps, and take Φ⁻¹ at the end of
  each step (so at p, and not at ½);
- zero;
- n/2 - 1 negative levels: the same with n/2 - 1 steps, and the minus sign;
- all divided by the largest level.

Φ⁻¹ is `torch.special.ndtri`.
""",
        hints=(
            "How many steps lie between the largest probability and ½, in each half?",
            "positive: p - i (p - ½) / (n/2), i = 0 ... n/2 - 1; negative: with n/2 - 1 steps. "
            "Φ⁻¹(½) = 0 is the zero, once. (n/2 - 1) + 1 + n/2 = n.",
            "`positive = torch.linspace(p, 0.5, n // 2 + 1)[:-1]`, `negative` with `n // 2`; "
            "`torch.cat([-ndtri(negative), torch.zeros(1), ndtri(positive).flip(0)])`, divided by "
            "its maximum.",
        ),
        check=checks.normal_float,
    ),
    Exercise(
        id="nf4.nearest",
        lesson="11_nf4",
        title="The nearest code",
        target="minipeft.layers.quant.blocks:nearest",
        task="""\
`scaled` (n,) holds weights divided by their block's scale, in [-1, 1]. Return the code of the level
that is nearest to each, uint8, (n,).

`levels(quant_type)` are the type's levels, ascending: 16 for `"nf4"`, 15 for `"int4"`, 256 for
`"dynamic8"`. The codes are their numbers, from 0. (`SLICE` is imported for the package's own way,
which takes a slice at a time; you need not use it.)
""",
        hints=(
            "Where, between two levels, does the nearer one change?",
            "It changes at their midpoint: c = the number of midpoints (qⱼ + qⱼ₊₁)/2 below x.",
            "`level = levels(quant_type)`, `midpoints = (level[:-1] + level[1:]) / 2`, then "
            "`torch.bucketize(..., ...)` as uint8.",
        ),
        check=checks.nearest,
    ),
    Exercise(
        id="nf4.pack",
        lesson="11_nf4",
        title="Two codes in a byte",
        target="minipeft.layers.quant.blocks:pack",
        task="""\
`codes` (n,) is uint8, each below 2^bits; `bits` is 2, 4 or 8, and n fills whole bytes. Return the
bytes, uint8, (n · bits / 8,). The first code of a byte stands in its high bits: for four bits
[a, b, c, d] -> [ab, cd].
""",
        hints=(
            "How many codes share a byte, and by how many bits must each but the last be shifted?",
            "Four bits: byte = 16 · a + b. Two bits: 64 · a + 16 · b + 4 · c + d.",
            "`parts = codes.view(-1, 8 // bits)`; start with `parts[:, 0]`, and for each next "
            "column: `packed = (packed << bits) | parts[:, j]`.",
        ),
        check=checks.pack,
    ),
    Exercise(
        id="nf4.blocks",
        lesson="11_nf4",
        title="Find the bugs: block by block",
        task="""\
This quantizes in blocks and comes back at once. It has three bugs, one in each line below the
`raise`:

- consecutive weights should share a block (with `blocksize=4`, the first four);
- the scale of a block should be its largest |w|, whatever the sign;
- each weight should go to the *nearest* level.

Mend them. A block of zeros should come back as zeros.
""",
        hints=(
            "For w = (1, 2, ..., 8) and blocksize 4: what are the rows of `w.view(4, -1)`? What is "
            "the `amax` of (-3, 1)? To which level does `bucketize(0.01, level)` send 0.01?",
            "Rows are blocks: (n / blocksize, blocksize). a = max |w|. bucketize counts the "
            "borders below x: the borders between codes are the midpoints of the levels, (15,).",
            "`w.view(-1, blocksize)`, `blocks.abs().amax(...)`, and "
            "`torch.bucketize(blocks / absmax, (level[:-1] + ...) / 2)`.",
        ),
        check=blocks.rounded,
        starter=ROUNDED.format(body=BUGS),
        solution=ROUNDED.format(body=MENDED),
        answer="rounded",
    ),
    Exercise(
        id="nf4.bits",
        lesson="11_nf4",
        title="How many bits per weight",
        task="""\
Codes have k bits, and each block of `blocksize` weights has a scale of 32 bits. With
`double_quant` the scales have 8 bits, and each 256 scales share one of 32 bits. (The mean of the
scales is one number for the whole matrix: leave it out.) Return the bits per weight.
""",
        hints=(
            "How many weights share one scale, and how many share one scale of the scales?",
            "k + 32/b; with double quantization k + 8/b + 32/(256 · b).",
            "`return k + 8 / blocksize + 32 / (...) if double_quant else k + ...`",
        ),
        check=blocks.bits,
        starter=BITS.format(body=TURN),
        solution=BITS.format(body=BITS_BODY),
        answer="bits_per_weight",
    ),
    Exercise(
        id="nf4.choose",
        lesson="11_nf4",
        title="Choose a type and a block",
        task="""\
Two matrices are to be stored in at most **4.3 bits per weight**, scales included, with the smallest
relative rms error ‖w − dq(Q)‖ / ‖w‖. Choose for each the data type (`"nf4"`, `"fp4"`, `"int4"`),
the block size (a power of two from 16 to 4096), and whether the scales are quantized.

Measure: with `q = quantize(w, "nf4", 64, True)` (type, block size, scales quantized),
`q.bits_per_weight` is the cost, and `dequantize(q)` comes back.
""",
        hints=(
            "Which type puts its levels where these numbers are? Which block sizes cost at most "
            "4.3 bits, with and without double quantization?",
            "4 + 32/b ≤ 4.3 needs b ≥ 128 (107 is no power of two); 4 + 8/b + 32/(256 · b) ≤ 4.3 "
            "allows b = 32. Even data want even levels.",
            '`answer = {"tailed": ("nf4", ..., True), "even": ("int4", ..., True)}`',
        ),
        check=blocks.choose,
        starter=DATA.format(turn='answer = None  # YOUR TURN: {"tailed": ("nf4", 64, False), ...}'),
        solution=DATA.format(turn=CHOICE),
        answer="answer",
    ),
]
