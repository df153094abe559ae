"""Answers to ia3.forward: ℓ ⊙ x along the last axis."""

import torch

from minipeft.course.corpus import right, wrong


@wrong("with feedforward=False ℓ scales the tokens")
def as_stored(self, x):
    return (x * self.vector()).to(x.dtype)


@wrong("with feedforward=True ℓ scales the tokens")
def turned_over(self, x):
    return (x * self.vector().T).to(x.dtype)


@wrong("ℓ is added; it multiplies")
def added(self, x):
    return x + self.vector().flatten()


@wrong("x is added to ℓ ⊙ x")
def residual(self, x):
    return x + x * self.vector().flatten()


@wrong("ℓ is missing")
def nothing(self, x):
    return x


@wrong("the products are summed")
def dot_product(self, x):
    return x @ self.vector().flatten()


@wrong("take `self.vector()`")
def parameter(self, x):
    return (x * self.ia3_l.flatten()).to(x.dtype)


@wrong("float32 out")
def float32_out(self, x):
    return x * self.vector().flatten()


@wrong("rounded to bfloat16 before the product")
def rounded_twice(self, x):
    return x * self.vector().flatten().to(x.dtype)


@wrong("no gradient reaches ℓ")
def detached(self, x):
    return x * self.vector().detach().flatten()


@wrong("x was changed in place")
def in_place(self, x):
    with torch.no_grad():
        x *= self.vector().flatten()
    return x + 0 * self.vector().sum()


@wrong("the gradient of ℓ is")
def first_token_learns(self, x):
    scale = self.vector().flatten()
    rest = torch.zeros(len(x))
    rest[0] = 1
    rest = rest.view(-1, *[1] * (x.dim() - 1))
    return ((rest * scale + (1 - rest) * scale.detach()) * x).to(x.dtype)


@wrong("for x of shape (3, 1, 3) the output")
def two_axes_only(self, x):
    scale = self.vector().flatten()
    return (x * scale if x.dim() < 3 else x + 0 * scale).to(x.dtype)


@wrong("with feedforward=False the products are summed")
def dot_product_kept(self, x):
    return (x * self.vector().flatten()).sum(-1, keepdim=True)


@right
def einsum(self, x):
    return torch.einsum("...i,i->...i", x.float(), self.vector().reshape(-1)).to(x.dtype)


@right
def diagonal(self, x):
    scale = torch.diag(self.vector().flatten())
    return (x.to(scale.dtype) @ scale).type_as(x)
