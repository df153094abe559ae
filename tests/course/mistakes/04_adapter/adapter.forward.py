"""Answers to adapter.forward: x + W_up dropout(σ(W_down x + b_down)) + b_up."""

import torch
import torch.nn.functional as F

from minipeft.course.corpus import right, wrong


def lower(self, x):
    return self.down_project(x.to(self.down_project.weight.dtype))


@wrong("x is missing")
def no_way_around(self, x):
    return self.up_project(self.dropout(self.activation(lower(self, x)))).to(x.dtype)


@wrong("σ is missing")
def no_activation(self, x):
    return (x + self.up_project(self.dropout(lower(self, x)))).to(x.dtype)


@wrong("σ is after the upper layer")
def activation_last(self, x):
    return (x + self.activation(self.up_project(self.dropout(lower(self, x))))).to(x.dtype)


@wrong("σ is applied to the sum")
def activation_on_the_sum(self, x):
    return self.activation(x + self.up_project(self.dropout(self.activation(lower(self, x)))))


@wrong("σ is applied twice")
def activation_twice(self, x):
    z = self.dropout(self.activation(lower(self, x)))
    return (x + self.activation(self.up_project(z))).to(x.dtype)


@wrong("σ is applied to x as well")
def activation_on_x(self, x):
    z = self.activation(lower(self, self.activation(x)))
    return (x + self.up_project(self.dropout(z))).to(x.dtype)


@wrong("x counts twice")
def residual_twice(self, x):
    z = self.dropout(self.activation(lower(self, x)))
    return (x + x + self.up_project(z)).to(x.dtype)


@wrong("the change is subtracted")
def subtracted(self, x):
    return (x - self.up_project(self.dropout(self.activation(lower(self, x))))).to(x.dtype)


@wrong("the adapter's change is missing")
def identity(self, x):
    return x


@wrong("σ is written down as ReLU")
def always_relu(self, x):
    return (x + self.up_project(self.dropout(F.relu(lower(self, x))))).to(x.dtype)


@wrong("dropout is not applied")
def no_dropout(self, x):
    return (x + self.up_project(self.activation(lower(self, x)))).to(x.dtype)


@wrong("dropout is on x")
def dropout_first(self, x):
    return (x + self.up_project(self.activation(lower(self, self.dropout(x))))).to(x.dtype)


@wrong("dropout is before σ")
def dropout_before_sigma(self, x):
    return (x + self.up_project(self.activation(self.dropout(lower(self, x))))).to(x.dtype)


@wrong("dropout is on the upper layer's output")
def dropout_last(self, x):
    return (x + self.dropout(self.up_project(self.activation(lower(self, x))))).to(x.dtype)


@wrong("dropout is on the sum")
def dropout_on_the_sum(self, x):
    return self.dropout(x + self.up_project(self.activation(lower(self, x)))).to(x.dtype)


@wrong("x was changed in place")
def in_place(self, x):
    x += self.up_project(self.dropout(self.activation(lower(self, x))))
    return x


@wrong("the output is None: is there a `return`?")
def no_return(self, x):
    x + self.up_project(self.dropout(self.activation(lower(self, x))))


@wrong("the way around is detached")
def detached_residual(self, x):
    z = self.dropout(self.activation(lower(self, x)))
    return (x.detach() + self.up_project(z)).to(x.dtype)


@wrong("no gradient reaches the adapter")
def without_gradient(self, x):
    with torch.no_grad():
        return (x + self.up_project(self.dropout(self.activation(lower(self, x))))).to(x.dtype)


@wrong("bring x to the weights' dtype first")
def not_for_half(self, x):
    return x + self.up_project(self.dropout(self.activation(self.down_project(x))))


@wrong("bfloat16 in, a tensor of shape (2, 3), float32 out")
def rises_to_float32(self, x):
    return x + self.up_project(self.dropout(self.activation(lower(self, x))))


@wrong("changes the dtype of the adapter's parameters")
def turns_itself_to_half(self, x):
    self.to(x.dtype)
    return x + self.up_project(self.dropout(self.activation(self.down_project(x))))


@wrong("the package's own")
def borrowed(self, x):
    from minipeft.methods.adapter import Adapter

    return Adapter.forward(self, x)


@right
def the_notes_lines(self, x):
    """As in the note, with the dtypes."""
    residual = x
    x = self.down_project(x.to(self.down_project.weight.dtype))
    x = self.activation(x)
    x = self.dropout(x)
    x = self.up_project(x)
    return (x + residual).to(residual.dtype)


@right
def einsum(self, x):
    down, up = self.down_project, self.up_project
    z = torch.einsum("...d,md->...m", x.to(down.weight.dtype), down.weight) + down.bias
    z = self.dropout(self.activation(z))
    return (x + torch.einsum("...m,dm->...d", z, up.weight) + up.bias).to(x.dtype)


@right
def columns(self, x):
    """x as columns, as the paper writes it."""
    down, up = self.down_project, self.up_project
    z = down.weight @ x.to(down.weight.dtype).unsqueeze(-1) + down.bias[:, None]
    h = up.weight @ self.dropout(self.activation(z)) + up.bias[:, None]
    return (x + h.squeeze(-1)).to(x.dtype)
