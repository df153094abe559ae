"""Answers to lora.forward: base_output + s · B A x."""

import torch
import torch.nn.functional as F

from minipeft.course.corpus import right, wrong


def update(self, x):
    return x.to(self.lora_A.dtype) @ self.lora_A.T @ self.lora_B.T


@wrong("your update is 2.0 times too large: α where α/r was asked")
def alpha(self, x, base_output):
    r = self.lora_A.shape[0]
    return base_output + update(self, x) * self.scaling * r


@wrong("your update is 6.0 times too small: the scale s is missing")
def no_scale(self, x, base_output):
    return base_output + update(self, x)


@wrong("your update is 6.0 times too large: the scale s is applied twice")
def scaled_twice(self, x, base_output):
    return base_output + self.scaling * update(self, x) * self.scaling


@wrong("1.414 times too large: α/√r (rank-stabilised)")
def rank_stabilised(self, x, base_output):
    return base_output + update(self, x) * self.scaling * self.lora_A.shape[0] ** 0.5


@wrong("your update is 3.5 times too large")
def unknown_factor(self, x, base_output):
    return base_output + update(self, x) * self.scaling * 3.5


@wrong("the base output is missing")
def only_update(self, x, base_output):
    return self.scaling * update(self, x)


@wrong("the update is missing")
def only_base(self, x, base_output):
    return base_output


@wrong("s belongs to the update only")
def base_scaled(self, x, base_output):
    return self.scaling * (base_output + update(self, x))


@wrong("the update is subtracted")
def subtracted(self, x, base_output):
    return base_output - self.scaling * update(self, x)


@wrong("B was not turned over")
def b_not_transposed(self, x, base_output):
    return base_output + self.scaling * (x @ self.lora_A.T @ self.lora_B)


@wrong("RuntimeError: mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)")
def a_not_transposed(self, x, base_output):
    return base_output + self.scaling * (x @ self.lora_A @ self.lora_B)


@wrong("the output is None: is there a `return`?")
def no_return(self, x, base_output):
    base_output + self.scaling * update(self, x)


@wrong("base_output was changed in place")
def in_place(self, x, base_output):
    base_output += self.scaling * update(self, x)
    return base_output


@wrong("with self.scaling = 0.5")
def scale_written_down(self, x, base_output):
    return base_output + 6.0 * update(self, x)


@wrong("no gradient reaches A and B")
def detached(self, x, base_output):
    return base_output + self.scaling * update(self, x).detach()


@wrong("lora_A receives no gradient")
def a_detached(self, x, base_output):
    return base_output + self.scaling * (x @ self.lora_A.data.T @ self.lora_B.T)


@wrong("bring x to A's dtype before you multiply")
def not_for_half(self, x, base_output):
    return base_output + self.scaling * (x @ self.lora_A.T @ self.lora_B.T)


@wrong("so should be the sum; it is a tensor of shape (2, 2), float32")
def rises_to_float32(self, x, base_output):
    return base_output + self.scaling * update(self, x)


@wrong("the output has shape (2, 3)")
def wrong_shape(self, x, base_output):
    return x


@wrong("your update is [[6, 18], [12, 0]]; it should be [[18, 36], [24, 18]]")
def relu_between(self, x, base_output):
    ax = F.relu(x.to(self.lora_A.dtype) @ self.lora_A.T - 1)
    return base_output + self.scaling * (ax @ self.lora_B.T)


@wrong("the package's own")
def borrowed(self, x, base_output):
    from minipeft.methods.lora import LoRALayer

    return LoRALayer.forward(self, x, base_output)


@right
def einsum(self, x, base_output):
    x = x.to(self.lora_A.dtype)
    bax = torch.einsum("...i,ri,or->...o", x, self.lora_A, self.lora_B)
    return (base_output + self.scaling * bax).to(base_output.dtype)


@right
def linear(self, x, base_output):
    ax = F.linear(x.to(self.lora_A.dtype), self.lora_A)
    return (base_output + F.linear(ax, self.lora_B) * self.scaling).to(base_output.dtype)


@right
def whole_matrix(self, x, base_output):
    delta = self.lora_B @ self.lora_A
    return base_output + (self.scaling * (x.to(delta.dtype) @ delta.T)).to(base_output.dtype)


@right
def columns(self, x, base_output):
    """x as columns, as the paper writes it."""
    bax = self.lora_B @ (self.lora_A @ x.to(self.lora_A.dtype).unsqueeze(-1))
    return (base_output + self.scaling * bax.squeeze(-1)).to(base_output.dtype)
