"""A fine-tune with each method there is, on a bundled model: what `make demo` runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from .. import (
    AdapterConfig,
    BitFitConfig,
    IA3Config,
    LoraConfig,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    PTuningV2Config,
    get_peft_model,
    quantize_model,
)
from ..checks.errors import ConfigError
from ..checks.say import did_you_mean, listed
from ..layers.quant.packed import hidden_parameters
from ..methods.config import PeftConfig
from .counting import parameters
from .tasks import RECIPES, load_task
from .training import accuracy, fit
from .zoo import load_base

_LORA: dict[str, Any] = {"r": 8, "lora_alpha": 32, "target_modules": "all-linear"}
_TOKENS: dict[str, Any] = {"num_virtual_tokens": 10, "task_type": "CAUSAL_LM"}
# {key in RECIPES: (what to call it, its config on a bundled model; None trains the whole model)}
METHODS: dict[str, tuple[str, PeftConfig | None]] = {
    "full": ("full fine-tuning", None),
    "lora": ("LoRA, r = 8", LoraConfig(**_LORA)),
    "dora": ("DoRA, r = 8", LoraConfig(**_LORA, use_dora=True)),
    "qlora": ("QLoRA, r = 8, NF4", LoraConfig(**_LORA)),
    "loftq": ("LoftQ, r = 8, NF4", LoraConfig(**_LORA, init_lora_weights="loftq")),
    "adapter": ("Adapter, m = 32", AdapterConfig(adapter_dim=32, adapter_dropout=0.0)),
    "ia3": ("IA³", IA3Config()),
    "bitfit": ("BitFit", BitFitConfig()),
    "prefix_tuning": ("prefix tuning, v = 10", PrefixTuningConfig(**_TOKENS)),
    "p_tuning_v2": ("P-tuning v2, v = 10", PTuningV2Config(**_TOKENS)),
    "p_tuning": ("P-tuning, v = 10", PromptEncoderConfig(**_TOKENS)),
    "prompt_tuning": ("prompt tuning, v = 10", PromptTuningConfig(**_TOKENS)),
}
# What is a LoRA with something more is trained as a LoRA is.
RECIPE_OF = {"dora": "lora", "qlora": "lora", "loftq": "lora"}


def recipe(method: str) -> dict[str, Any]:
    """How a method of `METHODS` is trained: options of `fit`."""
    return RECIPES[RECIPE_OF.get(method, method)]


def prepare(name: str, method: str, seed: int, rank: int | None = None) -> tuple[Any, Any]:
    """A fresh base model, with the method's adapter in it, and its tokenizer.

    Args:
        name: the base model, as `load_base` takes it.
        method: a key of `METHODS`.
        seed: of the adapter's new weights.
        rank: of a LoRA and what is built on it; 8 when None.

    Raises:
        ConfigError: an unknown method.
    """
    if method not in METHODS:
        raise ConfigError(
            f"no method {method!r}; there are {listed(METHODS, 20)}{did_you_mean(method, METHODS)}"
        )
    model, tokenizer = load_base(name)
    config = METHODS[method][1]
    if rank is not None and isinstance(config, LoraConfig):
        config = dataclasses.replace(config, r=rank)
    if method == "qlora":
        quantize_model(model)
    torch.manual_seed(seed)
    return (model.requires_grad_(True) if config is None else get_peft_model(model, config)), (
        tokenizer
    )


def run(
    name: str, task: str, seed: int, methods: Sequence[str] = tuple(METHODS)
) -> Iterator[tuple[str, ...]]:
    """Fine-tune a fresh copy of the base with each method, with a progress bar.

    Args:
        name: the base model, as `load_base` takes it.
        task: one of `minipeft.lab.tasks.TASKS`.
        seed: of the new weights and of the order of the data.
        methods: keys of `METHODS`.

    Yields:
        a row of the table: method, trained parameters, their share, steps, seconds, last loss,
        accuracy on the test split before and after.
    """
    data = load_task(task)
    before = accuracy(*load_base(name), data["test"])
    for method in methods:
        model, tokenizer = prepare(name, method, seed)
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        total = parameters(model) + hidden_parameters(model)
        print(METHODS[method][0])
        history = fit(model, tokenizer, data["train"], seed=seed, **recipe(method))
        after = accuracy(model, tokenizer, data["test"])
        yield (
            METHODS[method][0],
            f"{trained:,}",
            f"{trained / total:.2%}",
            str(recipe(method)["steps"]),
            f"{history.seconds:.1f}",
            f"{sum(history.losses[-10:]) / 10:.3f}",
            f"{before:.0%} → {after:.0%}",
        )
