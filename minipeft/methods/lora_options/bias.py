"""LoRA's `bias` option: the layers' biases are trained along with A and B.

    "none"       no bias (the default)
    "lora_only"  the biases of the adapted layers
    "all"        every bias of the model, those of its norms too

peft trains the biases in place: its file holds the whole b′, and without the adapter the model is
not what it was. Here b′ stands beside the frozen b, so that it can be switched off; the file is
peft's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...checks import unmatched
from ...layers import bases
from ..bitfit import along, with_biases
from ..method import Layout, Method, Option


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


class WithBias(Method[Any]):
    """A method, and after it the trained bias of the same layer.

    Args:
        lora: the method.
        trained_bias: what is trained of the layer's bias.
    """

    def __init__(self, lora: Method[Any], trained_bias: TrainedBias):
        super().__init__()
        self.lora, self.trained_bias = lora, trained_bias
        self.reads_matrix, self.ranks = lora.reads_matrix, lora.ranks
        inner = {name: lora.on_disk.get(name, name) for name in lora.state_dict()}
        self.on_disk = {f"lora.{name}": theirs for name, theirs in inner.items()}
        self.on_disk["trained_bias.bias"] = "base_layer.bias"

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        """One after the other."""
        return self.trained_bias.after(x, self.lora.after(x, y))

    def fold(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """One after the other."""
        return self.trained_bias.fold(*self.lora.fold(weight, bias))


class Biases(Option):
    """`bias="all"` or `"lora_only"`."""

    unless = {"bias": "none"}

    def _beside(self, base: bases.Base) -> TrainedBias:
        """B′ = b beside `base`, on its device, in at least float32."""
        bias: Any = base.bias
        return TrainedBias(bias, axis=base.axis, dtype=base.adapter_dtype)

    def built(
        self, config: Any, method: Method[Any], base: bases.Base
    ) -> tuple[Method[Any], bases.Base]:
        """The method, and the layer's bias after it if there is one."""
        return (method if base.bias is None else WithBias(method, self._beside(base))), base

    def more(self, config: Any, layout: Layout, names: list[str]) -> dict[str, bases.Base]:
        """With "all", the layers that get no LoRA and have a bias."""
        wanted = with_biases(layout, config, named=False) if config.bias == "all" else []
        found = {name: bases.biased(layout.modules[name]) for name in wanted if name not in names}
        return {name: base for name, base in found.items() if base is not None}

    def demand(
        self, config: Any, layout: Layout, found: Mapping[str, bases.Base], named: list[str]
    ) -> None:
        """There must be a bias to train.

        Raises:
            TargetError: there is none.
        """
        if all(base.bias is None for base in found.values()) and not self.more(
            config, layout, list(found)
        ):
            raise unmatched.no_bias_to_train(config, layout.model, len(found))

    def alone(self, config: Any, base: bases.Base) -> Method[Any]:
        """What stands beside a layer that gets no LoRA."""
        return self._beside(base)

    def count(self, config: Any, base: bases.Base, n: int) -> int:
        """And the bias."""
        return n + (0 if base.bias is None else base.bias.numel())
