"""The comparison as tables and plots: what lesson 14 shows, and the README's picture."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from ..demo import METHODS
from . import frontier
from .runs import TASKS

Row = dict[str, Any]
SHORT = {key: label.split(",")[0] for key, (label, _) in METHODS.items()} | {"full": "full"}
# One colour and marker for a family: all weights, LoRA and what is built on it, beside a layer,
# virtual tokens.
LOOK: dict[str, tuple[str, str]] = {
    "full": ("#333333", "*"),
    **{m: ("#5b7db1", k) for m, k in zip(("lora", "dora", "qlora", "loftq"), "osD^", strict=True)},
    **{m: ("#7fa66b", k) for m, k in zip(("adapter", "ia3", "bitfit"), "osD", strict=True)},
    **{
        m: ("#e8a33d", k)
        for m, k in zip(
            ("prefix_tuning", "p_tuning_v2", "p_tuning", "prompt_tuning"), "osD^", strict=True
        )
    },
}


def mean(rows: Sequence[Row], field: str, **where: Any) -> float:
    """The mean of a field over the rows that have these values, over the seeds as a rule."""
    return fmean(r[field] for r in rows if all(r[k] == v for k, v in where.items()))


def table(results: dict[str, Any]) -> str:
    """A line for each method: what is trained, what a step costs, accuracy, forgetting."""
    runs = [r for r in results["runs"] if r["stage"] == "table"]
    cost = {c["method"]: c for c in results["costs"]}
    lines = [
        f"{'':14}{'trained':>10}{'file, kB':>10}{'memory, MB':>11}{'step':>6}"
        + "".join(f"{task:>10}" for task in TASKS)
        + f"{'forgets':>9}"
    ]
    for method in METHODS:
        c = cost[method]
        memory = sum(c[part] for part in ("weights", "gradients", "moments", "kept")) / 1e6
        accuracy = [mean(runs, "accuracy", method=method, task=task) for task in TASKS]
        lines.append(
            f"{SHORT[method]:14}{c['trained']:>10,}{c['stored'] / 1e3:>10,.0f}{memory:>11.1f}"
            f"{c['step']:>6.2f}"
            + "".join(f"{value:>10.1%}" for value in accuracy)
            + f"{mean(runs, 'forgetting', method=method):>9.2f}"
        )
    return "\n".join(lines)


def legend(figure: Any, axes: Any) -> None:
    """One legend for all panels, below them."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize="small")


def pareto(results: dict[str, Any], tasks: Sequence[str] = TASKS) -> Any:
    """Test loss against trained parameters, a panel for each task; the line joins the frontier.

    Small points are seeds, large ones their means.

    Returns:
        matplotlib's figure.
    """
    import matplotlib.pyplot as plt

    runs = [r for r in results["runs"] if r["stage"] == "table"]
    figure, panels = plt.subplots(
        1, len(tasks), figsize=(4 * len(tasks), 4.4), layout="constrained", squeeze=False
    )
    for axes, task in zip(panels[0], tasks, strict=True):
        points = {}
        for method, (colour, marker) in LOOK.items():
            mine = [r for r in runs if (r["method"], r["task"]) == (method, task)]
            x, y = mine[0]["trained"], mean(mine, "loss")
            points[method] = x, y
            axes.plot([x] * len(mine), [r["loss"] for r in mine], marker, color=colour, ms=3)
            axes.plot(x, y, marker, color=colour, ms=9, mec="black", label=SHORT[method])
        best = [points[method] for method in frontier(points)]
        axes.plot(*zip(*best, strict=True), color="#aaaaaa", zorder=0)
        axes.set(xscale="log", yscale="log", title=task, xlabel="trained parameters")
        axes.grid(alpha=0.3)
    panels[0, 0].set_ylabel("test loss, nats per token")
    legend(figure, panels[0, 0])
    return figure


