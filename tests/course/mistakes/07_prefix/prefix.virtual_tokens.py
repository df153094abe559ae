"""Answers to prefix.virtual_tokens: the rows, or the MLP of the rows."""

import torch
from torch.nn import functional as F

from minipeft.course.corpus import right, wrong


@wrong("the MLP is left out")
def rows_always(self):
    return self.embedding.weight


@wrong("tanh is missing")
def linear_only(self):
    rows = self.embedding.weight
    return rows if self.transform is None else self.transform[2](self.transform[0](rows))


@wrong("W₂ and b₂ are missing")
def half_way(self):
    rows = self.embedding.weight
    return rows if self.transform is None else self.transform[:2](rows)


@wrong("b₂ is missing")
def no_bias(self):
    rows = self.embedding.weight
    if self.transform is None:
        return rows
    return self.transform[:2](rows) @ self.transform[2].weight.T


@wrong("that is the layer `self.embedding`")
def the_layer(self):
    return self.embedding


@wrong("'NoneType' object is not callable")
def transform_always(self):
    return self.transform(self.embedding.weight)


@wrong("no gradient reaches the prefix")
def detached(self):
    rows = self.embedding.weight.detach()
    return rows if self.transform is None else self.transform(rows)


@wrong("embedding.weight receives no gradient")
def detached_under_the_mlp(self):
    rows = self.embedding.weight
    return rows if self.transform is None else self.transform(rows.detach())


@wrong("is transposed")
def turned(self):
    rows = self.embedding.weight
    return (rows if self.transform is None else self.transform(rows)).T


@wrong("is None: is there a `return`?")
def no_return(self):
    self.embedding.weight * 1


@right
def looked_up(self):
    rows = self.embedding(torch.arange(self.num_virtual_tokens))
    return rows if self.transform is None else self.transform(rows)


@right
def if_else(self):
    if self.is_stored():
        return self.embedding.weight
    return self.transform(self.embedding.weight)


@right
def spelled_out(self):
    rows = self.embedding.weight
    if self.transform is not None:
        first, _, last = self.transform
        rows = F.linear(torch.tanh(F.linear(rows, first.weight, first.bias)), last.weight)
        rows = rows + last.bias
    return rows
