"""Tiny models with virtual tokens that change what they answer, and a batch of ragged rows."""

from __future__ import annotations

from typing import Any

import torch
from conftest import shake, tiny
from torch import Tensor

from minipeft import (
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    PTuningV2Config,
    get_peft_model,
)
from minipeft.methods.virtual_tokens import PromptConfig

V = 3
KINDS: dict[str, tuple[type[PromptConfig], dict[str, Any]]] = {
    "prompt": (PromptTuningConfig, {}),
    "vocabulary": (PromptTuningConfig, {"prompt_tuning_init": "SAMPLE_VOCAB"}),
    "mlp": (PromptEncoderConfig, {"encoder_hidden_size": 7}),
    "lstm": (PromptEncoderConfig, {"encoder_reparameterization_type": "LSTM"}),
    "prefix": (PrefixTuningConfig, {}),
    "projected": (PrefixTuningConfig, {"prefix_projection": True, "encoder_hidden_size": 5}),
    "v2": (PTuningV2Config, {}),
}
NETWORKS = ["mlp", "lstm", "projected"]
DECODERS = ["gpt2", "bloom", "llama", "opt", "gpt_neox", "mistral", "qwen2", "qwen3"]
# Embeddings and caches on every family, and every kind on GPT-2: the kinds of each of the two
# ways differ only in how the numbers come about.
WAYS = [(name, kind) for name in DECODERS for kind in ("prompt", "prefix")]
WAYS += [("gpt2", kind) for kind in KINDS if kind not in ("prompt", "prefix")]


def config(kind: str, **options: Any) -> PromptConfig:
    """A config of this kind with V virtual tokens."""
    made, own = KINDS[kind]
    return made(**{"num_virtual_tokens": V, **own, **options})


def prompted(name: str, kind: str, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    """A tiny model with virtual tokens that change its output, in eval mode."""
    model = get_peft_model(tiny(name, dtype), config(kind, **options))
    shake(model)
    return model.eval()


def shift(kind: str) -> int:
    """By how many positions the outputs are longer than the text."""
    return 0 if kind in ("prefix", "projected", "v2") else V


def rows() -> list[Tensor]:
    """Three texts of 7, 4 and 2 tokens, each (1, t)."""
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(2, 48, (1, n), generator=generator) for n in (7, 4, 2)]


def padded(side: str) -> tuple[Tensor, Tensor]:
    """The rows in one batch, (3, 7), and its mask."""
    ids, mask = torch.zeros(3, 7, dtype=torch.long), torch.zeros(3, 7, dtype=torch.long)
    for i, row in enumerate(rows()):
        place = slice(7 - row.shape[1], 7) if side == "left" else slice(0, row.shape[1])
        ids[i, place], mask[i, place] = row[0], 1
    return ids, mask
