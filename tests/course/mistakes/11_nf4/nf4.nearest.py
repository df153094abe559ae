"""Answers to nf4.nearest: how many midpoints lie below."""

import torch

from minipeft.course.corpus import right, wrong
from minipeft.layers.quant import levels


def middles(quant_type):
    level = levels(quant_type)
    return (level[:-1] + level[1:]) / 2


@wrong("each goes to the level below it")
def below(scaled, quant_type):
    return (torch.bucketize(scaled, levels(quant_type), right=True) - 1).to(torch.uint8)


@wrong("each goes to the level above it")
def above(scaled, quant_type):
    return torch.bucketize(scaled, levels(quant_type)).to(torch.uint8)


@wrong("these are the levels")
def values(scaled, quant_type):
    return levels(quant_type)[torch.bucketize(scaled, middles(quant_type))]


@wrong("zero has the code 0")
def signed(scaled, quant_type):
    return torch.bucketize(scaled, middles(quant_type)) - 7


@wrong("counted from the top")
def from_the_top(scaled, quant_type):
    return (scaled[:, None] < middles(quant_type)).sum(1).to(torch.uint8)


@wrong("one too large")
def from_one(scaled, quant_type):
    return (torch.bucketize(scaled, middles(quant_type)) + 1).to(torch.uint8)


@wrong("right for evenly spaced levels")
def spaced(scaled, quant_type):
    return ((scaled + 1) * 7.5).round().to(torch.uint8)


@wrong("with 'int4' these are NF4's codes")
def always_nf4(scaled, quant_type):
    return torch.bucketize(scaled, middles("nf4")).to(torch.uint8)


@wrong("the right values in another dtype")
def whole_numbers(scaled, quant_type):
    return torch.bucketize(scaled, middles(quant_type))


@right
def smallest_distance(scaled, quant_type):
    return (scaled[:, None] - levels(quant_type)).abs().argmin(1).to(torch.uint8)


@right
def counted(scaled, quant_type):
    return (scaled[:, None] > middles(quant_type)).sum(1).to(torch.uint8)
