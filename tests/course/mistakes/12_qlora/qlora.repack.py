"""Answers to qlora.repack: ‖dq(quantize(M)) - M‖ / ‖s · B A‖, M = dq(Q) + s · B A."""

import torch

from minipeft.course.corpus import right, wrong
from minipeft.layers.quant import dequantize, quantize


def again(q, m):
    return dequantize(quantize(m, q.quant_type, q.blocksize))


@wrong("that is over ‖M‖")
def over_merged(q, a, b, s):
    m = dequantize(q) + s * b @ a
    return float((again(q, m) - m).norm() / m.norm())


@wrong("the length of the rounding alone")
def not_divided(q, a, b, s):
    m = dequantize(q) + s * b @ a
    return float((again(q, m) - m).norm())


@wrong("the change lacks the scale")
def change_without_s(q, a, b, s):
    m = dequantize(q) + s * b @ a
    return float((again(q, m) - m).norm() / (b @ a).norm())


@wrong("merged without its scale")
def merged_without_s(q, a, b, s):
    m = dequantize(q) + b @ a
    return float((again(q, m) - m).norm() / (b @ a).norm())


@wrong("that compares with dq(Q)")
def from_old(q, a, b, s):
    w = dequantize(q)
    return float((again(q, w + s * b @ a) - w).norm() / (s * b @ a).norm())


@wrong("a ratio of squares")
def squares(q, a, b, s):
    change = s * b @ a
    m = dequantize(q) + change
    return float((again(q, m) - m).square().sum() / change.square().sum())


@wrong("in blocks of 64; q says")
def default_blocks(q, a, b, s):
    m = dequantize(q) + s * b @ a
    return float((dequantize(quantize(m)) - m).norm() / (s * b @ a).norm())


@wrong("q.quant_type says")
def always_nf4(q, a, b, s):
    m = dequantize(q) + s * b @ a
    return float((dequantize(quantize(m, "nf4", q.blocksize)) - m).norm() / (s * b @ a).norm())


@wrong("is None: is there a `return`?")
def no_return(q, a, b, s):
    again(q, dequantize(q) + s * b @ a)


@right
def by_layer(q, a, b, s):
    change = s * b @ a
    m = dequantize(q) + change
    return torch.linalg.norm(again(q, m) - m) / torch.linalg.norm(change)


@right
def by_sums(q, a, b, s):
    change = s * torch.einsum("or,ri->oi", b, a)
    m = change + dequantize(q)
    return (((again(q, m) - m) ** 2).sum() / (change**2).sum()).sqrt().item()
