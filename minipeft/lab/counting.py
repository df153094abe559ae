"""How many parameters a method trains, and how many bytes that takes, before anything is loaded.

A count is a formula times the shapes of the layers: for LoRA, the sum of r·(in + out). The shapes
come from real models built on PyTorch's "meta" device, where a tensor has a shape and no data, so
that Llama-2-70B is counted in about a second on any laptop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn

from ..checks.errors import ConfigError
from ..checks.say import did_you_mean, listed
from ..layers.quant.packed import hidden_parameters
from ..methods.config import PeftConfig
from ..methods.virtual_tokens import PromptConfig
from ..tuner.plan import choose, counted, demand

_LLAMA = {"vocab_size": 32000, "tie_word_embeddings": False}
# Published dimensions: {name: (transformers' config class, its arguments, the auto class)}.
MODELS: dict[str, tuple[str, dict[str, Any], str]] = {
    "gpt2": ("GPT2Config", {}, "AutoModelForCausalLM"),
    "gpt2-medium": (
        "GPT2Config",
        {"n_embd": 1024, "n_layer": 24, "n_head": 16},
        "AutoModelForCausalLM",
    ),
    "bloom-560m": (
        "BloomConfig",
        {"vocab_size": 250880, "hidden_size": 1024, "n_layer": 24, "n_head": 16},
        "AutoModelForCausalLM",
    ),
    "bloom-1b4-zh": (
        "BloomConfig",
        {"vocab_size": 46145, "hidden_size": 2048, "n_layer": 24, "n_head": 16},
        "AutoModelForCausalLM",
    ),
    **{
        f"llama-2-{size}": (
            "LlamaConfig",
            {
                **_LLAMA,
                "hidden_size": width,
                "intermediate_size": inner,
                "num_hidden_layers": layers,
                "num_attention_heads": heads,
                "num_key_value_heads": kv_heads,
            },
            "AutoModelForCausalLM",
        )
        for size, width, inner, layers, heads, kv_heads in (
            ("7b", 4096, 11008, 32, 32, 32),
            ("13b", 5120, 13824, 40, 40, 40),
            ("70b", 8192, 28672, 80, 64, 8),
        )
    },
    "bert-base": ("BertConfig", {"num_labels": 2}, "AutoModelForSequenceClassification"),
    "t5-base": (
        "T5Config",
        {"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12, "vocab_size": 32128},
        "AutoModelForSeq2SeqLM",
    ),
}


def meta_model(name: str) -> nn.Module:
    """A real model's skeleton on the meta device: all shapes, no data.

    Args:
        name: a key of `MODELS`.

    Raises:
        ConfigError: an unknown name.
    """
    if name not in MODELS:
        raise ConfigError(
            f"there are no dimensions for {name!r}{did_you_mean(name, MODELS) or ';'} "
            f"there are for {', '.join(MODELS)}; any nn.Module can be given instead"
        )
    import transformers

    config_class, arguments, auto = MODELS[name]
    with torch.device("meta"):
        config = getattr(transformers, config_class)(**arguments)
        model: nn.Module = getattr(transformers, auto).from_config(config)
    return model


@cache
def _skeleton(name: str) -> nn.Module:
    return meta_model(name)


@dataclass(frozen=True)
class Count:
    """A count with its derivation.

    Attributes:
        trainable: parameters that the method trains.
        base: parameters of the model without it.
        groups: {(in, out, parameters beside one such layer): how many such layers}.
        heads: parameters of modules trained whole.
    """

    trainable: int
    base: int
    groups: Mapping[tuple[int, int, int], int]
    heads: int

    @property
    def all(self) -> int:
        """What stands in memory: the base and what was added."""
        return self.base + self.trainable

    @property
    def percent(self) -> float:
        """100 · trainable / all."""
        return 100 * self.trainable / self.all

    def __str__(self) -> str:
        parts = [f"{n} x {size:,} beside {i, o}" for (i, o, size), n in self.groups.items()]
        parts += [f"{self.heads:,} in heads"] if self.heads else []
        total = f"{self.trainable:,} of {self.all:,} ({self.percent:.4f} %)"
        return f"{total} = {' + '.join(parts)}"


def count(model: str | nn.Module, config: PeftConfig) -> Count:
    """Count by formula what `get_peft_model(model, config)` would train; the model is not touched.

    Args:
        model: a name in `MODELS`, or any module (meta or real).
        config: `LoraConfig(...)` and the like.

    Raises:
        ConfigError, TargetError: as `get_peft_model`.
    """
    base = _skeleton(model) if isinstance(model, str) else model
    own = parameters(base) + hidden_parameters(base)
    choice = choose(base, config)
    demand(choice)
    heads = sum(parameters(head) for head in choice.layout.heads.values())
    if isinstance(config, PromptConfig):
        size = choice.placement.count(base, config)
        keys = not choice.placement.kind.inserted
        width = config.of_model(base, keys=keys)["token_dim"]
        return Count(size + heads, own, {(config.tokens, width, size): 1}, heads)
    bases = {**choice.layers, **{path: base for path, (_, base) in choice.more.items()}}
    sizes = counted(choice)
    groups = Counter((b.in_features, b.out_features, sizes[path]) for path, b in bases.items())
    return Count(heads + sum(sizes.values()), own, groups, heads)


def parameters(model: nn.Module) -> int:
    """All parameters of a module, shared ones counted once."""
    return sum(p.numel() for p in model.parameters())


# --- bytes ---------------------------------------------------------------------------------------

# Bytes for one trained parameter, part by part. The course uses "mixed": 16-bit weights and
# gradients, and in 32 bits the master copy of the weights and Adam's two moments. The lecture notes
# use "half" in one table (003:L20), "moments32" in another (003:L218) and the weights alone, at
# 4 bytes, in a third (003:L225).
BYTES: dict[str, dict[str, int]] = {
    "mixed": {"weights": 2, "gradients": 2, "master copy": 4, "Adam moments": 8},
    "moments32": {"weights": 2, "gradients": 2, "master copy": 0, "Adam moments": 8},
    "half": {"weights": 2, "gradients": 2, "master copy": 0, "Adam moments": 4},
    "float32": {"weights": 4, "gradients": 4, "master copy": 0, "Adam moments": 8},
}


def training_bytes(
    frozen: int, trained: int, *, convention: str = "mixed", bytes_per_frozen: float = 2
) -> dict[str, float]:
    """Bytes that training holds, part by part, without activations.

    Every trained parameter takes the convention's bytes (16 in "mixed"); a frozen one only its
    weight, since it has neither a gradient nor optimizer state.

    Args:
        frozen: number of frozen parameters.
        trained: number of trained parameters.
        convention: a key of `BYTES`.
        bytes_per_frozen: 2 for 16-bit weights, about 0.516 for NF4 with double quantization.

    Returns:
        {part: bytes}, "frozen weights" first; sum the values for the total.

    Raises:
        ConfigError: a negative count or an unknown convention.
    """
    if convention not in BYTES:
        raise ConfigError(
            f"convention must be one of {listed(BYTES)}, got {convention!r}"
            f"{did_you_mean(convention, BYTES)}"
        )
    if frozen < 0 or trained < 0:
        raise ConfigError(f"counts must not be negative, got frozen={frozen}, trained={trained}")
    parts = {part: size * trained for part, size in BYTES[convention].items()}
    return {"frozen weights": bytes_per_frozen * frozen, **parts}
