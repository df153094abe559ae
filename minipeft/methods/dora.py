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

from ..checks.errors import TargetError
from ..layers import bases
from .bitfit import along
from .lora import LoRALayer
from .method import Method, Option


class DoRALayer(Method[Any]):
    """h = (m / ‖V‖) ⊙ (base_output - b + s · B A x) + b.

    Args:
        layer: the frozen layer, whose W is read again in every forward pass; or its `Base`.
        rank, lora_alpha, options: as in `LoRALayer`.
        lora: the LoRA of the layer, made already; None: one for a linear layer.

    Attributes:
        lora: what gives s · B A x, with A and B.
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
        *,
        lora: LoRALayer | None = None,
        **options: Any,
    ):
        super().__init__()
        base = bases.shaped(layer) if isinstance(layer, nn.Module) else layer
        if base is None or not (base.mergeable or base.packed):
            kind = type(layer if base is None else base.layer).__name__
            raise TargetError(
                f"DoRA needs the lengths of the rows of W, and {kind} does not show its W; "
                f"use_dora=False adapts it with a plain LoRA"
            )
        if lora is None and isinstance(base, (bases.Embedding, bases.Conv)):
            raise TargetError(
                f"beside a {base.kind} give the LoRA that suits it: DoRALayer(layer, "
                f"lora=LoRAEmbedding(layer, ...)), or lora=LoRAConv(layer, ...)"
            )
        self.base = base  # not a module: the wrapper has the layer among its own
        widths = base.in_features, base.out_features
        self.lora = LoRALayer(*widths, rank, lora_alpha, **options) if lora is None else lora
        a, b = self.lora.lora_A, self.lora.lora_B
        m = self.row_lengths(fresh=not b.is_meta and not (b.any() and a.any()))  # m = ‖V‖
        ones = b.shape[2:]  # (1, 1) in two dimensions
        self.lora_magnitude_vector = nn.Parameter(m.view(1, -1, *ones) if ones else m)
        self.ranks = self.lora.ranks
        self.on_disk = {f"lora.{name}": theirs for name, theirs in self.lora.on_disk.items()}

    @property
    def lora_A(self) -> Tensor:
        """A, as in `LoRALayer`."""
        return self.lora.lora_A

    @property
    def lora_B(self) -> Tensor:
        """B, as in `LoRALayer`."""
        return self.lora.lora_B

    @property
    def scaling(self) -> float:
        """S, as in `LoRALayer`."""
        return self.lora.scaling

    def delta_weight(self) -> Tensor:
        """S · B A, (out, in): what is added to W₀ before its rows are scaled."""
        return self.lora.delta_weight()

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
            vx = self.lora(x, base_output.to(factor.dtype))
            h: Tensor = (along(axis, factor, vx) * vx).to(base_output.dtype)
            return h
        bias = along(axis, self.base.bias.to(factor.dtype), base_output)
        vx = self.lora(x, base_output - bias)
        return torch.addcmul(bias, along(axis, factor, vx), vx).to(base_output.dtype)

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        """The update with dropout on its input only."""
        # ids have no zero to drop to: an embedding's LoRA drops whole tokens itself
        return self.forward(self.lora.dropout(x) if x.is_floating_point() else x, y)

    def fold(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """W, b -> (m / ‖V‖) ⊙ (W + ΔW), and b as it is; ‖V‖ is that of the layer's own W."""
        factor, own = self.factor(), self.base.bias
        if bias is not None and own is not None:  # what was added to b before counts like W x
            bias = factor * (bias - own) + own
        return factor[:, None] * (weight + self.lora.delta_weight()), bias


class Directions(Option):
    """`use_dora=True`."""

    when = {"use_dora": True}

    def built(self, config: Any, method: Any, base: bases.Base) -> tuple[Method[Any], bases.Base]:
        """A DoRA around the LoRA that was made, whatever the kind of layer."""
        return DoRALayer(base, lora=method), base

    def count(self, config: Any, base: bases.Base, n: int) -> int:
        """And a length for each row of W."""
        return n + base.out_features
