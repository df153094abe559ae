"""The training loop that the notebooks show: prompts in, completions learned, nothing hidden.

The model reads prompt and completion as one row of tokens; the labels are -100 on the prompt and
on the padding, so the loss counts the completion and the eos token that closes it. `fit` updates
the parameters that require a gradient and no others: it trains a whole model and a model wrapped
by any PEFT method alike.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional

from minipeft.checks.errors import ConfigError, StateError


class Rows(Protocol):
    """What training reads: a `datasets.Dataset` or a list of dicts: "prompt" and "completion"."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Mapping[str, str]: ...


@dataclass
class History:
    """What `fit` returns: the loss of every step, and the seconds it took."""

    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0


def encode(tokenizer: Any, row: Mapping[str, str]) -> tuple[list[int], list[int]]:
    """Token ids of the prompt and of the completion, the latter closed by eos.

    The two are tokenized apart, so that no token straddles the border.
    """
    prompt = tokenizer(row["prompt"])["input_ids"]
    completion = tokenizer(row["completion"], add_special_tokens=False)["input_ids"]
    return prompt, [*completion, tokenizer.eos_token_id]


def collate(
    pairs: Sequence[tuple[list[int], list[int]]], tokenizer: Any, device: torch.device
) -> dict[str, torch.Tensor]:
    """Pad encoded rows on the right to one batch.

    Returns:
        `input_ids`, `attention_mask` and `labels`, each (batch, time) and int64.
    """
    width = max(len(prompt) + len(completion) for prompt, completion in pairs)
    batch: dict[str, list[list[int]]] = {"input_ids": [], "attention_mask": [], "labels": []}
    for prompt, completion in pairs:
        rest = width - len(prompt) - len(completion)
        batch["input_ids"].append(prompt + completion + [tokenizer.pad_token_id] * rest)
        batch["attention_mask"].append([1] * (width - rest) + [0] * rest)
        batch["labels"].append([-100] * len(prompt) + completion + [-100] * rest)
    return {key: torch.tensor(rows, device=device) for key, rows in batch.items()}


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _shuffled(count: int, batch_size: int, seed: int) -> Iterator[list[int]]:
    """Batches of indices without end: every row once per epoch, in a new order each epoch."""
    rng = random.Random(seed)
    order: list[int] = []
    while True:
        while len(order) < batch_size:
            epoch = list(range(count))
            rng.shuffle(epoch)
            order += epoch
        yield order[:batch_size]
        del order[:batch_size]


def adamw(optim: str, device: torch.device) -> Any:
    """The optimizer's class, by the name that transformers' Trainer has for it."""
    if optim == "adamw":
        return torch.optim.AdamW
    if optim != "paged_adamw_8bit":
        raise ConfigError(f"optim must be 'adamw' or 'paged_adamw_8bit', got {optim!r}")
    try:
        from bitsandbytes import optim as optimizers
    except ImportError as error:
        raise ConfigError(
            "optim='paged_adamw_8bit' is bitsandbytes' optimizer, and that is not installed: "
            "pip install bitsandbytes, or take optim='adamw'"
        ) from error
    # pages are what a GPU lends to the CPU; on the CPU itself it is the same without them
    return getattr(optimizers, "AdamW8bit" if device.type == "cpu" else "PagedAdamW8bit")


