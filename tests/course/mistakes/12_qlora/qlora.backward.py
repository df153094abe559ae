"""Answers to qlora.backward: three gradients."""

import torch

from minipeft.course.corpus import right, wrong
from minipeft.layers.quant import dequantize


def factors(dy, x, a, b, s):
    return s * (dy @ b).T @ x, s * dy.T @ (x @ a.T)


@wrong("through dq(Q) only")
def frozen_path(dy, x, q, a, b, s):
    return (dy @ dequantize(q), *factors(dy, x, a, b, s))


@wrong("through B A only")
def lora_path(dy, x, q, a, b, s):
    return (s * dy @ b @ a, *factors(dy, x, a, b, s))


@wrong("the scale s is missing before B A")
def unscaled(dy, x, q, a, b, s):
    return (dy @ dequantize(q) + dy @ b @ a, *factors(dy, x, a, b, s))


@wrong("dA lacks the scale")
def unscaled_a(dy, x, q, a, b, s):
    da, db = factors(dy, x, a, b, s)
    return dy @ dequantize(q) + s * dy @ b @ a, da / s, db


@wrong("dB lacks the scale")
def unscaled_b(dy, x, q, a, b, s):
    da, db = factors(dy, x, a, b, s)
    return dy @ dequantize(q) + s * dy @ b @ a, da, db / s


@wrong("return three tensors")
def only_dx(dy, x, q, a, b, s):
    return dy @ dequantize(q) + s * dy @ b @ a


@right
def folded(dy, x, q, a, b, s):
    return (dy @ (dequantize(q) + s * b @ a), *factors(dy, x, a, b, s))


@right
def einsum(dy, x, q, a, b, s):
    w = dequantize(q) + s * b @ a
    da = s * torch.einsum("no,or,ni->ri", dy, b, x)
    db = s * torch.einsum("no,ni,ri->or", dy, x, a)
    return torch.einsum("no,oi->ni", dy, w), da, db
