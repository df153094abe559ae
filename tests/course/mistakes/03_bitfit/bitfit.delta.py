"""Answers to bitfit.delta: δb in its rows, zero in the others."""

import torch
import torch.nn.functional as F

from minipeft.course.corpus import right, wrong


@wrong("one number for each row only")
def rows_forgotten(self):
    return self.delta_bias


@wrong("stands in the first rows")
def in_front(self):
    if self.rows is None:
        return self.delta_bias
    return F.pad(self.delta_bias, (0, self.shape[0] - len(self.rows)))


@wrong("`index_copy` returns its result")
def not_kept(self):
    if self.rows is None:
        return self.delta_bias
    zeros = self.delta_bias.new_zeros(self.shape)
    zeros.index_copy(0, self.rows, self.delta_bias)
    return zeros


@wrong("adding nothing means zero")
def ones(self):
    if self.rows is None:
        return self.delta_bias
    return self.delta_bias.new_ones(self.shape).index_copy(0, self.rows, self.delta_bias)


@wrong("no gradient reaches delta_bias")
def detached(self):
    if self.rows is None:
        return self.delta_bias
    zeros = self.delta_bias.new_zeros(self.shape)
    zeros[self.rows] = self.delta_bias.data
    return zeros


@wrong("with rows [2, 1] of 3 is [0, 10, -5]")
def order_lost(self):
    if self.rows is None:
        return self.delta_bias
    rows = self.rows.sort().values
    return self.delta_bias.new_zeros(self.shape).index_copy(0, rows, self.delta_bias)


@wrong("with rows = None, delta_bias is whole already")
def always_rows(self):
    return self.delta_bias.new_zeros(self.shape).index_copy(0, self.rows, self.delta_bias)


@wrong("the gradient of delta_bias is")
def one_learns(self):
    if self.rows is None:
        return self.delta_bias
    learned = torch.cat([self.delta_bias[:1], self.delta_bias[1:].detach()])
    return learned.new_zeros(self.shape).index_copy(0, self.rows, learned)


@wrong("with rows = None, δb")
def zero_without_rows(self):
    zeros = self.delta_bias.new_zeros(self.shape)
    return zeros if self.rows is None else zeros.index_copy(0, self.rows, self.delta_bias)


@right
def assigned(self):
    if self.rows is None:
        return self.delta_bias
    whole = torch.zeros(self.shape)
    whole[self.rows] = self.delta_bias
    return whole


@right
def one_hot(self):
    if self.rows is None:
        return self.delta_bias
    return self.delta_bias @ F.one_hot(self.rows, self.shape[0]).to(self.delta_bias.dtype)


@right
def scattered(self):
    if self.rows is None:
        return self.delta_bias
    return torch.zeros(self.shape).scatter(0, self.rows, self.delta_bias)
