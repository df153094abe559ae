"""LoRA beside an embedding, which is one matrix W like any other, so ΔW = s · B A again.

An embedding is W (dim, vocab) on a one-hot x: A x is a column of A, looked up and not multiplied.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ...layers import bases
from ..lora import Dropout, LoraConfig, LoRALayer, settings
from ..method import Option


class LoRAEmbedding(LoRALayer):
    """h = base_output + s · B A x for a one-hot x: the token's column of A, through B.

    Args:
        layer: the frozen `nn.Embedding`.
        rank, lora_alpha, options: as in `LoRALayer`; dropout drops whole tokens, the ones in x.

    Attributes:
        lora_A: A, shape (r, vocab), zero at the start: then only the columns in use get gradients.
        lora_B: B, shape (dim, r), standard normal.
    """

    on_disk = {"lora_A": "lora_embedding_A", "lora_B": "lora_embedding_B"}

    def __init__(
        self, layer: nn.Module, rank: int = 16, lora_alpha: float = 32, **options: Any
    ) -> None:
        base = bases.Embedding(layer)
        super().__init__(base.in_features, base.out_features, rank, lora_alpha, **options)
        self.base = base  # not a module: the wrapper has the layer among its own

    def reset_parameters(self, init_lora_weights: bool | str = True) -> None:
        """A zero, B standard normal, the reverse of a linear layer's; False: both random."""
        nn.init.normal_(self.lora_B)
        if init_lora_weights is False:
            nn.init.normal_(self.lora_A)
        else:
            nn.init.zeros_(self.lora_A)

    def forward(self, x: Tensor, base_output: Tensor) -> Tensor:
        """Ids x (...), base_output (..., dim) -> base_output + s · B A x, (..., dim)."""
        layer: Any = self.base.layer
        # (..., r); no gradient reaches the column of the padding token
        ax = F.embedding(x, self.lora_A.T, layer.padding_idx)
        if isinstance(self.dropout, Dropout):
            ax = ax * self.dropout(ax.new_ones(x.shape))[..., None]
        update = F.linear(ax * self.scaling, self.lora_B)  # (..., dim)
        scale = getattr(layer, "embed_scale", None)  # Gemma multiplies its rows
        update = update if scale is None else update * scale
        return (base_output + update).to(base_output.dtype)

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        """The update; `forward` does the dropout, since ids have no zero to drop to."""
        return self.forward(x, y)


class BesideEmbeddings(Option):
    """An `nn.Embedding` asks for it."""

    beside = (bases.Embedding,)

    def make(self, config: LoraConfig, base: bases.Base) -> LoRALayer:
        """The module beside one embedding."""
        return LoRAEmbedding(base.layer, **settings(base, config))
