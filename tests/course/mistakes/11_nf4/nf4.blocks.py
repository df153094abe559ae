"""Answers to nf4.blocks: neighbours share a scale, the largest size; the nearest level."""

import torch

from minipeft.course.corpus import right, wrong
from minipeft.layers.quant import levels

LEVEL = levels("nf4")
MIDDLES = (LEVEL[:-1] + LEVEL[1:]) / 2


def back(blocks, scale, borders=MIDDLES):
    return (LEVEL[torch.bucketize(blocks / scale, borders)] * scale).flatten()


def largest(blocks):
    return blocks.abs().amax(1, keepdim=True)


@wrong("rows are blocks")
def rows_of_two(w, blocksize=64):
    blocks = w.view(blocksize, -1)
    return back(blocks, largest(blocks))


@wrong("rows are blocks, `view(-1, ...)`; and a block with -8 and 4")
def as_given(w, blocksize=64):
    blocks = w.view(blocksize, -1)
    return back(blocks, blocks.amax(1, keepdim=True), LEVEL)


@wrong("the size counts; and each goes to the level above it")
def two_bugs_left(w, blocksize=64):
    blocks = w.view(-1, blocksize)
    return back(blocks, blocks.amax(1, keepdim=True), LEVEL)


@wrong("every second weight shares a scale")
def strided(w, blocksize=64):
    blocks = w.view(blocksize, -1).T.contiguous()
    return back(blocks, largest(blocks)).view(-1, blocksize).T.flatten()


@wrong("has the scale 8, not 4: the size counts")
def signed(w, blocksize=64):
    blocks = w.view(-1, blocksize)
    return back(blocks, blocks.amax(1, keepdim=True))


@wrong("each goes to the level above it")
def above(w, blocksize=64):
    blocks = w.view(-1, blocksize)
    return back(blocks, largest(blocks), LEVEL)


@wrong("each goes to the level below it")
def below(w, blocksize=64):
    blocks = w.view(-1, blocksize)
    scale = largest(blocks)
    codes = torch.bucketize(blocks / scale, LEVEL, right=True) - 1
    return (LEVEL[codes] * scale).flatten()


@wrong("both blocks have one scale")
def one_scale(w, blocksize=64):
    return back(w.view(-1, blocksize), w.abs().max())


@wrong("the scale is missing on the way back")
def no_scale(w, blocksize=64):
    blocks = w.view(-1, blocksize)
    return LEVEL[torch.bucketize(blocks / largest(blocks), MIDDLES)].flatten()


@wrong("a block of zeros gives NaN")
def zero_over_zero(w, blocksize=64):
    blocks = w.view(-1, blocksize)
    scaled = blocks / largest(blocks)
    nearest = LEVEL[torch.bucketize(scaled, MIDDLES)] + 0 * scaled
    return (nearest * largest(blocks)).flatten()


@wrong("a block of zeros raises")
def zero_has_no_code(w, blocksize=64):
    blocks = w.view(-1, blocksize)
    distance = (blocks[..., None] / largest(blocks)[..., None] - LEVEL).abs()
    codes = [int(d.isfinite().nonzero()[d[d.isfinite()].argmin()]) for d in distance.view(-1, 16)]
    return (LEVEL[codes].view_as(blocks) * largest(blocks)).flatten()


@right
def by_distance(w, blocksize=64):
    blocks = w.reshape(-1, blocksize)
    scale = largest(blocks).clamp(min=1e-30)
    codes = (blocks[..., None] / scale[..., None] - LEVEL).abs().argmin(-1)
    return (LEVEL[codes] * scale).flatten()


@right
def one_by_one(w, blocksize=64):
    pieces = []
    for block in w.split(blocksize):
        scale = max(-block.min(), block.max())
        pieces.append(LEVEL[torch.bucketize(block, scale * MIDDLES)] * scale)
    return torch.cat(pieces)
