"""The runs of the comparison: which there are, and what one of them measures."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any, NamedTuple

BASE, STEPS, BATCH = "tiny-gpt2", 300, 16
TASKS, SEEDS = ("where", "opposite", "style"), (0, 1, 2)
RATES: dict[str, tuple[float, ...]] = {
    "full": (3e-4, 1e-3, 3e-3, 1e-2),
    "lora": (1e-3, 3e-3, 1e-2, 3e-2),
    "adapter": (1e-3, 3e-3, 1e-2, 3e-2),
    "ia3": (3e-2, 1e-1, 3e-1, 1.0),
    "bitfit": (3e-3, 1e-2, 3e-2, 1e-1),
    "prefix_tuning": (1e-1, 3e-1, 1.0, 3.0),
    "p_tuning_v2": (3e-2, 1e-1, 3e-1, 1.0),
    "p_tuning": (3e-3, 1e-2, 3e-2, 1e-1),
    "prompt_tuning": (3e-2, 1e-1, 3e-1, 1.0),
}
RATE_TASKS, RATE_SEED = ("where", "opposite"), 100
RANKS, RANK_TASK = (1, 2, 4, 8, 16, 32), "opposite"


class Run(NamedTuple):
    """One fine-tune: what it is for, and all that decides its result."""

    stage: str  # "rates", "table" or "ranks"
    method: str
    task: str
    lr: float
    seed: int
    rank: int = 8  # of LoRA and what is built on it
    steps: int = STEPS


def train(run: Run, base: str = BASE) -> dict[str, Any]:
    """Fine-tunes `base` once.

    Returns:
        the run's fields and `accuracy` (0 to 1) and `loss` (nats per token of the completion) on
        the validation split for "rates", else on the test split; `forgetting`, the nats per token
        by which the loss on pretraining text rose; `trained`, a count; and `cpu`, the seconds that
        a processor worked on the steps.
    """
    import torch

    from ..demo import prepare
    from ..tasks import load_task
    from ..training import accuracy, fit, loss_on

    torch.set_num_threads(1)  # runs are spread over processes; sums keep their order
    model, tokenizer = prepare(base, run.method, run.seed, rank=run.rank)
    data = load_task(run.task)
    started = time.process_time()
    fit(
        model,
        tokenizer,
        data["train"],
        steps=run.steps,
        lr=run.lr,
        batch_size=BATCH,
        seed=run.seed,
        progress=False,
    )
    seconds = time.process_time() - started
    held = data["validation" if run.stage == "rates" else "test"]
    return {
        **run._asdict(),
        "accuracy": round(accuracy(model, tokenizer, held), 4),
        "loss": round(loss_on(model, tokenizer, held), 5),
        "forgetting": round(story_loss(base, model, tokenizer) - story_loss(base), 5),
        "trained": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "cpu": round(seconds, 2),
    }


def story_loss(base: str, model: Any = None, tokenizer: Any = None) -> float:
    """Nats per token on 500 stories like those of the pretraining: the model's, or its base's."""
    from ..assets.pretrain import held_out
    from ..zoo import load_base

    if model is None:
        model, tokenizer = load_base(base)
    return held_out(model, tokenizer, count=500)["loss"]


def rate_runs(steps: int) -> list[Run]:
    """The runs that choose a learning rate."""
    return [
        Run("rates", method, task, lr, RATE_SEED, steps=steps)
        for method, rates in RATES.items()
        for task in RATE_TASKS
        for lr in rates
    ]


def chosen(rows: list[dict[str, Any]]) -> dict[str, float]:
    """{method: the rate whose loss, summed over the tasks of the sweep, is the lowest}.

    A loss that is NaN, of a run that diverged, counts as infinite.
    """

    def total(method: str, lr: float) -> float:
        mine = [r for r in rows if (r["stage"], r["method"], r["lr"]) == ("rates", method, lr)]
        loss = sum(r["loss"] for r in mine)
        return math.inf if math.isnan(loss) else loss

    return {m: min(rates, key=lambda lr, m=m: total(m, lr)) for m, rates in RATES.items()}  # type: ignore[misc]


def table_runs(rates: dict[str, float], steps: int) -> list[Run]:
    """The runs of the table and of the sweep of ranks. What is a LoRA is trained at LoRA's rate."""
    from ..demo import METHODS, RECIPE_OF

    table = [
        Run("table", method, task, rates[RECIPE_OF.get(method, method)], seed, steps=steps)
        for seed in SEEDS
        for task in TASKS
        for method in METHODS
    ]
    ranks = [
        Run("ranks", "lora", RANK_TASK, rates["lora"], seed, rank, steps)
        for seed in SEEDS
        for rank in RANKS
    ]
    return table + ranks


def perform(runs: list[Run], rows: list[dict[str, Any]], jobs: int) -> Iterator[dict[str, Any]]:
    """Does what is not among `rows` yet; yields each result as it comes."""
    known = {tuple(row[field] for field in Run._fields) for row in rows}
    todo = [run for run in runs if tuple(run) not in known]
    # spawned, not forked: a fork of a process whose torch has started threads may hang
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        for done in as_completed([pool.submit(train, run) for run in todo]):
            yield done.result()
