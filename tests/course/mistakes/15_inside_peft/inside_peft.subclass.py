"""Answers to inside_peft.subclass: hold the layer, and copy nothing."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from minipeft.course.corpus import right, wrong


class Base(nn.Module):
    def __init__(self, layer, r, scaling):
        super().__init__()
        self.hold(layer)
        self.lora_A = nn.Parameter(torch.randn(r, layer.in_features) / r)
        self.lora_B = nn.Parameter(torch.zeros(layer.out_features, r))
        self.scaling = scaling

    def hold(self, layer):
        self.base_layer = layer.requires_grad_(False)

    def update(self, x):
        return self.scaling * x @ self.lora_A.T @ self.lora_B.T

    def forward(self, x):
        return self.base_layer(x) + self.update(x)


@wrong("the weight is a copy")
class AsInTheNote(nn.Linear):
    def __init__(self, layer, r, scaling):
        super().__init__(layer.in_features, layer.out_features, layer.bias is not None)
        self.load_state_dict(layer.state_dict())
        self.requires_grad_(False)
        self.lora_A = nn.Parameter(torch.randn(r, layer.in_features) / r)
        self.lora_B = nn.Parameter(torch.zeros(layer.out_features, r))
        self.scaling = scaling

    def forward(self, x):
        return super().forward(x) + self.scaling * (x @ self.lora_A.T) @ self.lora_B.T


@wrong("its own now")
class Copied(Base):
    def hold(self, layer):
        self.base_layer = copy.deepcopy(layer).requires_grad_(False)


@wrong("its forward is not run")
class SharesTheWeight(Base):
    def hold(self, layer):
        self.weight, self.bias = layer.weight, layer.bias
        layer.requires_grad_(False)

    def forward(self, x):
        return F.linear(x, self.weight, self.bias) + self.update(x)


@wrong("W and b of the layer are trained")
class Trained(Base):
    def hold(self, layer):
        self.base_layer = layer


@wrong("A and B are frozen too")
class AllFrozen(Base):
    def __init__(self, layer, r, scaling):
        super().__init__(layer, r, scaling)
        self.requires_grad_(False)


@wrong("where is s?")
class NoScale(Base):
    def update(self, x):
        return x @ self.lora_A.T @ self.lora_B.T


@wrong("the update is missing")
class NoUpdate(Base):
    def update(self, x):
        return 0 * x.sum()


@wrong("that is the update alone")
class NoBase(Base):
    def forward(self, x):
        return self.update(x)


@right
class Held(Base):
    pass


@right
class AnotherName(Base):
    def hold(self, layer):
        for parameter in layer.parameters():
            parameter.requires_grad = False
        self.inner = layer

    def forward(self, x):
        low = F.linear(x, self.lora_A)
        return torch.add(self.inner(x), F.linear(low, self.lora_B), alpha=self.scaling)
