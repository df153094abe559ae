"""Answers to bitfit.forward: base_output + δb."""

import torch

from minipeft.course.corpus import right, wrong
from minipeft.methods.bitfit import along


@wrong("δb is subtracted")
def minus(self, base_output):
    return (base_output - along(self.axis, self.delta(), base_output)).to(base_output.dtype)


@wrong("δb is missing")
def nothing(self, base_output):
    return base_output


@wrong("only δb is returned")
def shift_alone(self, base_output):
    return self.delta().expand_as(base_output)


@wrong("δb multiplies the output")
def times(self, base_output):
    return base_output * self.delta()


@wrong("along the last axis")
def axis_forgotten(self, base_output):
    return (base_output + self.delta()).to(base_output.dtype)


@wrong("bfloat16 in, a tensor of shape (1,), float32 out")
def float32_out(self, base_output):
    return base_output + along(self.axis, self.delta(), base_output)


@wrong("rounded to bfloat16 before the sum")
def rounded_twice(self, base_output):
    return base_output + along(self.axis, self.delta().to(base_output.dtype), base_output)


@wrong("changed in place")
def in_place(self, base_output):
    return base_output.add_(self.delta().detach())


@wrong("no gradient reaches δb")
def detached(self, base_output):
    return base_output + self.delta().detach()


@wrong("is there a `return`?")
def no_return(self, base_output):
    base_output + self.delta()


@wrong("base output is missing: only δb is")
def shift_not_expanded(self, base_output):
    return self.delta()


@wrong("the gradient of δb, for two rows, is")
def first_token_learns(self, base_output):
    shift = along(self.axis, self.delta(), base_output).expand_as(base_output)
    learned = torch.cat([shift[:1], shift[1:].detach()])
    return (base_output + learned).to(base_output.dtype)


@wrong("with rows [0, 2] of 3 the output")
def rows_forgotten(self, base_output):
    shift = along(self.axis, self.delta(), base_output)
    shift = shift if self.rows is None else shift + 1
    return (base_output + shift).to(base_output.dtype)


@right
def moved_axes(self, base_output):
    last = base_output if self.axis == -1 else base_output.movedim(self.axis, -1)
    shifted = (last.float() + self.delta()).to(base_output.dtype)
    return shifted if self.axis == -1 else shifted.movedim(-1, self.axis)


@right
def torch_add(self, base_output):
    shift = along(self.axis, self.delta(), base_output)
    return torch.add(shift, base_output).type_as(base_output)
