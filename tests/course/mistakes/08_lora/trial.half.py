"""Answers to trial.half: x up to 32 bits for the update, the sum back down."""

import torch
from torch import nn
from torch.nn import functional as F

from minipeft.course.corpus import right, wrong


class Notes(nn.Module):
    def __init__(self, base_layer, rank=16, lora_alpha=32):
        super().__init__()
        self.base_layer = base_layer.requires_grad_(False)
        self.scaling = lora_alpha / rank
        self.lora_A = nn.Parameter(torch.randn(rank, base_layer.in_features))
        self.lora_B = nn.Parameter(torch.zeros(base_layer.out_features, rank))

    def update(self, x):
        return (x.to(self.lora_A.dtype) @ self.lora_A.T @ self.lora_B.T) * self.scaling


@wrong("RuntimeError: expected m1 and m2 to have the same dtype")
class AsWritten(Notes):
    def forward(self, x):
        base_output = self.base_layer(x)
        return base_output + (x @ self.lora_A.T @ self.lora_B.T) * self.scaling


@wrong("the output is in 32; the next layer expects 16")
class NotBack(Notes):
    def forward(self, x):
        return self.base_layer(x) + self.update(x)


@wrong("the update was computed in 16 bits")
class MatricesCast(Notes):
    def forward(self, x):
        a, b = self.lora_A.to(x.dtype), self.lora_B.to(x.dtype)
        return self.base_layer(x) + (x @ a.T @ b.T) * self.scaling


@wrong("lora_A is stored in torch.bfloat16 now")
class Converted(Notes):
    def forward(self, x):
        self.to(x.dtype)
        return self.base_layer(x) + self.update(x)


@wrong("the frozen layer is in torch.float32 now: twice the memory")
class BaseConverted(Notes):
    def forward(self, x):
        self.base_layer.float()
        return (self.base_layer(x.float()) + self.update(x)).to(x.dtype)


@wrong("the output beside a layer in 32 bits is zero everywhere")
class UpdateLost(Notes):
    def forward(self, x):
        return self.base_layer(x)


@wrong("base_output is lost")
class BaseLost(Notes):
    def forward(self, x):
        return self.update(x).to(x.dtype)


@wrong("no gradient reaches lora_A")
class Detached(Notes):
    def forward(self, x):
        with torch.no_grad():
            inner = x.to(self.lora_A.dtype) @ self.lora_A.T
        update = inner @ self.lora_B.T * self.scaling
        base_output = self.base_layer(x)
        return (base_output + update).to(base_output.dtype)


@wrong("is 2.0 times too small")
class Unscaled(Notes):
    def forward(self, x):
        return (self.base_layer(x) + self.update(x) / self.scaling).to(x.dtype)


@right
class UpAndDown(Notes):
    def forward(self, x):
        base_output = self.base_layer(x)
        return (base_output + self.update(x)).to(base_output.dtype)


@right
class UpdateBack(Notes):
    """The update goes down before the sum."""

    def forward(self, x):
        base_output = self.base_layer(x)
        return base_output + self.update(x).to(base_output.dtype)


@right
class Functional(Notes):
    def forward(self, x):
        inner = F.linear(x.float(), self.lora_A)
        y = self.base_layer(x)
        return torch.add(y, F.linear(inner, self.lora_B), alpha=self.scaling).type_as(y)
