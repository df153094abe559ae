"""The proofs of lesson 14: the notes' comparison beside the runs of `minipeft.lab.compare`."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import torch

from ...lab.compare import load
from ..claims import hold, proves

# method: (performance in %, speed) as note 003 has them, lines 380 to 385; full is 100 % and 1.
WRITTEN = {
    "lora": (98, 4),
    "qlora": (97, 3),
    "adapter": (96, 3),
    "prompt_tuning": (90, 5),
    "p_tuning_v2": (94, 4),
}
RATES = {"< 1B": (1e-3, 5e-5), "7B": (1e-4, 2e-5), "13B": (1e-4, 1e-5), "70B+": (5e-5, 5e-6)}


def accuracy(task: str) -> dict[str, float]:
    """{method: its accuracy in the committed table, the mean of the seeds}."""
    runs = [r for r in load()["runs"] if (r["stage"], r["task"]) == ("table", task)]
    methods = {r["method"] for r in runs}
    return {m: fmean(r["accuracy"] for r in runs if r["method"] == m) for m in methods}


def by_rank(field: str) -> dict[int, float]:
    """{r: the mean over the seeds} of the sweep of ranks."""
    runs = [r for r in load()["runs"] if r["stage"] == "ranks"]
    ranks = sorted({r["rank"] for r in runs})
    return {k: fmean(r[field] for r in runs if r["rank"] == k) for k in ranks}


@proves("compare-performance")
def performance() -> str:
    """What each method reaches of full fine-tuning's accuracy, on two tasks."""
    copied, contradicted = accuracy("where"), accuracy("opposite")
    share = {m: contradicted[m] / contradicted["full"] for m in WRITTEN}
    hold(all(copied[m] > 0.98 for m in WRITTEN), f"where: {copied}")
    hold(share["lora"] > 0.9, f"LoRA reaches {share['lora']:.2f}")
    hold(max(share["prompt_tuning"], share["p_tuning_v2"]) < 0.6, f"prompts: {share}")
    low = min(copied[m] / copied["full"] for m in WRITTEN)
    return (
        f"where: all five {low:.0%} or more; opposite: "
        + ", ".join(f"{m} {share[m]:.0%}" for m in WRITTEN)
        + " of full fine-tuning"
    )


@proves("compare-speed")
def speed() -> str:
    """The step of each method against full fine-tuning's."""
    step = {c["method"]: c["step"] for c in load()["costs"]}
    factor = {m: 1 / step[m] for m in WRITTEN}
    hold(max(factor.values()) < 2, f"{factor}")
    return ", ".join(f"{m} {factor[m]:.2f}" for m in WRITTEN)


@proves("compare-memory")
def memory() -> str:
    """The bytes of a step against full fine-tuning's, small model, 16 short rows."""
    parts = ("weights", "gradients", "moments", "kept")
    total = {c["method"]: sum(c[p] for p in parts) for c in load()["costs"]}
    share = {m: total[m] / total["full"] for m in WRITTEN}
    hold(min(share.values()) > 0.5, f"{share}")
    return ", ".join(f"{m} {share[m]:.0%}" for m in WRITTEN)


@proves("compare-ranks")
def ranks() -> str:
    """Accuracy by rank, on the task that contradicts the model."""
    got = by_rank("accuracy")
    hold(got[1] < 0.8 < 0.95 < got[2] and min(got[r] for r in got if r > 2) > 0.99, f"{got}")
    return ", ".join(f"r = {r}: {value:.0%}" for r, value in got.items())


@proves("compare-low-rank")
def low_rank() -> str:
    """Whether a rank below 16 can be enough."""
    got = by_rank("accuracy")
    least = min(r for r, value in got.items() if value >= max(got.values()) - 0.01)
    hold(1 < least < 16, f"{got}")
    return f"r = {least} comes within a point of the best rank"


@proves("compare-rates")
def rates() -> str:
    """The quotients of the note's own table."""
    got = {size: round(lora / full, 6) for size, (lora, full) in RATES.items()}
    hold(list(got.values()) == [20, 5, 10, 10], f"{got}")
    return ", ".join(f"{size} {q:.0f}" for size, q in got.items())


@proves("compare-recipe-rate")
def recipe_rate() -> str:
    """Line 437 against the 7B row."""
    factor = 2e-4 / RATES["7B"][0]
    hold(round(factor, 6) == 2, f"{factor}")
    return f"2e-4 / 1e-4 = {factor:.0f}"


@proves("compare-own-rates")
def own_rates() -> str:
    """The best of each method's rates in the committed sweep."""
    from ...lab.compare.runs import chosen

    best = chosen(load()["runs"])
    factor = best["lora"] / best["full"]
    spread = max(best.values()) / min(best.values())
    hold(spread > 10, f"{best}")
    return f"LoRA's is {factor:.1f} times full fine-tuning's; of all methods {spread:.0f}"


def regression() -> tuple[float, float]:
    """Mean squares on 20 seen and 1,000 unseen rows of a linear model with 20 weights.

    Nothing is there to learn (the targets are noise), and 20 weights fit 20 rows exactly.
    """
    generator = torch.Generator().manual_seed(0)
    draw: dict[str, Any] = {"generator": generator, "dtype": torch.float64}
    seen, targets = torch.randn(20, 20, **draw), torch.randn(20, **draw)
    weights = torch.linalg.solve(seen, targets)
    unseen, others = torch.randn(1000, 20, **draw), torch.randn(1000, **draw)
    training = (seen @ weights - targets).square().mean()
    validation = (unseen @ weights - others).square().mean()
    return float(training), float(validation)


@proves("compare-overfitting")
def overfitting() -> str:
    """20 weights that learn 20 rows by heart."""
    training, validation = regression()
    hold(training < 1e-12, f"training {training}")
    hold(validation > 1.5, f"validation {validation}")  # to answer 0 always would give 1
    return f"training loss {training:.0e}, validation loss {validation:.1f}, of saying nothing 1.0"
