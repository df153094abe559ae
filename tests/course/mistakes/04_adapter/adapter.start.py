"""Answers to adapter.start: the note's class with its start mended."""

import torch
from torch import nn

from minipeft.course.corpus import right, wrong


class Notes(nn.Module):
    """The note's layer; `start` is what an answer changes."""

    def __init__(self, hidden_size, adapter_size=64, dropout=0.1):
        super().__init__()
        self.down_project = nn.Linear(hidden_size, adapter_size)
        self.activation = nn.GELU()
        self.up_project = nn.Linear(adapter_size, hidden_size)
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.down_project.bias)
        nn.init.zeros_(self.up_project.bias)
        self.start()

    def forward(self, x):
        return x + self.up_project(self.dropout(self.activation(self.down_project(x))))


@wrong("W_up and σ(W_down x + b_down) are both not zero")
class AsWritten(Notes):
    def start(self):
        nn.init.xavier_uniform_(self.down_project.weight)
        nn.init.xavier_uniform_(self.up_project.weight)


@wrong("near the identity, but asked for is h = x exactly")
class Small(Notes):
    """The paper's own start."""

    def start(self):
        for layer in (self.down_project, self.up_project):
            nn.init.trunc_normal_(layer.weight, std=0.01, a=-0.02, b=0.02)


@wrong("both matrices are zero: neither learns")
class BothZero(Notes):
    def start(self):
        nn.init.zeros_(self.down_project.weight)
        nn.init.zeros_(self.up_project.weight)


@wrong("b_up is not zero")
class BiasLeft(Notes):
    def start(self):
        nn.init.zeros_(self.up_project.weight)
        nn.init.normal_(self.up_project.bias)


@wrong("is the way around still there?")
class NoWayAround(Notes):
    def start(self):
        nn.init.zeros_(self.up_project.weight)

    def forward(self, x):
        return self.up_project(self.dropout(self.activation(self.down_project(x))))


@wrong("up_project.weight must stay trainable")
class Frozen(Notes):
    def start(self):
        nn.init.zeros_(self.up_project.weight)
        self.up_project.weight.requires_grad_(False)


@wrong("does not move in the first two steps")
class Shut(Notes):
    """b_down far below zero: the bottleneck gives zero for every input and stays so."""

    def start(self):
        nn.init.constant_(self.down_project.bias, -1000.0)


@wrong("with other numbers in it the output")
class Switched(Notes):
    """Ours is the identity for good, whatever is in it."""

    def start(self):
        nn.init.xavier_uniform_(self.down_project.weight)
        nn.init.zeros_(self.up_project.weight)

    def forward(self, x):
        return x + self.up_project(self.activation(self.down_project(x))).tanh()


@right
class UpZero(Notes):
    def start(self):
        nn.init.xavier_uniform_(self.down_project.weight)
        nn.init.zeros_(self.up_project.weight)


@right
class DownZero(Notes):
    """GELU(0) = 0, and its slope there is ½: the other matrix may be the zero one as well."""

    def start(self):
        nn.init.zeros_(self.down_project.weight)
        nn.init.xavier_uniform_(self.up_project.weight)


@right
class ByHand(Notes):
    """torch's own start of the lower layer is kept."""

    def start(self):
        with torch.no_grad():
            self.up_project.weight.mul_(0.0)
