"""A Trainer that reads rows in one order for any number of processes, and measures exactly."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional
from torch.utils.data import Sampler

from .trainer import AdapterTrainer


class Shuffled(Sampler[int]):
    """Every row once per pass, in a new order each pass; the last pass may end in the middle.

    The order depends on the seed alone. Batches are cut from it across the ends of passes, so that
    all have the same size and no row is left out; several processes share out the same batches.
    """

    def __init__(self, rows: int, length: int, seed: int):
        self.rows, self.length, self.seed = rows, length, seed

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        rng = random.Random(self.seed)
        left = self.length
        while left > 0:
            order = list(range(self.rows))
            rng.shuffle(order)
            yield from order[:left]
            left -= self.rows


class RunTrainer(AdapterTrainer):
    """`AdapterTrainer` with the order of `Shuffled`, and held-out numbers per token, not per batch.

    Trainer's own evaluation averages the batches' means, in which a token of a short row counts
    more. Here each row gives its sums, (loss, tokens, right), and those are added up.
    """

    def __init__(self, *, samples: int, **given: Any):
        self.samples = samples  # rows read in the whole run
        super().__init__(**given, compute_metrics=totals)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        rows: Any = self.train_dataset
        return Shuffled(len(rows), self.samples, self.args.seed)

    @torch.no_grad()
    def prediction_step(
        self,
        model: Any,
        inputs: Any,
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[None, torch.Tensor, torch.Tensor]:
        """No loss of the batch, but (b, 3): each row's sum of losses, its tokens, those right."""
        inputs = self._prepare_inputs(inputs)
        labels = inputs["labels"]  # (b, t), or (b,) for classes
        with self.compute_loss_context_manager():
            logits = model(**{k: v for k, v in inputs.items() if k != "labels"}).logits
        return (
            None,
            row_sums(logits.float(), labels),
            torch.zeros(len(labels), device=labels.device),
        )


def row_sums(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Each row's sum of losses in nats, its labels that count, and how many of them are right.

    Args:
        logits: (b, v + t, vocab) for tokens, (b, classes) for classes.
        labels: (b, t) with -100 where nothing is asked, or (b,).

    Returns:
        (b, 3), float64.
    """
    if labels.dim() == 2:
        labels = labels[:, 1:]  # (b, t - 1): position i predicts token i + 1
        # virtual tokens lengthen the row on the left: the last t positions belong to the text
        logits = logits[:, -labels.shape[1] - 1 : -1]
    else:
        logits, labels = logits[:, None], labels[:, None]  # (b, 1, classes), (b, 1)
    loss = functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")  # 0 at -100
    asked = labels != -100
    right = (logits.argmax(-1) == labels) & asked
    return torch.stack([loss.double().sum(1), asked.sum(1), right.sum(1)], dim=1).double()


def totals(prediction: Any) -> dict[str, float]:
    """Rows' sums (rows, 3) to what the run is judged by: nats per label, and the share right."""
    loss, count, right = prediction.predictions.sum(axis=0).tolist()
    return {"loss": loss / max(count, 1), "accuracy": right / max(count, 1)}
