"""Answers to family.embedding: base_output + s · B A x for one-hot x."""

import torch
import torch.nn.functional as F

from minipeft.course.corpus import right, wrong


def update(self, x):
    """B A x, (..., dim), not scaled."""
    return self.lora_A.T[x] @ self.lora_B.T


@wrong("the base output is missing")
def update_only(self, x, base_output):
    return self.scaling * update(self, x)


@wrong("the scale s is missing")
def no_scale(self, x, base_output):
    return base_output + update(self, x)


@wrong("α where s = α/r was asked")
def alpha(self, x, base_output):
    return base_output + 2 * self.scaling * update(self, x)


@wrong("s belongs to the update only")
def all_scaled(self, x, base_output):
    return self.scaling * (base_output + update(self, x))


@wrong("the tokens are flattened")
def flattened(self, x, base_output):
    out = base_output.flatten(0, -2) + self.scaling * update(self, x.flatten())
    return out.to(base_output.dtype)


@wrong("the table is looked up again")
def again(self, x, base_output):
    return self.base.layer(x) + self.scaling * update(self, x)


@wrong("all tokens are summed")
def summed(self, x, base_output):
    return base_output + self.scaling * update(self, x).flatten(0, -2).sum(0)


@wrong("IndexError")
def rows_of_a(self, x, base_output):
    return base_output + self.scaling * self.lora_A[x] @ self.lora_B.T


@wrong("RuntimeError")
def as_numbers(self, x, base_output):
    return base_output + self.scaling * F.linear(F.linear(x.float(), self.lora_A), self.lora_B)


@wrong("base_output was changed in place")
def in_place(self, x, base_output):
    return base_output.add_(self.scaling * update(self, x))


@wrong("base_output in bfloat16")
def wide(self, x, base_output):
    return base_output + self.scaling * update(self, x)


@wrong("no gradient reaches A and B")
def detached(self, x, base_output):
    return base_output + self.scaling * update(self, x).detach()


@wrong("the output is None")
def nothing(self, x, base_output):
    base_output + self.scaling * update(self, x)


@right
def looked_up(self, x, base_output):
    ax = F.embedding(x, self.lora_A.T)
    return (base_output + self.scaling * F.linear(ax, self.lora_B)).to(base_output.dtype)


@right
def one_hot(self, x, base_output):
    hot = F.one_hot(x, self.lora_A.shape[1]).to(self.lora_A.dtype)
    ax = torch.einsum("...v,rv->...r", hot, self.lora_A)
    bax = torch.einsum("...r,dr->...d", ax, self.lora_B)
    return (base_output + self.scaling * bax).to(base_output.dtype)
