"""Answers to family.row_lengths: ‖W + s · B A‖ along the rows, without forming it."""

import torch

from minipeft.course.corpus import right, wrong


def parts(self):
    """A, B, W, s."""
    return self.lora_A, self.lora_B, self.base.matrix(), self.scaling


def terms(self):
    """The three terms of ‖V‖²."""
    a, b, w, s = parts(self)
    return w.square().sum(1), 2 * s * ((w @ a.T) * b).sum(1), s**2 * ((b @ (a @ a.T)) * b).sum(1)


def root(squared):
    return squared.clamp(min=0).sqrt()


@wrong("V, or B A, is formed")
@torch.no_grad()
def formed(self, fresh=False):
    a, b, w, s = parts(self)
    return (w + s * b @ a).norm(dim=1)


@wrong("that is ‖W₀‖")
@torch.no_grad()
def frozen(self, fresh=False):
    return self.base.matrix().norm(dim=1)


@wrong("the root is missing")
@torch.no_grad()
def squares(self, fresh=False):
    return sum(terms(self))


@wrong("the lengths of V's columns")
@torch.no_grad()
def columns(self, fresh=False):
    a, b, w, s = parts(self)
    return (w + s * b @ a).norm(dim=0)


@wrong("the middle term 2 s")
@torch.no_grad()
def no_middle(self, fresh=False):
    first, _, last = terms(self)
    return root(first + last)


@wrong("the middle term counts twice")
@torch.no_grad()
def half_middle(self, fresh=False):
    first, middle, last = terms(self)
    return root(first + middle / 2 + last)


@wrong("the last term has s², not s")
@torch.no_grad()
def s_once(self, fresh=False):
    first, middle, last = terms(self)
    return root(first + middle + last / self.scaling)


@wrong("the last term s² · (B A Aᵀ) · B is missing")
@torch.no_grad()
def no_last(self, fresh=False):
    first, middle, _ = terms(self)
    return root(first + middle)


@wrong("not the lengths of A's rows alone")
@torch.no_grad()
def diagonal(self, fresh=False):
    first, middle, _ = terms(self)
    a, b, _, s = parts(self)
    return root(first + middle + s**2 * (b.square() @ a.square().sum(1)))


@wrong("a length is NaN")
@torch.no_grad()
def negative(self, fresh=False):
    return sum(terms(self)).sqrt()


@wrong("the lengths carry a gradient")
def attached(self, fresh=False):
    return root(sum(terms(self)))


@wrong("one length for the whole matrix")
@torch.no_grad()
def whole(self, fresh=False):
    return root(sum(terms(self)).sum())


@right
@torch.no_grad()
def three_terms(self, fresh=False):
    return root(sum(terms(self)))


@right
@torch.no_grad()
def einsum(self, fresh=False):
    a, b, w, s = parts(self)
    first = torch.einsum("oi,oi->o", w, w)
    middle = torch.einsum("or,or->o", w @ a.T, b)
    last = torch.einsum("or,rq,oq->o", b, a @ a.T, b)
    return root(first + 2 * s * middle + s * s * last)


@right
@torch.no_grad()
def row_by_row(self, fresh=False):
    a, b, w, s = parts(self)
    rows = [w_i + s * (b_i @ a) for w_i, b_i in zip(w, b, strict=True)]  # one row of V at a time
    return torch.stack([row.norm() for row in rows])
