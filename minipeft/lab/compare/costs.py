"""What a training step costs: processor seconds, in turns, and bytes, part by part."""

from __future__ import annotations

import random
import statistics
import time
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from ... import PeftModel, get_peft_model_state_dict
from ...layers.quant.packed import hidden_parameters
from ..counting import parameters
from ..demo import METHODS, prepare
from ..tasks import load_task
from ..training import collate, encode
from .runs import BASE, BATCH


class Step:
    """One method's model, its optimizer and a batch: a call makes a training step."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.model, tokenizer = prepare(BASE, method, seed=0)
        rows = load_task("opposite")["train"]
        pairs = [encode(tokenizer, rows[i]) for i in range(BATCH)]
        self.batch = collate(pairs, tokenizer, torch.device("cpu"))
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-6)
        self.model.train()
        self.seconds: list[float] = []

    def __call__(self) -> None:
        """A step; its processor seconds are kept."""
        started = time.process_time()
        self.model(**self.batch).loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.seconds.append(time.process_time() - started)

    def kept(self) -> int:
        """Bytes that autograd keeps for the backward pass, beside the model's own tensors."""
        own = {t.untyped_storage().data_ptr() for t in self._tensors()}
        kept: dict[
            int, torch.UntypedStorage
        ] = {}  # the storages themselves, so that no address is given out twice

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage
            return tensor

        with saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = self.model(**self.batch).loss
        size = sum(storage.nbytes() for storage in kept.values())
        del loss  # the graph had to live up to here
        return size

    def _tensors(self) -> list[Tensor]:
        return [*self.model.parameters(), *self.model.buffers(), *self.batch.values()]

    def row(self, full: float) -> dict[str, Any]:
        """The costs: counts, bytes, and the step's time against `full`, seconds of one step."""
        stored = self.trained  # a fine-tuned model is stored whole
        if isinstance(self.model, PeftModel):
            stored = list(get_peft_model_state_dict(self.model).values())
        state = self.optimizer.state.values()
        moments = sum(t.nbytes for s in state for n, t in s.items() if n != "step")
        own = {t.untyped_storage().data_ptr(): t for t in self._tensors()[: -len(self.batch)]}
        return {
            "method": self.method,
            "trained": sum(p.numel() for p in self.trained),
            "total": parameters(self.model) + hidden_parameters(self.model),
            "weights": sum(t.untyped_storage().nbytes() for t in own.values()),
            "gradients": sum(p.nbytes for p in self.trained),
            "moments": moments,
            "kept": self.kept(),
            "stored": sum(t.nbytes for t in stored),
            "step": round(statistics.median(self.seconds) / full, 3),
        }


def costs(turns: int = 15) -> list[dict[str, Any]]:
    """A row for each method: `step` is its median step over full fine-tuning's, in one thread.

    The bytes: `weights` of the model and adapter, `gradients`, `moments` of Adam, `kept` by
    autograd for the backward pass, and `stored` in the file that a user sends on.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        steps = [Step(method) for method in METHODS]
        order = random.Random(0)
        for turn in range(turns + 2):
            for step in order.sample(steps, len(steps)):
                step()
            if turn < 2:  # the first steps also fetch memory and load kernels
                for step in steps:
                    step.seconds.clear()
        (full,) = (s for s in steps if s.method == "full")
        return [step.row(statistics.median(full.seconds)) for step in steps]
    finally:
        torch.set_num_threads(threads)
