"""How A and B of a LoRA start: `LoraConfig`'s init_lora_weights.

True          A uniform in ±1/√in, which is Kaiming's bound with a = √5 for a matrix (r, in); B zero
"gaussian"    A normal with standard deviation 1/r; B zero
"orthogonal"  A and B random, both at work from the first step, and B A = 0
False         both random, so that ΔW ≠ 0; for tests only

Lecture note: 000_456609471e9b7c6d.txt, lines 26-50, where the bounds are other ones. "loftq" starts
like True; `loftq.start` then sets both.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..errors import ConfigError


@torch.no_grad()
def start_factors(lora_A: Tensor, lora_B: Tensor, init_lora_weights: bool | str = True) -> None:
    """Fill A (r, in) and B (out, r) in place.

    Raises:
        ConfigError: "orthogonal" with an odd r.
    """
    if init_lora_weights == "orthogonal":
        orthogonal(lora_A, lora_B)
        return
    if init_lora_weights == "gaussian":
        nn.init.normal_(lora_A, std=1 / lora_A.shape[0])
    else:
        nn.init.kaiming_uniform_(lora_A, a=math.sqrt(5))
    if init_lora_weights is False:
        nn.init.kaiming_uniform_(lora_B, a=math.sqrt(5))
    else:
        nn.init.zeros_(lora_B)


def orthogonal(lora_A: Tensor, lora_B: Tensor) -> None:
    """A = Q₁ᵀ X / 10 and B = Y Q₂ / 10 with Q₁ and Q₂ the odd and even rows of a rotation: B A = 0.

    X and Y are standard normal. Neither factor is zero, so both get gradients from the first step;
    with B = 0 it is B alone. (https://datta0.github.io/posts/rethink-lora-init/)
    """
    r = lora_A.shape[0]
    if r % 2:
        raise ConfigError(
            f'init_lora_weights="orthogonal" divides r directions into two halves, so r must be '
            f"even, got r={r}"
        )
    like = {"dtype": lora_A.dtype, "device": lora_A.device}
    rotation, _ = torch.linalg.qr(torch.randn(r, r, **like))  # type: ignore[call-overload]
    odd, even = rotation[0::2], rotation[1::2]  # (r/2, r), orthonormal rows
    lora_A.copy_(odd.T @ torch.randn(r // 2, lora_A.shape[1], **like) / 10)  # type: ignore[call-overload]
    lora_B.copy_(torch.randn(lora_B.shape[0], r // 2, **like) @ even / 10)  # type: ignore[call-overload]
