"""Answers to lora.fan_in: the notes' class with its initialisation mended."""

import math

import torch
from torch import nn

from minipeft.course.corpus import right, wrong


class Notes(nn.Module):
    """The notes' layer; `start` is what an answer changes."""

    def __init__(self, in_features, out_features, rank=16, lora_alpha=32):
        super().__init__()
        self.scaling = lora_alpha / rank
        self.lora_A = nn.Parameter(torch.zeros(in_features, rank))
        self.lora_B = nn.Parameter(torch.zeros(rank, out_features))
        self.start()

    def forward(self, x, base_output):
        return base_output + (x @ self.lora_A @ self.lora_B) * self.scaling


@wrong("4 times too large: that is 1/√r, the fan-in was read as r")
class AsWritten(Notes):
    def start(self):
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))


@wrong("2.45 times too large: that is √(6/in)")
class WithoutTheSlope(Notes):
    def start(self):
        nn.init.kaiming_uniform_(self.lora_A.T)


@wrong("that is Xavier's")
class Xavier(Notes):
    def start(self):
        nn.init.xavier_uniform_(self.lora_A)


@wrong("A is zero; it should be random")
class ZeroA(Notes):
    def start(self):
        nn.init.zeros_(self.lora_A)


@wrong("B is not zero")
class RandomB(Notes):
    def start(self):
        nn.init.kaiming_uniform_(self.lora_A.T, a=math.sqrt(5))
        nn.init.kaiming_uniform_(self.lora_B, a=math.sqrt(5))


@wrong("cannot be multiplied")
class TurnedHalfway(Notes):
    """A is stored (r, in), and forward still multiplies by it as (in, r)."""

    def start(self):
        self.lora_A = nn.Parameter(self.lora_A.detach().T.contiguous())
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))


@right
class Transposed(Notes):
    def start(self):
        nn.init.kaiming_uniform_(self.lora_A.T, a=math.sqrt(5))


@right
class ByHand(Notes):
    def start(self):
        bound = 1 / math.sqrt(self.lora_A.shape[0])
        nn.init.uniform_(self.lora_A, -bound, bound)


@right
class Divided(Notes):
    """The notes' line, divided by the factor that it is too large."""

    def start(self):
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        with torch.no_grad():
            self.lora_A /= math.sqrt(self.lora_A.shape[0] / self.lora_A.shape[1])


@right
class TurnedOver(Notes):
    """Both matrices as they are derived: A (r, in), B (out, r)."""

    def start(self):
        self.lora_A = nn.Parameter(self.lora_A.detach().T.contiguous())
        self.lora_B = nn.Parameter(self.lora_B.detach().T.contiguous())
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, x, base_output):
        return base_output + (x @ self.lora_A.T @ self.lora_B.T) * self.scaling
