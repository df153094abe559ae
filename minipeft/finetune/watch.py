"""What a learner sees while a run goes on: a bar, or plain lines; and the picture of its losses."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from transformers import TrainerCallback

from ..checks.errors import StateError


class LastLook(TrainerCallback):
    """Measures and saves after the last step as well, whatever the steps between two looks."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for both at the end."""
        if state.global_step >= state.max_steps:
            control.should_save = True
            control.should_evaluate = args.eval_strategy != "no"


class Watch(TrainerCallback):
    """Shows a run on the console: one bar in a terminal, a line at each look elsewhere.

    Args:
        console: where to; None shows nothing.

    Attributes:
        seconds, tokens: spent and read in this process's part of the run.
    """

    def __init__(self, console: Console | None):
        self.console = console
        self.bar: Progress | None = None
        self.task = TaskID(0)
        self.seconds, self.tokens, self.loss, self.held = 0.0, 0, float("nan"), ""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock and the bar, at the step where a resumed run goes on."""
        self.started, self.before = time.perf_counter(), state.num_input_tokens_seen
        if self.console is None or not self.console.is_terminal:
            return
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[said]}"), TimeRemainingColumn(),
        )  # fmt: skip
        self.bar = Progress(*columns, console=self.console)
        self.task = self.bar.add_task(
            "training", total=state.max_steps, completed=state.global_step, said=""
        )
        self.bar.start()

    def said(self) -> str:
        """`loss 1.234, held out 1.301, 5,120 tokens/s`."""
        speed = self.tokens / self.seconds if self.seconds else 0.0
        return f"loss {self.loss:.3f}{self.held}, {speed:,.0f} tokens/s"

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Take the loss of the steps since the last log."""
        self.seconds = time.perf_counter() - self.started
        self.tokens = int(state.num_input_tokens_seen - self.before)
        self.loss = (logs or {}).get("loss", self.loss)  # evaluations are logged as well
        if "loss" in (logs or {}) and not math.isfinite(self.loss):
            raise StateError(
                f"the loss of step {state.global_step} is {self.loss}, no number: take a lower "
                f"--lr (it was {args.learning_rate:g}); checkpoints from before are kept"
            )
        if self.bar is not None:
            self.bar.update(self.task, completed=state.global_step, said=self.said())

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any
    ) -> None:
        """Take the held-out loss; without a bar this is the moment to print a line."""
        if "eval_loss" not in (metrics or {}) or not hasattr(self, "started"):
            return
        self.held = f", held out {metrics['eval_loss']:.3f}"
        if self.console is not None and self.bar is None:
            self.console.print(f"step {state.global_step} of {state.max_steps}: {self.said()}")

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop the clock and take the bar away."""
        self.seconds = time.perf_counter() - self.started
        self.tokens = int(state.num_input_tokens_seen - self.before)
        self.close()

    def close(self) -> None:
        """Leave the terminal as it was; also after an error."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def console(rank: int, quiet: bool) -> Console | None:
    """Where the first process prints: the others stay silent."""
    return None if quiet or rank else Console(file=sys.stdout, highlight=False)


def draw(history: list[dict[str, Any]], path: Path, base_loss: float | None) -> None:
    """The losses of a run as a picture: training, held out, and the base model's as a line."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    lines = (("loss", "training", "-"), ("eval_loss", "held out", "o-"))
    for key, label, style in lines:
        points = [(row["step"], row[key]) for row in history if key in row]
        if points:
            axes.plot(*zip(*points, strict=True), style, label=label, markersize=4)
    if base_loss is not None:
        axes.axhline(base_loss, color="gray", linestyle=":", label="held out, before training")
    axes.set(xlabel="step", ylabel="loss (nats per label)")
    axes.legend()
    figure.savefig(path, dpi=120, format="png")
