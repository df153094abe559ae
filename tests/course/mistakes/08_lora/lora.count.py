"""Answers to lora.count: r · (in + out)."""

import torch
from torch import nn

from minipeft.course.corpus import right, wrong


@wrong("that is the frozen matrix itself")
def frozen(in_features, out_features, r):
    return in_features * out_features


@wrong("their sizes do not multiply")
def product(in_features, out_features, r):
    return r * in_features * out_features


@wrong("that is A alone")
def a_alone(in_features, out_features, r):
    return r * in_features


@wrong("2 · r · in holds only where out equals in")
def square_only(in_features, out_features, r):
    return 2 * r * in_features


@wrong("LoRA has no bias of its own")
def with_bias(in_features, out_features, r):
    return r * (in_features + out_features) + out_features


@wrong("a count is an int")
def a_float(in_features, out_features, r):
    return r * (in_features + out_features) / 1


called_too_early = wrong("hand over the function itself")(24_576)


@right
def sum_of_two(in_features, out_features, r):
    return r * in_features + out_features * r


@right
def counted(in_features, out_features, r):
    a = nn.Linear(in_features, r, bias=False, device="meta")
    b = nn.Linear(r, out_features, bias=False, device="meta")
    return sum(p.numel() for m in (a, b) for p in m.parameters())


@right
def from_shapes(in_features, out_features, r):
    return torch.Size((r, in_features)).numel() + torch.Size((out_features, r)).numel()
