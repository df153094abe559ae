"""Answers to ia3.fold: rows and bias for outputs, columns for inputs."""

import torch

from minipeft.course.corpus import right, wrong


def scaled(self, bias):
    """ℓ ⊙ b where b stands inside, else b."""
    kept = bias is None or self.changes_input
    return bias if kept else self.vector().flatten() * bias


@wrong("it scales the rows, one per output")
def turned_over(self, weight, bias):
    return weight * self.vector().T, scaled(self, bias)


@wrong("it scales the columns, which meet the input")
def rows_always(self, weight, bias):
    return weight * self.vector().view(-1, 1), scaled(self, bias)


@wrong("W comes back as it was")
def bias_only(self, weight, bias):
    return weight, scaled(self, bias)


@wrong("ℓ is added to W")
def added(self, weight, bias):
    return weight + self.vector(), scaled(self, bias)


@wrong("b is not scaled")
def bias_kept(self, weight, bias):
    return self.vector() * weight, bias


@wrong("b is scaled; it is added after W")
def bias_always(self, weight, bias):
    return self.vector() * weight, None if bias is None else self.vector().flatten() * bias


@wrong("with bias = None yours raises")
def no_none(self, weight, bias):
    b = bias + 0
    return self.vector() * weight, b if self.changes_input else self.vector().flatten() * b


@wrong("the weight was changed in place")
def in_place(self, weight, bias):
    with torch.no_grad():
        weight *= self.vector()
    return weight, scaled(self, bias)


@wrong("the bias was changed in place")
def bias_in_place(self, weight, bias):
    if bias is not None and not self.changes_input:
        with torch.no_grad():
            bias *= self.vector().flatten()
    return self.vector() * weight, bias


@wrong("a folded W (3, 2)")
def square_only(self, weight, bias):
    n = weight.shape[1]
    whole = self.vector()
    whole = whole if self.changes_input else whole[:n].expand(n, 1)
    return (whole * weight if len(weight) == n else weight * 1), scaled(self, bias)


@wrong("return the pair (weight, bias)")
def weight_alone(self, weight, bias):
    return self.vector() * weight


@wrong("must stay without")
def bias_made_up(self, weight, bias):
    b = torch.zeros(len(weight)) if bias is None else bias
    return self.vector() * weight, scaled(self, b)


@right
def diagonals(self, weight, bias):
    scale = torch.diag(self.vector().flatten())
    if self.changes_input:
        return weight @ scale, bias
    return scale @ weight, None if bias is None else scale @ bias


@right
def einsum(self, weight, bias):
    how = "i,oi->oi" if self.changes_input else "o,oi->oi"
    return torch.einsum(how, self.vector().flatten(), weight), scaled(self, bias)
