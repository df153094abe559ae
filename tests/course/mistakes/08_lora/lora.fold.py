"""Answers to lora.fold: W + s · B A."""

import torch

from minipeft.course.corpus import right, wrong


@wrong("W is missing: only ΔW is returned")
def only_delta(self, weight, bias):
    return self.delta_weight(), bias


@wrong("s is missing")
def not_scaled(self, weight, bias):
    return weight + self.lora_B @ self.lora_A, bias


@wrong("ΔW is scaled twice")
def scaled_twice(self, weight, bias):
    return weight + self.scaling * self.delta_weight(), bias


@wrong("ΔW is transposed")
def transposed(self, weight, bias):
    return weight + self.scaling * (self.lora_B @ self.lora_A).T, bias


@wrong("that is A B, (r, r)")
def the_other_order(self, weight, bias):
    return weight + self.scaling * (self.lora_A @ self.lora_B), bias


@wrong("ΔW is subtracted")
def subtracted(self, weight, bias):
    return weight - self.delta_weight(), bias


@wrong("the weight was changed in place")
def in_place(self, weight, bias):
    with torch.no_grad():
        weight += self.delta_weight()
    return weight, bias


@wrong("return the pair (weight, bias)")
def weight_alone(self, weight, bias):
    return weight + self.delta_weight()


@wrong("the bias is [8, 9]; it should be [5, 6]")
def bias_moved(self, weight, bias):
    return weight + self.delta_weight(), bias + self.scaling


@wrong("a layer without bias must stay without")
def bias_invented(self, weight, bias):
    return weight + self.delta_weight(), torch.zeros(2) if bias is None else bias


@right
def einsum(self, weight, bias):
    return weight + self.scaling * torch.einsum("or,ri->oi", self.lora_B, self.lora_A), bias


@right
def addmm(self, weight, bias):
    return torch.addmm(weight, self.lora_B, self.lora_A, alpha=self.scaling), bias


@right
def column_by_column(self, weight, bias):
    """ΔW's columns are the updates of the unit vectors."""
    unit = torch.eye(weight.shape[1])
    columns = self(unit, torch.zeros(weight.shape[1], weight.shape[0]))
    return weight + columns.T, bias
