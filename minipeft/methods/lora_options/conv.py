"""LoRA beside a convolution, which is one matrix W like any other, so ΔW = s · B A again.

A convolution is W (out, in · k²) on each patch of the image: A is a convolution to r channels with
the layer's own stride, padding and dilation, and B mixes the r numbers at each place (a 1 × 1
convolution). Lecture note: 004_ef2477f8fdb3fa89.txt, lines 98-122, where the class is unfinished.
With g groups of channels W is (out, in/g · k²): the same A reads each group, and each row of B the
r numbers of its own group, so that W + s · B A is still a kernel of the layer. (Hugging Face peft
drops dilation and the padding mode, and what it does with groups fits into no kernel.)
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ...layers import bases
from ..lora import LoraConfig, LoRALayer, settings
from ..method import Option


class LoRAConv(LoRALayer):
    """h = base_output + s · B A x, A a convolution to r channels and B one of size 1.

    Args:
        layer: the frozen `nn.Conv1d` or `nn.Conv2d`.
        rank, lora_alpha, options: as in `LoRALayer`.

    Attributes:
        lora_A: A, shape (r, in/g, *k).
        lora_B: B, shape (out, r, *1).
    """

    def __init__(
        self, layer: nn.Module, rank: int = 16, lora_alpha: float = 32, **options: Any
    ) -> None:
        base = bases.Conv(layer)
        super().__init__(base.in_features, base.out_features, rank, lora_alpha, **options)
        self.base = base  # not a module: the wrapper has the layer among its own
        kernel: Any = layer.weight
        self.lora_A = nn.Parameter(self.lora_A.detach().view(rank, *kernel.shape[1:]))
        ones = (1,) * (kernel.dim() - 2)
        self.lora_B = nn.Parameter(self.lora_B.detach().view(-1, rank, *ones))

    def forward(self, x: Tensor, base_output: Tensor) -> Tensor:
        """x (n, in, *size), base_output (n, out, *size') -> base_output + s · B A x, its shape."""
        layer: Any = self.base.layer
        conv = F.conv1d if self.lora_B.dim() == 3 else F.conv2d
        each = self.lora_A.repeat(layer.groups, *(1,) * (self.lora_A.dim() - 1))
        # the layer's own convolution with other kernels: stride, padding, dilation, padding mode
        ax = layer._conv_forward(x.to(each.dtype), each, None)  # (n, g · r, *size')
        update = conv(ax * self.scaling, self.lora_B, groups=layer.groups)  # (n, out, *size')
        return (base_output + update).to(base_output.dtype)


class BesideConvolutions(Option):
    """An `nn.Conv1d` or `nn.Conv2d` asks for it."""

    beside = (bases.Conv,)

    def make(self, config: LoraConfig, base: bases.Base) -> LoRALayer:
        """The module beside one convolution."""
        return LoRAConv(base.layer, **settings(base, config))
