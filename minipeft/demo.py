"""A fine-tune with each method there is, on a bundled model: what `make demo` runs."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from . import LoraConfig, get_peft_model
from .config import PeftConfig
from .tasks import RECIPES, load_task
from .training import accuracy, fit
from .zoo import load_base

# {what to call it: (its config, or None to train the whole model; its recipe)}
DEMOS: dict[str, tuple[PeftConfig | None, str]] = {
    "full fine-tuning": (None, "full"),
    "LoRA, r = 8": (LoraConfig(r=8, lora_alpha=32, target_modules="all-linear"), "lora"),
}


def run(name: str, task: str, seed: int) -> Iterator[tuple[str, ...]]:
    """Fine-tune a fresh copy of the base with each method, with a progress bar.

    Args:
        name: the base model, as `load_base` takes it.
        task: one of `minipeft.tasks.TASKS`.
        seed: of the new weights and of the order of the data.

    Yields:
        a row of the table: method, trained parameters, their share, steps, seconds, last loss,
        accuracy on the test split before and after.
    """
    data = load_task(task)
    for method, (config, recipe) in DEMOS.items():
        torch.manual_seed(seed)
        model, tokenizer = load_base(name)
        before = accuracy(model, tokenizer, data["test"])
        if config is None:
            model.requires_grad_(True)
        else:
            model = get_peft_model(model, config)
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        total = sum(p.numel() for p in model.parameters())
        print(method)
        history = fit(model, tokenizer, data["train"], seed=seed, **RECIPES[recipe])
        after = accuracy(model, tokenizer, data["test"])
        yield (
            method,
            f"{trained:,}",
            f"{trained / total:.2%}",
            str(RECIPES[recipe]["steps"]),
            f"{history.seconds:.1f}",
            f"{sum(history.losses[-10:]) / 10:.3f}",
            f"{before:.0%} → {after:.0%}",
        )
