"""Answers to merge.lost: ‖fl(W + ΔW) - W - ΔW‖ / ‖ΔW‖."""

import torch

from minipeft.course.corpus import right, wrong


def parts(weight, delta):
    merged = (weight.float() + delta).to(weight.dtype)
    return merged.float() - weight.float() - delta, merged


@wrong("the share of weights that did not move")
def unmoved(weight, delta):
    return float((parts(weight, delta)[1] == weight).float().mean())


@wrong("what arrives")
def arrived(weight, delta):
    return float((parts(weight, delta)[1].float() - weight.float()).norm() / delta.norm())


@wrong("the ratio of squares")
def squares(weight, delta):
    return float(parts(weight, delta)[0].square().sum() / delta.square().sum())


@wrong("relative to ‖W‖")
def of_weight(weight, delta):
    return float(parts(weight, delta)[0].norm() / weight.float().norm())


@wrong("divide it by ‖ΔW‖")
def length(weight, delta):
    return float(parts(weight, delta)[0].norm())


@wrong("round the sum once")
def twice(weight, delta):
    merged = weight + delta.to(weight.dtype)
    return float((merged.float() - weight.float() - delta).norm() / delta.norm())


@wrong("return a Python float")
def tensor(weight, delta):
    return parts(weight, delta)[0].norm() / delta.norm()


@wrong("the weight was changed in place")
def in_place(weight, delta):
    start = weight.float()
    weight += delta
    return float((weight.float() - start - delta).norm() / delta.norm())


@right
def double(weight, delta):
    exact = weight.double() + delta.double()
    merged = (weight.float() + delta).to(weight.dtype)
    return float((merged.double() - exact).norm() / delta.double().norm())


@right
def root_of_squares(weight, delta):
    off = parts(weight, delta)[0]
    return float(torch.sqrt((off * off).sum() / (delta * delta).sum()))
