"""Answers to inside.qkv: thirds for GPT-2, head by head for Bloom."""

import torch

from minipeft.course.corpus import right, wrong


def cut(t, heads):
    return t.reshape(*t.shape[:2], heads, -1).transpose(1, 2)


def thirds(fused, heads):
    return tuple(cut(t, heads) for t in fused.chunk(3, dim=-1))


def by_head(fused, heads):
    parts = fused.reshape(*fused.shape[:2], heads, 3, -1)
    return tuple(parts[:, :, :, i].transpose(1, 2) for i in range(3))


@wrong("bloom is split in thirds")
def always_thirds(fused, heads, model):
    return thirds(fused, heads)


@wrong("gpt2 is split by head")
def always_by_head(fused, heads, model):
    return by_head(fused, heads)


@wrong("heads come second")
def time_first(fused, heads, model):
    both = thirds(fused, heads) if model == "gpt2" else by_head(fused, heads)
    return tuple(t.transpose(1, 2) for t in both)


@wrong("reshape cannot swap time and heads")
def reshaped(fused, heads, model):
    batch, time, _ = fused.shape
    return tuple(t.reshape(batch, heads, time, -1) for t in fused.chunk(3, dim=-1))


@wrong("is not yet cut into heads")
def not_cut(fused, heads, model):
    return fused.chunk(3, dim=-1)


@wrong("the order is q, k, v")
def keys_first(fused, heads, model):
    q, k, v = thirds(fused, heads) if model == "gpt2" else by_head(fused, heads)
    return k, q, v


@right
def both(fused, heads, model):
    return thirds(fused, heads) if model == "gpt2" else by_head(fused, heads)


@right
def by_index(fused, heads, model):
    width = fused.shape[-1] // (3 * heads)
    at = torch.arange(3 * heads * width)
    if model == "gpt2":
        kind = at // (heads * width)
    else:
        kind = at // width % 3
    return [cut(fused[..., kind == i], heads) for i in range(3)]
