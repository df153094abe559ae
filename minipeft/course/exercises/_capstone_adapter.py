"""The grader of lesson 16: an adapter's folder, judged on rows that nobody has seen.

The rows come from a seed that the operating system draws at the moment of the check, so no design
can be fitted to them. The base and the adapter are loaded anew from what is on disk.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...checks.errors import MinipeftError, StateError
from ...checks.say import did_you_mean, listed
from ...lab.tasks import TASKS, load_task
from ...lab.training import accuracy, collate, encode
from ...lab.zoo import load_base
from ...methods.config import PeftConfig
from ...model import PeftModel
from ...saving.files import CONFIG, WEIGHTS, load_config
from ..expect import Wrong, describe, expect

LIMIT = 100_000  # bytes of the weights file; the largest allowed is one less
ROWS = 200  # the standard error of an accuracy on 200 rows is at most √(¼ / 200) = 3.5 points
MARGIN = 0.30  # always naming one of six moods gives 17 %: 30 points are five of its errors away
# Merging changes the order of float32 sums. Some hundred terms in each of a dozen products, each
# rounded to 2⁻²⁴: the logits agree to about 10⁻⁶ of the largest. A scale that is off by 1 % moves
# them by more than 10⁻³.
TOLERANCE = 1e-4

Answer = Mapping[str, Any]


def adapter(answer: Any) -> str:
    """The check of `capstone.adapter`: {"folder": ..., "task": ..., "base": ...}."""
    keys = {"folder", "task", "base"}
    if not isinstance(answer, Mapping) or not {"folder", "task"} <= answer.keys() <= keys:
        raise Wrong(
            'hand over {"folder": "my-adapter", "task": "mood", "base": "tiny-gpt2"} (the base may '
            f"be left out if it is tiny-gpt2); this is {describe(answer)}"
        )
    return grade_adapter(**answer)


def grade_adapter(
    folder: str | os.PathLike[str], task: str, base: str | os.PathLike[str] = "tiny-gpt2"
) -> str:
    """Grades an adapter: file, base, folding, and accuracy on unseen rows.

    Args:
        folder: what `save_pretrained` wrote.
        task: a name in `minipeft.lab.tasks.TASKS`; the adapter was trained on it, with seed 0.
        base: the model it was trained for, as `load_base` takes it.

    Returns:
        one sentence with the numbers, where everything holds.

    Raises:
        Wrong: with what does not hold, and its numbers.
    """
    place = _place(folder)
    expect(
        isinstance(task, str) and task in TASKS,
        f"there is no task {task!r}; the tasks are {listed(TASKS)}{did_you_mean(str(task), TASKS)}",
    )
    size = (place / WEIGHTS).stat().st_size
    expect(
        size < LIMIT,
        f"{WEIGHTS} has {size:,} bytes; allowed are less than {LIMIT:,}. Train fewer numbers: "
        "each takes 4 bytes",
    )
    model, tokenizer, device = _load(place, base)
    seed, rows = unseen(task)
    apart = _folds(model, tokenizer, rows, device)
    before, after = _accuracies(model, tokenizer, rows, task, seed)
    return (
        f"{ROWS} rows of {task!r}, drawn now with seed {seed}: the base has {before:.1%} right, "
        f"with your adapter it is {after:.1%} (asked for: {MARGIN:.0%} more); {size:,} bytes of "
        f"less than {LIMIT:,}; merged, the logits are the same to {apart:.0e}"
    )


def _place(folder: Any) -> Path:
    """The folder, if it is one and holds both files."""
    if not isinstance(folder, str | os.PathLike):
        raise Wrong(f"the folder should be a string or a Path, but it is {describe(folder)}")
    place = Path(folder)
    expect(
        place.is_dir(),
        f"there is no folder {str(place)!r}; write it with model.save_pretrained({str(place)!r})",
    )
    missing = [name for name in (CONFIG, WEIGHTS) if not (place / name).is_file()]
    inside = sorted(p.name for p in place.iterdir())
    expect(
        not missing,
        f"the folder has no {' and no '.join(missing)}; in it: {listed(inside) or 'nothing'}",
    )
    return place


def _load(place: Path, base: str | os.PathLike[str]) -> tuple[Any, Any, torch.device]:
    """A fresh base with the adapter in it, its tokenizer, and the device."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        config: PeftConfig = load_config(place)
        made_for = config.base_model_name_or_path
        if made_for and Path(made_for).name != Path(base).name:
            raise Wrong(
                f"the adapter was made for the base {Path(made_for).name!r}, and you name "
                f"{Path(base).name!r}: beside other weights its numbers mean nothing"
            )
        model, tokenizer = load_base(base, device=device)
        return PeftModel.from_pretrained(model, place), tokenizer, device
    except (MinipeftError, TypeError) as error:
        raise Wrong(f"the adapter cannot be loaded: {error}") from None


def unseen(task: str) -> tuple[int, Any]:
    """A seed from the operating system, and `ROWS` rows of it that are not among seed 0's."""
    known = {prompt for part in load_task(task).values() for prompt in part["prompt"]}
    seed = secrets.randbits(32) + 1  # never 0, the seed of the lesson's rows
    drawn = load_task(task, seed=seed, train=1, validation=1, test=3 * ROWS)["test"]
    fresh = [i for i, prompt in enumerate(drawn["prompt"]) if prompt not in known]
    return seed, drawn.select(fresh[:ROWS])


@torch.no_grad()
def _logits(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """The logits at the positions of the text, (n, time, vocab)."""
    found: Tensor = model(**batch).logits[:, -batch["input_ids"].shape[1] :]
    return found


def _folds(model: Any, tokenizer: Any, rows: Any, device: torch.device) -> float:
    """How far apart the logits are, merged and beside the base; relative to the largest."""
    batch = collate([encode(tokenizer, rows[i]) for i in range(8)], tokenizer, device)
    batch.pop("labels")
    beside = _logits(model, batch)
    with model.disable_adapter():
        same = torch.equal(beside, _logits(model, batch))
    expect(
        not same,
        "the adapter changes nothing: every logit is the base's. Was it saved before it was "
        "trained? (LoRA starts at B = 0, IA³ at 1, BitFit at 0)",
    )
    try:
        model.merge_adapter()
    except StateError as error:
        kind = model.active_peft_config.peft_type.value
        raise Wrong(
            f"{kind} cannot be folded into the weights, and the adapter must be: {error}"
        ) from None
    merged = _logits(model, batch)
    model.unmerge_adapter()
    apart = float((merged - beside).abs().max() / beside.abs().max())
    expect(
        apart <= TOLERANCE,
        f"merged, a logit differs by {apart:.1e} of the largest; allowed is {TOLERANCE:.0e}",
    )
    return apart


def _accuracies(model: Any, tokenizer: Any, rows: Any, task: str, seed: int) -> tuple[float, float]:
    """The shares of right rows without and with the adapter, if the second is high enough."""
    with model.disable_adapter():
        before = accuracy(model, tokenizer, rows)
    after = accuracy(model, tokenizer, rows)
    if after - before >= MARGIN:
        return before, after
    message = (
        f"on {len(rows)} rows of {task!r} with seed {seed} the base has {before:.1%} right, with "
        f"your adapter it is {after:.1%}; {before + MARGIN:.1%} is asked for"
    )
    for other in TASKS.keys() - {task}:
        there = accuracy(model, tokenizer, unseen(other)[1])
        if there - before >= MARGIN:
            raise Wrong(f"{message}. On {other!r} it has {there:.1%}: it was trained on that task")
    raise Wrong(f"{message}. Train longer, or with another learning rate or method")
