"""A start for LoRA where neither factor is zero, and their product is: init "orthogonal"."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...checks.errors import ConfigError
from ...layers import bases
from ..method import Method, Option


@torch.no_grad()
def orthogonal(lora_A: Tensor, lora_B: Tensor) -> None:
    """A = Q₁ᵀ X / 10 and B = Y Q₂ / 10 with Q₁ and Q₂ the odd and even rows of a rotation: B A = 0.

    X and Y are standard normal. Both factors get gradients from the first step; with B = 0 it is B
    alone. (https://datta0.github.io/posts/rethink-lora-init/)

    Args:
        lora_A: A (r, in), filled in place; lora_B: B (out, r), likewise; a convolution's have
            further axes.

    Raises:
        ConfigError: an odd r.
    """
    r = lora_A.shape[0]
    if r % 2:
        raise ConfigError(
            f'init_lora_weights="orthogonal" divides r directions into two halves, so r must be '
            f"even, got r={r}"
        )
    x, y = torch.randn(r // 2, lora_A[0].numel()), torch.randn(lora_B.shape[0], r // 2)
    rotation, _ = torch.linalg.qr(torch.randn(r, r))
    odd, even = rotation[0::2], rotation[1::2]  # (r/2, r), orthonormal rows
    lora_A.copy_((odd.T @ x / 10).view(lora_A.shape))
    lora_B.copy_((y @ even / 10).view(lora_B.shape))


class Orthogonal(Option):
    """`init_lora_weights="orthogonal"`; an embedding keeps its own start."""

    when = {"init_lora_weights": "orthogonal"}

    def at(self, config: Any, name: str) -> Any:
        """The module is built as usual, before A and B get other numbers."""
        return replace(config, init_lora_weights=True)

    def built(self, config: Any, method: Any, base: bases.Base) -> tuple[Method[Any], bases.Base]:
        """The same module, with other numbers in A and B."""
        if not isinstance(base, bases.Embedding):
            orthogonal(method.lora_A, method.lora_B)
        return method, base
