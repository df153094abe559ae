"""Answers to ia3.vector: ia3_l in its rows, one in the others."""

import torch
import torch.nn.functional as F

from minipeft.course.corpus import right, wrong


@wrong("that switches them off")
def zeros(self):
    return self.ia3_l.new_zeros(self.features, 1).index_copy(0, self.rows, self.ia3_l)


@wrong("stands in the first rows")
def in_front(self):
    return F.pad(self.ia3_l, (0, 0, 0, self.features - len(self.rows)), value=1.0)


@wrong("`index_copy` returns its result")
def not_kept(self):
    ones = self.ia3_l.new_ones(self.features, 1)
    ones.index_copy(0, self.rows, self.ia3_l)
    return ones


@wrong("K's and V's rows only")
def as_stored(self):
    return self.ia3_l


@wrong("it is (features, 1)")
def flat(self):
    return self.ia3_l.new_ones(self.features).index_copy(0, self.rows, self.ia3_l.flatten())


@wrong("no gradient reaches ia3_l")
def detached(self):
    whole = torch.ones(self.features, 1)
    whole[self.rows] = self.ia3_l.detach()
    return whole


@wrong("the gradient of ia3_l")
def one_learns(self):
    learned = torch.cat([self.ia3_l[:1], self.ia3_l[1:].detach()])
    return self.ia3_l.new_ones(self.features, 1).index_copy(0, self.rows, learned)


@wrong("ℓ ⊙ (1, 1, 1, 1) is")
def two_rows_only(self):
    ones = self.ia3_l.new_ones(self.features, 1)
    return ones.index_copy(0, self.rows[:2], self.ia3_l[:2])


@wrong("is there a `return`?")
def no_return(self):
    self.ia3_l.new_ones(self.features, 1).index_copy(0, self.rows, self.ia3_l)


@right
def assigned(self):
    whole = torch.ones(self.features, 1)
    whole[self.rows] = self.ia3_l
    return whole


@right
def difference(self):
    hot = F.one_hot(self.rows, self.features).to(self.ia3_l.dtype)  # (2d, 3d)
    return 1 + hot.T @ (self.ia3_l - 1)
