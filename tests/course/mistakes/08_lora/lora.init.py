"""Answers to lora.init: how A and B start."""

import math

import torch
from torch import nn

from minipeft.course.corpus import right, wrong


def fill(layer, choice, a, b):
    """The package's choices around the two lines that a mistake changes."""
    if choice == "gaussian":
        nn.init.normal_(layer.lora_A, std=1 / layer.lora_A.shape[0])
    else:
        a(layer.lora_A)
    if choice is False:
        nn.init.kaiming_uniform_(layer.lora_B, a=math.sqrt(5))
    else:
        b(layer.lora_B)


def kaiming(t):
    nn.init.kaiming_uniform_(t, a=math.sqrt(5))


@wrong("A is zero and B random; asked for is the reverse")
def swapped(self, init_lora_weights=True):
    fill(self, init_lora_weights, nn.init.zeros_, kaiming)


@wrong("A and B are both zero: neither learns")
def both_zero(self, init_lora_weights=True):
    fill(self, init_lora_weights, nn.init.zeros_, nn.init.zeros_)


@wrong("B is not zero: ΔW changes the model before training")
def both_random(self, init_lora_weights=True):
    fill(self, init_lora_weights, kaiming, kaiming)


@wrong("2.45 times too large: that is √(6/in), Kaiming with a = 0")
def kaiming_for_relu(self, init_lora_weights=True):
    fill(self, init_lora_weights, nn.init.kaiming_uniform_, nn.init.zeros_)


@wrong("4 times too large: that is 1/√r, the fan-in was read as r")
def fan_in_is_r(self, init_lora_weights=True):
    def a(t):
        nn.init.kaiming_uniform_(t.T, a=math.sqrt(5))

    fill(self, init_lora_weights, a, nn.init.zeros_)


@wrong("that is Xavier's")
def xavier(self, init_lora_weights=True):
    fill(self, init_lora_weights, nn.init.xavier_uniform_, nn.init.zeros_)


@wrong("B keeps what was in it")
def b_forgotten(self, init_lora_weights=True):
    fill(self, init_lora_weights, kaiming, lambda t: None)


@wrong("A is uniform as for True: that branch is not reached")
def option_ignored(self, init_lora_weights=True):
    kaiming(self.lora_A)
    nn.init.zeros_(self.lora_B)


@wrong("a non-empty string counts as true")
def every_text_is_true(self, init_lora_weights=True):
    fill(self, bool(init_lora_weights), kaiming, nn.init.zeros_)


@wrong("A's deviation is 1/√r, not 1/r")
def gaussian_of_the_root(self, init_lora_weights=True):
    fill(self, init_lora_weights, kaiming, nn.init.zeros_)
    if init_lora_weights == "gaussian":
        nn.init.normal_(self.lora_A, std=self.lora_A.shape[0] ** -0.5)


@wrong("/r, not 1/r")
def gaussian_of_half_the_rank(self, init_lora_weights=True):
    fill(self, init_lora_weights, kaiming, nn.init.zeros_)
    if init_lora_weights == "gaussian":
        nn.init.normal_(self.lora_A, std=2 / self.lora_A.shape[0])


@wrong("A reaches")
def small_normal(self, init_lora_weights=True):
    fill(self, init_lora_weights, lambda t: nn.init.normal_(t, std=0.02), nn.init.zeros_)


@right
def bound_by_hand(self, init_lora_weights=True):
    r, inn = self.lora_A.shape
    with torch.no_grad():
        if init_lora_weights == "gaussian":
            self.lora_A.copy_(torch.randn(r, inn) / r)
        else:
            self.lora_A.uniform_(-(inn**-0.5), inn**-0.5)
        self.lora_B.zero_()
        if init_lora_weights is False:
            self.lora_B.uniform_(-(r**-0.5), r**-0.5)


@right
def new_tensors(self, init_lora_weights=True):
    """Through .data, as older code does it."""
    r, inn = self.lora_A.shape
    scale = 1 / math.sqrt(inn)
    self.lora_A.data = (2 * torch.rand(r, inn) - 1) * scale
    self.lora_B.data = torch.zeros_like(self.lora_B)
    if init_lora_weights == "gaussian":
        self.lora_A.data.normal_(0, 1 / r)
    if init_lora_weights is False:
        self.lora_B.data = (2 * torch.rand_like(self.lora_B) - 1) / math.sqrt(r)
