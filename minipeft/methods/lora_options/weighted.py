"""One LoRA out of several, each with a weight: what `add_weighted_adapter` computes.

    ΔW = Σ wᵢ · sᵢ Bᵢ Aᵢ

"cat"     the sum itself: A's below each other, B's beside each other, so the ranks add up
"svd"     the nearest matrix of a given rank: its first singular directions
"linear"  Σ √|wᵢsᵢ| Aᵢ and Σ √|wᵢsᵢ| Bᵢ for A and B: cheap, of the same rank, and no longer the sum,
          since their product has the terms Bᵢ Aⱼ of different adapters in it as well

The names and meanings are Hugging Face peft's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ...checks import unfit
from ...checks.errors import ConfigError
from ...checks.rules import integer, number
from ..lora import LoraConfig, LoRALayer

TYPES = ("svd", "linear", "cat")

# A (r, in) and B (out, r) of one adapter, flat, and w · s.
Part = tuple[Tensor, Tensor, float]


def cat(parts: Sequence[Part]) -> tuple[Tensor, Tensor]:
    """A (Σr, in) and B (out, Σr) with B A = Σ wᵢ sᵢ Bᵢ Aᵢ."""
    return torch.cat([w * a for a, _, w in parts]), torch.cat([b for _, b, _ in parts], dim=1)


def linear(parts: Sequence[Part]) -> tuple[Tensor, Tensor]:
    """A (r, in) and B (out, r): the sums of the factors, each with its half of wᵢ sᵢ."""
    halves = [(math.sqrt(abs(w)), math.copysign(1, w)) for *_, w in parts]
    a = sum(root * sign * part[0] for (root, sign), part in zip(halves, parts, strict=True))
    b = sum(root * part[1] for (root, _), part in zip(halves, parts, strict=True))
    return a, b  # type: ignore[return-value]


def svd(parts: Sequence[Part], rank: int) -> tuple[Tensor, Tensor]:
    """A (rank, in) and B (out, rank) with B A nearest to the sum (Eckart and Young, 1936).

    Both factors of the sum are narrow, so their QR decompositions leave a small matrix for the SVD:
    B A = Q_B (R_B R_Aᵀ) Q_Aᵀ.
    """
    a, b = cat(parts)
    q_b, r_b = torch.linalg.qr(b)  # (out, k), (k, Σr)
    q_a, r_a = torch.linalg.qr(a.T)  # (in, k'), (k', Σr)
    u, sigma, vt = torch.linalg.svd(r_b @ r_a.T, full_matrices=False)
    rank_a, rank_b = a.new_zeros(rank, a.shape[1]), b.new_zeros(b.shape[0], rank)
    n = min(rank, len(sigma))  # a sum of lower rank leaves zeros
    rank_a[:n], rank_b[:, :n] = vt[:n] @ q_a.T, q_b @ (u[:, :n] * sigma[:n])
    return rank_a, rank_b


def check(
    configs: Mapping[str, Any], adapters: Any, weights: Any, combination_type: str, svd_rank: Any
) -> list[tuple[str, float]]:
    """The adapters with their weights; refuses what cannot be combined.

    Raises:
        ConfigTypeError, ConfigError: which argument, and what is allowed.
    """
    if combination_type not in TYPES:
        raise unfit.no_combination(combination_type, TYPES)
    if not isinstance(weights, (list, tuple)) or len(weights) != len(adapters):
        raise unfit.other_weights(adapters, weights)
    checked = [number(f"weights[{i}]", w, low=-math.inf) for i, w in enumerate(weights)]
    for name in adapters:
        config = configs[name]
        if not isinstance(config, LoraConfig) or config.use_dora:
            raise unfit.no_sum(name, config, dora=isinstance(config, LoraConfig))
        if config.bias != "none" or config.modules_to_save:
            raise unfit.more_than_lora(name)
    if svd_rank is not None:
        integer("svd_rank", svd_rank, low=1)
        if combination_type != "svd":
            raise ConfigError(f"svd_rank={svd_rank} is for combination_type='svd' only")
    return list(zip(adapters, checked, strict=True))


@torch.no_grad()
def combine(
    adapters: Mapping[str, nn.ModuleDict],
    weights: Sequence[tuple[str, float]],
    combination_type: str,
    svd_rank: int | None,
) -> tuple[int, dict[str, tuple[Tensor, Tensor]]]:
    """The rank of the combined adapter, and A and B of each layer.

    Args:
        adapters: those that stand beside each layer, by name, by the layer's name.
        weights: (adapter's name, w); beside each layer there is at least one of them.
        combination_type, svd_rank: see above.

    Returns:
        the rank, and for each layer A (rank, in) and B (out, rank).

    Raises:
        ConfigError: "linear" with different ranks.
    """
    layers: dict[str, list[Part]] = {}
    for path, here in adapters.items():
        own: list[tuple[Any, float]] = [(here[name], w) for name, w in weights if name in here]
        layers[path] = [(*flat(lora), w * lora.scaling) for lora, w in own]
    ranks = [[len(a) for a, _, _ in parts] for parts in layers.values()]
    different = sorted({r for some in ranks for r in some})
    if combination_type == "linear" and len(different) > 1:
        raise unfit.unequal_ranks(different)
    if combination_type == "svd":
        rank = svd_rank or max(different)
        return rank, {path: svd(parts, rank) for path, parts in layers.items()}
    rank = max(sum(some) if combination_type == "cat" else max(some) for some in ranks)
    join = cat if combination_type == "cat" else linear
    return rank, {path: widened(*join(parts), rank) for path, parts in layers.items()}


def flat(method: LoRALayer) -> tuple[Tensor, Tensor]:
    """A (r, in) and B (out, r) of any kind of LoRA."""
    return method.lora_A.flatten(1), method.lora_B.flatten(1)


def widened(a: Tensor, b: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Zeros for the directions that a layer with fewer adapters does not need."""
    more = rank - len(a)
    zeros = a.new_zeros(more, a.shape[1]), b.new_zeros(b.shape[0], more)
    return torch.cat([a, zeros[0]]), torch.cat([b, zeros[1]], dim=1)


def config_of(config: LoraConfig, rank: int, names: list[str]) -> LoraConfig:
    """The combined adapter's config: beside the layers called `names`, scaled by 1."""
    return replace(
        config, r=rank, lora_alpha=rank, use_rslora=False, init_lora_weights=True, loftq_config={},
        target_modules=names, exclude_modules=None, rank_pattern={}, alpha_pattern={},
        layers_to_transform=None, layers_pattern=None, inference_mode=False,
    )  # fmt: skip


@torch.no_grad()
def fill(methods: Mapping[str, Any], factors: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Give the combined adapter's modules their A (rank, in) and B (out, rank), by layer."""
    for path, (a, b) in factors.items():
        methods[path].lora_A.copy_(a.view(methods[path].lora_A.shape))
        methods[path].lora_B.copy_(b.view(methods[path].lora_B.shape))
