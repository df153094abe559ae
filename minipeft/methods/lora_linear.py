"""LoRALinear: a frozen linear layer and its LoRA in one module, as the lecture note writes it.

003_2a78d11827cb1020.txt, lines 95-119. A model's own layers are wrapped by `get_peft_model`, which
keeps several adapters beside one layer; this class is for one layer by hand.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..checks.errors import TargetError
from ..layers import bases
from .lora import LoRALayer


class LoRALinear(nn.Module):
    """A frozen linear layer and its LoRA in one module: h = W₀ x + b + s · B A · dropout(x).

    Args:
        base_layer: an `nn.Linear` or GPT-2's `Conv1D`; it is frozen in place.
        rank, lora_alpha, dropout: as in `LoRALayer`.

    Raises:
        TargetError: base_layer is no linear layer.
    """

    def __init__(
        self, base_layer: nn.Module, rank: int = 16, lora_alpha: float = 32, dropout: float = 0.0
    ):
        super().__init__()
        base = bases.view(base_layer)
        if base is None:
            kind = type(base_layer).__name__
            raise TargetError(f"LoRALinear wraps an nn.Linear or Conv1D layer, got {kind}")
        self.base_layer = base_layer.requires_grad_(False)
        self.dropout = nn.Dropout(dropout) if dropout > 0 else nn.Identity()
        self.lora = LoRALayer(
            base.in_features,
            base.out_features,
            rank,
            lora_alpha,
            dtype=base.adapter_dtype,
            device=base.device,
        )

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in) -> (..., out)."""
        base_output = self.base_layer(x)  # (..., out), frozen
        h: Tensor = self.lora(self.dropout(x), base_output)
        return h
