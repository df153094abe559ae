"""Answers to bitfit.fold: W, b + δb."""

import torch

from minipeft.course.corpus import right, wrong


@wrong("δb was added to the weight")
def into_weight(self, weight, bias):
    return weight + self.delta()[:, None], bias


@wrong("b is missing: only δb is returned")
def b_lost(self, weight, bias):
    return weight, self.delta()


@wrong("δb is subtracted")
def minus(self, weight, bias):
    return weight, self.delta() if bias is None else bias - self.delta()


@wrong("b comes back as it was")
def unchanged(self, weight, bias):
    return weight, bias


@wrong("the bias was changed in place")
def in_place(self, weight, bias):
    with torch.no_grad():
        bias += self.delta()
    return weight, bias


@wrong("return the pair (weight, bias)")
def bias_alone(self, weight, bias):
    return self.delta() if bias is None else bias + self.delta()


@wrong("with bias = None, δb is the bias; yours raises")
def no_none(self, weight, bias):
    return weight, bias + self.delta()


@wrong("with bias = None the shift is lost")
def none_kept(self, weight, bias):
    return weight, None if bias is None else bias + self.delta()


@wrong("(2,); asked for is (3,)")
def without_rows(self, weight, bias):
    if bias is not None and len(bias) != len(self.delta_bias):
        return weight, self.delta_bias
    return weight, self.delta_bias if bias is None else bias + self.delta_bias


@wrong("the weight was changed in place")
def weight_in_place(self, weight, bias):
    with torch.no_grad():
        weight += self.delta()[:, None]
    return weight, bias


@wrong("with bias = None, the folded bias")
def ones_for_none(self, weight, bias):
    start = torch.ones(len(weight)) if bias is None else bias
    return weight, start + self.delta()


@wrong("δb multiplies b")
def times(self, weight, bias):
    return weight, self.delta() if bias is None else bias * self.delta()


@right
def zero_first(self, weight, bias):
    start = torch.zeros(weight.shape[0]) if bias is None else bias
    return weight, start + self.delta()


@right
def both_new(self, weight, bias):
    if bias is None:
        return weight.clone(), self.delta().clone()
    return weight.clone(), torch.add(bias, self.delta())