def rates(results: dict[str, Any]) -> Any:
    """Validation loss against the learning rate, a line for each method, a panel for each task."""
    import matplotlib.pyplot as plt

    runs = [r for r in results["runs"] if r["stage"] == "rates"]
    tasks = sorted({r["task"] for r in runs}, reverse=True)
    figure, panels = plt.subplots(
        1, len(tasks), figsize=(5.5 * len(tasks), 4.4), layout="constrained", squeeze=False
    )
    for axes, task in zip(panels[0], tasks, strict=True):
        for method, (colour, marker) in LOOK.items():
            mine = sorted(
                (r["lr"], r["loss"]) for r in runs if (r["method"], r["task"]) == (method, task)
            )
            if mine:
                lr, loss = zip(*mine, strict=True)
                axes.plot(lr, loss, f"{marker}-", color=colour, label=SHORT[method])
        axes.set(xscale="log", yscale="log", title=task, xlabel="learning rate")
        axes.grid(alpha=0.3)
    panels[0, 0].set_ylabel("validation loss, nats per token")
    legend(figure, panels[0, 0])
    return figure


def memory(results: dict[str, Any]) -> Any:
    """The bytes of a training step, stacked by part, and the time of a step."""
    import matplotlib.pyplot as plt

    costs = results["costs"][::-1]
    names = [SHORT[c["method"]] for c in costs]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained", sharey=True)
    start = [0.0] * len(costs)
    parts = {"weights": "#c9d3e0", "gradients": "#5b7db1", "moments": "#e8a33d", "kept": "#7fa66b"}
    for part, colour in parts.items():
        width = [c[part] / 1e6 for c in costs]
        label = "kept for the backward pass" if part == "kept" else part
        left.barh(names, width, left=start, color=colour, label=label)
        start = [a + b for a, b in zip(start, width, strict=True)]
    left.set(xlabel="MB", title="memory of a training step", xlim=(0, 1.45 * max(start)))
    left.legend(fontsize="small", loc="center right")
    right.barh(names, [c["step"] for c in costs], color="#9aa7b8")
    right.axvline(1, color="black", linewidth=0.8)
    right.set(xlabel="times full fine-tuning", title="time of a training step")
    return figure


def forgetting(results: dict[str, Any], tasks: Sequence[str] = TASKS) -> Any:
    """The rise of the loss on pretraining text against the loss on the task, per task."""
    import matplotlib.pyplot as plt

    runs = [r for r in results["runs"] if r["stage"] == "table"]
    figure, panels = plt.subplots(
        1, len(tasks), figsize=(4 * len(tasks), 4.4), layout="constrained", sharey=True
    )
    for axes, task in zip(panels, tasks, strict=True):
        for method, (colour, marker) in LOOK.items():
            x = mean(runs, "loss", method=method, task=task)
            y = mean(runs, "forgetting", method=method, task=task)
            axes.plot(x, y, marker, color=colour, ms=9, mec="black", label=SHORT[method], ls="")
        axes.set(xscale="log", title=task, xlabel="test loss of the task, nats")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("forgetting, nats per token")
    legend(figure, panels[0])
    return figure


def ranks(results: dict[str, Any]) -> Any:
    """Test loss and accuracy of LoRA against its rank."""
    import matplotlib.pyplot as plt

    runs = [r for r in results["runs"] if r["stage"] == "ranks"]
    values = sorted({r["rank"] for r in runs})
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for axes, field, label in (
        (left, "loss", "test loss, nats per token"),
        (right, "accuracy", "accuracy on 500 test rows"),
    ):
        axes.plot([r["rank"] for r in runs], [r[field] for r in runs], "o", ms=3, color="#5b7db1")
        axes.plot(values, [mean(runs, field, rank=r) for r in values], "-", color="#5b7db1")
        axes.set(xlabel="rank r", ylabel=label)
        axes.set_xscale("log", base=2)
        axes.set_xticks(values, [str(r) for r in values])
        axes.grid(alpha=0.3)
    left.set_yscale("log")
    right.set_ylim(-0.03, 1.05)
    return figure
