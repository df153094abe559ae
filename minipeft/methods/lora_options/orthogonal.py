"""A start for LoRA where neither factor is zero, and their product is: init "orthogonal"."""

from __future__ import annotations

import torch
from torch import Tensor

from ...checks.errors import ConfigError


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
