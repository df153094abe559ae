"""Ctrl-C and SIGTERM end a run after the running step, with a checkpoint."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopOnSignal(TrainerCallback):
    """A callback for a Trainer: the first signal stops it in order, a second one at once.

    The handlers stand while `train` runs, in the main thread. In several processes all stop at
    the same step, whichever of them got the signal.

    Attributes:
        stopped: "SIGINT" or "SIGTERM" once one came, else None.
    """

    def __init__(self) -> None:
        self.stopped: str | None = None
        self.before: dict[int, Any] = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.stopped = signal.Signals(number).name
        self.close()  # a second one does what it did before: KeyboardInterrupt, or the end

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Put the handlers in place."""
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self._note) for number in SIGNALS}

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for a checkpoint and the end, if a signal came to any process."""
        if args.world_size > 1:
            numbers = [0, *SIGNALS]
            mine = 0 if self.stopped is None else signal.Signals[self.stopped].value
            told = torch.tensor(numbers.index(mine), device=args.device)
            torch.distributed.all_reduce(told, torch.distributed.ReduceOp.MAX)
            number = numbers[int(told)]
            self.stopped = signal.Signals(number).name if number else None
        if self.stopped is not None:
            control.should_save = control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Put the handlers of before back."""
        self.close()

    def close(self) -> None:
        """Put the handlers of before back; also after an error."""
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}
