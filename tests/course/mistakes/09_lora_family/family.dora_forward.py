"""Answers to family.dora_forward: f ⊙ (y - b + s · B A x) + b."""

import torch
import torch.nn.functional as F

from minipeft import LoRALayer
from minipeft.course.corpus import right, wrong


def lora(self, x, y):
    """Y + s · B A x."""
    return LoRALayer.forward(self, x, y.to(self.lora_A.dtype))


def bias_of(self):
    return 0 if self.base.bias is None else self.base.bias


@wrong("that is LoRA's output")
def no_factor(self, x, base_output):
    return lora(self, x, base_output)


@wrong("the bias in base_output is scaled by f too")
def bias_scaled(self, x, base_output):
    return self.factor() * lora(self, x, base_output)


@wrong("the bias counts twice")
def bias_twice(self, x, base_output):
    return self.factor() * lora(self, x, base_output) + bias_of(self)


@wrong("the bias is gone")
def bias_lost(self, x, base_output):
    return self.factor() * (lora(self, x, base_output) - bias_of(self))


@wrong("f scales the update only")
def update_only(self, x, base_output):
    return base_output + self.factor() * (lora(self, x, base_output) - base_output)


@wrong("f scales W₀ x only")
def frozen_only(self, x, base_output):
    f = self.factor()
    update = lora(self, x, base_output) - base_output
    return f * base_output + update + (1 - f) * bias_of(self)


@wrong("‖V‖ is missing: the rows are multiplied by m")
def not_divided(self, x, base_output):
    m, b = self.lora_magnitude_vector, bias_of(self)
    return m * (lora(self, x, base_output) - b) + b


@wrong("m is missing: the rows have length 1")
def only_divided(self, x, base_output):
    b = bias_of(self)
    return (lora(self, x, base_output) - b) / self.row_lengths() + b


@wrong("the sign of the last term")
def sign(self, x, base_output):
    f = self.factor()
    return f * lora(self, x, base_output) + (f - 1) * bias_of(self)


@wrong("in base_output's dtype")
def another_dtype(self, x, base_output):
    f = self.factor()
    return f * lora(self, x, base_output) + (1 - f) * bias_of(self)


@wrong("TypeError")
def bias_taken_for_granted(self, x, base_output):
    f = self.factor()
    h = f * lora(self, x, base_output) + (1 - f) * self.base.bias
    return h.to(base_output.dtype)


@wrong("lora_magnitude_vector receives no gradient")
def detached(self, x, base_output):
    f = self.factor().detach()
    h = f * lora(self, x, base_output) + (1 - f) * bias_of(self)
    return h.to(base_output.dtype)


@right
def bias_taken_out(self, x, base_output):
    b = bias_of(self)
    vx = lora(self, x, base_output) - b
    h = self.lora_magnitude_vector * vx / self.row_lengths() + b
    return h.to(base_output.dtype)


@right
def spelled_out(self, x, base_output):
    x, f = x.to(self.lora_A.dtype), self.factor()
    update = self.scaling * F.linear(F.linear(x, self.lora_A), self.lora_B)
    return torch.lerp(f * 0 + bias_of(self), base_output + update, f).to(base_output.dtype)
