"""DoRA: train the length of each row of W apart from its direction.

    h = (m / ‖V‖) ⊙ (V x) + b,   V = W₀ + s · B A,   m (out,),   ‖V‖: the length of each row of V

At the start m = ‖V‖, so the layer is what it was. ‖V‖ is a constant in the backward pass (section
4.3 of the paper): the gradient of B and A is LoRA's, times m / ‖V‖. V, as large as W₀, is never
formed: for row i

    ‖Vᵢ‖² = ‖Wᵢ‖² + s · (2 W Aᵀ + s · B A Aᵀ)ᵢ · Bᵢ       W Aᵀ (out, r),  A Aᵀ (r, r)

Liu et al., "DoRA: Weight-Decomposed Low-Rank Adaptation" (arXiv 2402.09353), equations 5, 6 and 11.
Lecture note: 000_456609471e9b7c6d.txt, lines 74-90. W₀ may be packed in four bits ("QDoRA"), or be
an embedding's or a convolution's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .. import bases
from ..errors import TargetError
from .bitfit import along
from .lora import LoRALayer
from .lora_kinds import LoRAConv, LoRAEmbedding


class DoRALayer(LoRALayer):
    """h = (m / ‖V‖) ⊙ (base_output - b + s · B A x) + b.

    Args:
        layer: the frozen layer, whose W is read again in every forward pass; or its `Base`.
        rank, lora_alpha, options: as in `LoRALayer`.

    Attributes:
        lora_magnitude_vector: m, shape (out,); beside a convolution (1, out, *1).

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
        base = bases.shaped(layer) if isinstance(layer, nn.Module) else layer
        if base is None or not (base.mergeable or base.packed):
            kind = type(layer if base is None else base.layer).__name__
            raise TargetError(
                f"DoRA needs the lengths of the rows of W, and {kind} does not show its W; "
                f"use_dora=False adapts it with a plain LoRA"
            )
        shape = super().built_from(base)
        super().__init__(**shape, rank=rank, lora_alpha=lora_alpha, **options)
        self.stand_beside(base.layer)

    @classmethod
    def built_from(cls, base: bases.Base) -> dict[str, Any]:
        """The layer, as a `Base`."""
        return {"layer": base}

    def stand_beside(self, layer: nn.Module) -> None:
        """Read W from `layer`, and start with m = ‖V‖."""
        base = bases.shaped(layer)
        assert base is not None
        self.base = base  # not a module: the wrapper has the layer among its own
        a, b = self.lora_A, self.lora_B
        m = self.row_lengths(fresh=not b.is_meta and not (b.any() and a.any()))
        ones = self.lora_B.shape[2:]  # (1, 1) in two dimensions
        self.lora_magnitude_vector = nn.Parameter(m.view(1, -1, *ones) if ones else m)

    def stand_on(self, layer: nn.Module) -> None:
        """Take `layer` for the frozen one when the adapter is attached."""
        super().stand_on(layer)
        self.stand_beside(layer)

    @torch.no_grad()
    def row_lengths(self, fresh: bool = False) -> Tensor:
        """‖V‖ = ‖W₀ + s · B A‖ along each row, (out,); `fresh`: B A = 0, so it is ‖W₀‖."""
        a, b = self.lora_A.flatten(1), self.lora_B.flatten(1)  # (r, in), (out, r)
        weight = self.base.matrix().to(a.dtype)  # (out, in)
        own: Tensor = torch.linalg.vector_norm(weight, dim=1)  # ‖W₀‖, (out,)
        if fresh:
            return own
        mixed = torch.addmm(weight @ a.T, b, a @ a.T, beta=2, alpha=self.scaling)  # (out, r)
        squared = own.square() + self.scaling * (mixed * b).sum(1)
        # Where B A cancels W₀, what is left of ‖V‖² is rounding of size eps · ‖W₀‖², if not less.
        least = torch.finfo(a.dtype).eps * own.square()
        lengths: Tensor = torch.maximum(squared, least).sqrt()
        return lengths

    def factor(self) -> Tensor:
        """m / ‖V‖, (out,). A row of zeros has m = 0, and stays 0: so does its m."""
        lengths = self.row_lengths()
        inverse = lengths.reciprocal().masked_fill(lengths == 0, 0)
        return self.lora_magnitude_vector.flatten() * inverse

    def forward(self, x: Tensor, base_output: Tensor) -> Tensor:
        """x (..., in), base_output (..., out) -> h (..., out), in base_output's dtype."""
        factor, axis = self.factor(), self.base.axis
        if self.base.bias is None:
            vx = super().forward(x, base_output.to(factor.dtype))
            return (along(axis, factor, vx) * vx).to(base_output.dtype)
        bias = along(axis, self.base.bias.to(factor.dtype), base_output)
        vx = super().forward(x, base_output - bias)
        return torch.addcmul(bias, along(axis, factor, vx), vx).to(base_output.dtype)

    def fold(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """W, b -> (m / ‖V‖) ⊙ (W + ΔW), and b as it is; ‖V‖ is that of the layer's own W."""
        factor = self.factor()
        folded, own = factor[:, None] * (weight + self.delta_weight()), self.base.bias
        if bias is not None and own is not None:  # what was added to b before counts like W x
            bias = factor * (bias - own) + own
        return (folded, bias) if self.trained_bias is None else self.trained_bias.fold(folded, bias)


class DoRAEmbedding(DoRALayer, LoRAEmbedding):
    """DoRA beside an `nn.Embedding`: a length for each row of W (dim, vocab)."""


class DoRAConv(DoRALayer, LoRAConv):
    """DoRA beside a convolution: a length for each kernel, over all its entries."""
