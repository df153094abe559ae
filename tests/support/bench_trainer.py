"""`make bench`, the part on Trainer: a step through it against the same step in a bare loop.

Both are taken in turn within one run: a callback takes a bare step after each of Trainer's, on a
twin of the model. A Trainer step is all that passes from there to its next end: rows, batch,
forward, backward, clipping, update, schedule, and the log of every tenth step.
"""

from __future__ import annotations

import copy
import statistics
import sys
import tempfile
import time
from typing import Any

import torch
from bench_quant import fresh
from torch import nn

from minipeft import LoraConfig, get_peft_model

LIMIT = 1.03


def steps(turns: int = 30, device: str = "cpu") -> dict[str, float]:
    """Median seconds of both, the median of their ratios in a turn, and its quartiles."""
    from transformers import LlamaConfig, LlamaForCausalLM, TrainerCallback, TrainingArguments

    from minipeft.finetune.trainer import AdapterTrainer

    torch.manual_seed(0)
    shape = LlamaConfig(
        hidden_size=768, intermediate_size=2048, num_hidden_layers=6, num_attention_heads=12,
        vocab_size=8000, max_position_embeddings=128,
    )  # fmt: skip
    model = get_peft_model(LlamaForCausalLM(shape), LoraConfig(r=8, target_modules="all-linear"))
    twin = copy.deepcopy(model).to(device).train()
    rows = [{"input_ids": r, "labels": r} for r in torch.randint(8000, (16, 128)).tolist()]

    def collate(batch: list[Any]) -> dict[str, torch.Tensor]:
        return {key: torch.tensor([row[key] for row in batch]) for key in batch[0]}

    weights = [p for p in twin.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-3, fused=device != "cpu" or None)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1 - t / 1000)
    loader = torch.utils.data.DataLoader(rows, 4, shuffle=True, collate_fn=collate)  # type: ignore[arg-type,var-annotated]
    clock = time.process_time if device == "cpu" else time.perf_counter

    def now() -> float:
        if device != "cpu":
            torch.cuda.synchronize()
        return clock()

    def bare(batch: dict[str, torch.Tensor]) -> None:
        twin(**{key: value.to(device) for key, value in batch.items()}).loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()

    both: dict[str, list[float]] = {"trainer": [], "bare": []}

    class Turn(TrainerCallback):
        began, batches = 0.0, iter(())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            middle = now()
            batch = next(self.batches, None)
            if batch is None:
                self.batches = iter(loader)
                batch = next(self.batches)
            bare(batch)
            end = now()
            both["trainer"].append(middle - self.began)
            both["bare"].append(end - middle)
            self.began = now()

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, max_steps=turns + 3, per_device_train_batch_size=4, learning_rate=1e-3,
            report_to="none", save_strategy="no", logging_steps=10, disable_tqdm=True,
            use_cpu=device == "cpu", dataloader_pin_memory=False,
        )  # fmt: skip
        trainer = AdapterTrainer(model, arguments, collate, train_dataset=rows)
        trainer.add_callback(Turn())
        trainer.train()
    ours, theirs = both["trainer"][3:], both["bare"][3:]  # the first warm up
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "trainer": statistics.median(ours), "bare": statistics.median(theirs),
        "ratio": middle, "low": low, "high": high,
    }  # fmt: skip


def report() -> list[str]:
    """The section of the page."""
    row = fresh("bench_trainer", "steps()", 1)
    return [
        "## A step through Trainer",
        "",
        "`AdapterTrainer` against a bare loop, in turn within one run, processor seconds, one",
        "thread: Llama of 6 layers, width 768, batch 4 x 128, LoRA r = 8 on all linear layers.",
        "",
        "| | at most | ms | times the bare loop |",
        "|---|---:|---:|---:|",
        f"| bare loop | | {1e3 * row['bare']:.0f} | |",
        f"| Trainer | {LIMIT} | {1e3 * row['trainer']:.0f} | {row['ratio']:.3f} "
        f"({row['low']:.3f}-{row['high']:.3f}) |",
    ]


if __name__ == "__main__":
    print(steps(device=sys.argv[1] if sys.argv[1:] else "cpu"))
