"""DoRA: train the length of each row of W apart from its direction.

    h = (m / ‖V‖) ⊙ (V x) + b,   V = W₀ + s · B A,   m (out,),   ‖V‖: the length of each row of V

At the start m = ‖V‖, so the layer is what it was. ‖V‖ is a constant in the backward pass (section
4.3 of the paper): the gradient of B and A is LoRA's, times m / ‖V‖.

Liu et al., "DoRA: Weight-Decomposed Low-Rank Adaptation" (arXiv 2402.09353), equations 5, 6 and 11.
Lecture note: 000_456609471e9b7c6d.txt, lines 74-90. W₀ may be packed in four bits ("QDoRA").
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import bases
from ..errors import TargetError
from .lora import LoRALayer


class DoRALayer(LoRALayer):
    """h = (m / ‖V‖) ⊙ (base_output - b + s · B A x) + b.

    Args:
        layer: the frozen layer, whose W is read again in every forward pass; or its `Base`.
        rank, lora_alpha, options: as in `LoRALayer`.

    Attributes:
        lora_magnitude_vector: m, shape (out,).

    Raises:
        TargetError: the layer does not show its W.
    """

    reads_matrix = True

    def __init__(
        self,
        layer: nn.Module | bases.Base,
        rank: int = 16,
        lora_alpha: float = 32,
        **options: Any,
    ):
        base = bases.view(layer) if isinstance(layer, nn.Module) else layer
        if base is None or not (base.mergeable or base.packed):
            kind = type(layer if base is None else base.layer).__name__
            raise TargetError(
                f"DoRA needs the lengths of the rows of W, and {kind} does not show its W; "
                f"use_dora=False adapts it with a plain LoRA"
            )
        super().__init__(base.in_features, base.out_features, rank, lora_alpha, **options)
        self.stand_beside(base.layer)

    def stand_beside(self, layer: nn.Module) -> None:
        """Read W from `layer`, and start with m = ‖V‖."""
        base = bases.view(layer)
        assert base is not None
        self.base = base  # not a module: the wrapper has the layer among its own
        self.lora_magnitude_vector = nn.Parameter(self.row_lengths())

    def stand_on(self, layer: nn.Module) -> None:
        """Take `layer` for the frozen one when the adapter is attached."""
        super().stand_on(layer)
        self.stand_beside(layer)

    @torch.no_grad()
    def row_lengths(self) -> Tensor:
        """‖V‖ = ‖W₀ + s · B A‖ along each row, (out,)."""
        weight = self.base.matrix().to(self.lora_A.dtype)  # (out, in)
        v = torch.addmm(weight, self.lora_B, self.lora_A, alpha=self.scaling)
        lengths: Tensor = torch.linalg.vector_norm(v, dim=1)
        return lengths

    def factor(self) -> Tensor:
        """m / ‖V‖, (out,). A row of zeros has m = 0, and stays 0."""
        lengths = self.row_lengths()
        return self.lora_magnitude_vector / lengths.clamp(min=torch.finfo(lengths.dtype).tiny)

    def forward(self, x: Tensor, base_output: Tensor) -> Tensor:
        """x (..., in), base_output (..., out) -> h (..., out), in base_output's dtype."""
        x = x.to(self.lora_A.dtype)
        bias = 0 if self.base.bias is None else self.base.bias.to(x.dtype)
        update = F.linear(F.linear(x, self.lora_A) * self.scaling, self.lora_B)  # (..., out)
        vx = base_output - bias + update
        return (self.factor() * vx + bias).to(base_output.dtype)

    def fold(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """W, b -> (m / ‖V‖) ⊙ (W + ΔW), and b as it is; ‖V‖ is that of the layer's own W."""
        factor = self.factor()
        folded, own = factor[:, None] * (weight + self.delta_weight()), self.base.bias
        if bias is not None and own is not None:  # what was added to b before counts like W x
            bias = factor * (bias - own) + own
        return (folded, bias) if self.trained_bias is None else self.trained_bias.fold(folded, bias)
