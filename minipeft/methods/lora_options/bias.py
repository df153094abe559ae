"""LoRA's `bias` option: the layers' biases are trained along with A and B.

    "none"       no bias (the default)
    "lora_only"  the biases of the adapted layers
    "all"        every bias of the model, those of its norms too

peft trains the biases in place: its file holds the whole b′, and without the adapter the model is
not what it was. Here b′ stands beside the frozen b, so that it can be switched off; the file is
peft's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .. import bases
from ..core import Method
from ..errors import TargetError
from .bitfit import along, with_biases


class TrainedBias(Method[Any]):
    """y = base_output + (b′ − b): what the layer would give with b′ for its bias b.

    Args:
        bias: b, (out,); b′ starts as a copy of it.
        axis: the axis of base_output along which the layer adds it; -1: the last.
        dtype: of b′.

    Attributes:
        bias: b′, (out,).
        frozen: b in b′'s dtype; not saved.
    """

    frozen: Tensor
    changes_matrix = False

    def __init__(self, bias: Tensor, *, axis: int = -1, dtype: torch.dtype | None = None):
        super().__init__()
        start = bias.detach().to(dtype)
        self.axis = axis
        self.bias = nn.Parameter(start.clone())
        self.register_buffer("frozen", start.clone(), persistent=False)

    def forward(self, base_output: Tensor) -> Tensor:
        """base_output (..., out) -> base_output + (b′ − b), in base_output's dtype."""
        change = along(self.axis, self.bias - self.frozen, base_output)
        return (base_output + change).to(base_output.dtype)

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        """The sum; the input plays no part."""
        h: Tensor = self(y)
        return h

    def fold(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """W, b -> W, b + (b′ − b)."""
        change = self.bias - self.frozen
        return weight, change if bias is None else bias + change

    @classmethod
    def for_layer(cls, base: bases.Base, config: Any) -> TrainedBias:
        """b′ = b beside `base`, on its device, in at least float32."""
        assert base.bias is not None
        return cls(base.bias, axis=base.axis, dtype=base.adapter_dtype)


def only_biases(
    model: nn.Module,
    layers: dict[str, nn.Module],
    found: dict[str, bases.Base],
    config: Any,
    *,
    every: bool,
) -> dict[str, bases.Base]:
    """The layers that get no LoRA, of which `config.bias` wants the biases (see `companions`).

    Raises:
        TargetError: `every`, and there are no biases to train.
    """
    if config.bias == "none":
        return {}
    names = with_biases(model, layers, config, named=False) if config.bias == "all" else []
    more: dict[str, bases.Base] = {}
    for name in names:
        base = bases.biased(layers[name])
        if name not in found and base is not None:
            base.targeted = False
            more[name] = base
    if every and not more and all(base.bias is None for base in found.values()):
        whose = type(model).__name__ if config.bias == "all" else f"the {len(found)} adapted layers"
        raise TargetError(
            f"bias={config.bias!r} trains biases, and there are none in {whose}; leave bias out"
        )
    return more
