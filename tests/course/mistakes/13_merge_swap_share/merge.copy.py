"""Answers to merge.copy: a clone before the sum, copied back in place."""

import torch

from minipeft.course.corpus import right, wrong


class Base:
    def __init__(self, layer, delta):
        self.layer, self.delta, self.original = layer, delta, None

    @torch.no_grad()
    def merge(self):
        self.original = self.layer.weight.clone()
        self.layer.weight += self.delta

    @torch.no_grad()
    def unmerge(self):
        self.layer.weight.copy_(self.original)


@wrong("the weight is still merged")
class SecondName(Base):
    @torch.no_grad()
    def merge(self):
        self.original = self.layer.weight.data
        self.layer.weight += self.delta


@wrong("ΔW was subtracted")
class Subtracts(Base):
    @torch.no_grad()
    def unmerge(self):
        self.layer.weight -= self.delta


@wrong("another parameter now")
class NewParameter(Base):
    def merge(self):
        self.original = self.layer.weight
        self.layer.weight = torch.nn.Parameter(self.original.detach() + self.delta)

    def unmerge(self):
        self.layer.weight = torch.nn.Parameter(self.original.detach().clone())


@wrong("ΔW is not added")
class NotMerged(Base):
    def merge(self):
        self.original = self.layer.weight.clone()


@wrong("ΔW is in the weight twice")
class Twice(Base):
    @torch.no_grad()
    def merge(self):
        super().merge()
        self.layer.weight += self.delta


@wrong("it adds it")
class Minus(Base):
    @torch.no_grad()
    def merge(self):
        self.original = self.layer.weight.clone()
        self.layer.weight -= self.delta


@right
class Clone(Base):
    pass


@right
class KeepsTheSum(Base):
    """A list of the rows, and the data swapped."""

    def merge(self):
        self.original = torch.stack([row.clone() for row in self.layer.weight.data])
        self.layer.weight.data = self.layer.weight.data + self.delta

    def unmerge(self):
        self.layer.weight.data = self.original