def fit(
    model: nn.Module,
    tokenizer: Any,
    data: Rows,
    *,
    steps: int = 150,
    lr: float = 1e-3,
    batch_size: int = 32,
    weight_decay: float = 0.0,
    seed: int = 0,
    progress: bool = True,
    optim: str = "adamw",
) -> History:
    """Train the parameters that require a gradient: AdamW, 10 % warm-up, then linear decay to 0.

    Gradients are clipped to a norm of 1.

    Args:
        model: a causal language model of transformers, or any module with the same call.
        tokenizer: its tokenizer, with a pad and an eos token.
        data: rows with "prompt" and "completion".
        steps: the number of updates.
        lr: the highest learning rate.
        batch_size: rows per update.
        weight_decay: AdamW's.
        seed: of the order of the rows, and of dropout.
        progress: show a bar with the loss on stdout.
        optim: "adamw", or "paged_adamw_8bit", bitsandbytes' with both moments in 8 bits (those of
            tensors of 4,096 numbers or more), on a GPU in pages that the CPU's memory takes over.

    Returns:
        The `History`: `losses` has one number per step. The model is left in eval mode.

    Raises:
        StateError: no parameter requires a gradient.
        ConfigError: `data` is empty, `steps` or `batch_size` is not positive, or `optim` is not
            known or not installed.
    """
    from tqdm import tqdm

    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise StateError(
            "nothing to train: no parameter of the model requires a gradient. Wrap the model with "
            "minipeft.get_peft_model(model, config), or call model.requires_grad_(True) to train "
            "all of it"
        )
    if len(data) == 0 or steps < 1 or batch_size < 1:
        raise ConfigError(
            "fit needs rows, steps >= 1 and batch_size >= 1, got "
            f"{len(data)} rows, steps={steps}, batch_size={batch_size}"
        )
    make = adamw(optim, trained[0].device)
    torch.manual_seed(seed)
    started = time.perf_counter()
    pairs = [encode(tokenizer, data[i]) for i in range(len(data))]
    order = _shuffled(len(pairs), batch_size, seed)
    optimizer = make(trained, lr=lr, weight_decay=weight_decay)
    warm = max(1, steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda t: min((t + 1) / warm, (steps - t) / max(1, steps - warm))
    )
    history = History()
    model.train()
    bar = tqdm(range(steps), disable=not progress, file=sys.stdout, desc="fit")
    for _ in bar:
        batch = collate([pairs[i] for i in next(order)], tokenizer, _device(model))
        loss = model(**batch).loss
        loss.backward()
        # One bad batch must not undo what was learned: the step's gradient is cut to length 1.
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        history.losses.append(loss.item())
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    model.eval()
    history.seconds = time.perf_counter() - started
    return history


@torch.no_grad()
def _completions(
    model: nn.Module, tokenizer: Any, data: Rows, batch_size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Per batch: the logits that predict each next token (b, t - 1, vocab), and its label."""
    model.eval()
    for start in range(0, len(data), batch_size):
        rows = [data[i] for i in range(start, min(start + batch_size, len(data)))]
        batch = collate([encode(tokenizer, row) for row in rows], tokenizer, _device(model))
        labels = batch.pop("labels")[:, 1:]  # (b, t - 1)
        logits = model(**batch).logits
        # Virtual tokens lengthen the row on the left: the last t positions belong to the text.
        yield logits[:, -labels.shape[1] - 1 : -1].float(), labels


def accuracy(model: nn.Module, tokenizer: Any, data: Rows, batch_size: int = 100) -> float:
    """The share of rows whose completion the model writes exactly, choosing greedily.

    Every token of the completion must be the most likely one of the whole vocabulary after all
    tokens before it, which is what greedy decoding would write. The closing eos is not counted.

    Returns:
        A number from 0 to 1.
    """
    right = 0
    for logits, labels in _completions(model, tokenizer, data, batch_size):
        asked = (labels != -100) & (labels != tokenizer.eos_token_id)
        right += int(((logits.argmax(-1) == labels) | ~asked).all(dim=1).sum())
    return right / len(data)


def loss_on(model: nn.Module, tokenizer: Any, data: Rows, batch_size: int = 100) -> float:
    """The mean loss in nats per token of the completions, eos included, as `fit` trains it."""
    total, count = 0.0, 0
    for logits, labels in _completions(model, tokenizer, data, batch_size):
        total += functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), reduction="sum"
        ).item()
        count += int((labels != -100).sum())
    return total / count


@torch.no_grad()
def complete(model: nn.Module, tokenizer: Any, prompt: str, max_new_tokens: int = 12) -> str:
    """Continue a prompt greedily, up to eos or `max_new_tokens`; returns only the new text.

    The prompt is read anew for every token: slow, but it works for every wrapper.
    """
    model.eval()
    ids = torch.tensor([tokenizer(prompt)["input_ids"]], device=_device(model))  # (1, time)
    start = ids.shape[1]
    for _ in range(max_new_tokens):
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        best = logits[:, -1].argmax(-1, keepdim=True)  # (1, 1)
        if best.item() == tokenizer.eos_token_id:
            break
        ids = torch.cat([ids, best], dim=1)
    return str(tokenizer.decode(ids[0, start:], skip_special_tokens=True))
