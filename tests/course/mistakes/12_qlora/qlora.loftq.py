"""Answers to qlora.loftq: quantize and decompose in turns."""

import torch

from minipeft.course.corpus import right, wrong
from minipeft.layers.quant import dequantize, quantize
from minipeft.methods.loftq import QUANT_TYPE


def turns(weight, r, s, bits, iterations, factor, again=True, of_weight=False, sign=1.0):
    update = torch.zeros_like(weight)
    for _ in range(iterations):
        q = quantize(weight - update if again else weight, QUANT_TYPE[bits])
        target = weight if of_weight else sign * (weight - dequantize(q))
        u, sigma, vt = torch.linalg.svd(target, full_matrices=False)
        b, a = factor(u[:, :r], sigma[:r], vt[:r], s)
        update = s * b @ a
    return q, a, b


def halves(u, sigma, vt, s):
    root = (sigma / s).sqrt()
    return u * root, root[:, None] * vt


@wrong("the factors are divided by it")
def not_divided(weight, r, scaling=1.0, bits=4, iterations=1, *, name=""):
    return turns(weight, r, scaling, bits, iterations, lambda u, g, v, s: halves(u, g, v, 1.0))


@wrong("not W again")
def weight_again(weight, r, scaling=1.0, bits=4, iterations=1, *, name=""):
    return turns(weight, r, scaling, bits, iterations, halves, again=False)


@wrong("it should be near what was lost")
def of_the_weight(weight, r, scaling=1.0, bits=4, iterations=1, *, name=""):
    return turns(weight, r, scaling, bits, iterations, halves, of_weight=True)


@wrong("with its sign turned")
def turned(weight, r, scaling=1.0, bits=4, iterations=1, *, name=""):
    return turns(weight, r, scaling, bits, iterations, halves, sign=-1.0)


@wrong("the best of rank 4 leaves")
def without_sigma(weight, r, scaling=1.0, bits=4, iterations=1, *, name=""):
    return turns(weight, r, scaling, bits, iterations, lambda u, g, v, s: (u, v / s))


@wrong("A should be (r, in)")
def swapped(weight, r, scaling=1.0, bits=4, iterations=1, *, name=""):
    q, a, b = turns(weight, r, scaling, bits, iterations, halves)
    return q, b, a


@right
def all_in_b(weight, r, scaling=1.0, bits=4, iterations=1, *, name=""):
    return turns(weight, r, scaling, bits, iterations, lambda u, g, v, s: (u * g / s, v))


@right
def by_eigenvectors(weight, r, scaling=1.0, bits=4, iterations=1, *, name=""):
    update = torch.zeros_like(weight)
    for _ in range(iterations):
        q = quantize(weight - update, QUANT_TYPE[bits])
        lost = weight - dequantize(q)
        u = torch.linalg.eigh(lost @ lost.T).eigenvectors[:, -r:]
        b, a = u, u.T @ lost / scaling
        update = scaling * b @ a
    return q, a, b
