"""A run's card: what was learned from what, how long it took, and what would repeat it."""

from __future__ import annotations

import datetime
import json
import platform
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ..checks.errors import CheckpointError, ConfigError
from ..saving.atomic import replace_file
from ..saving.files import CONFIG
from .data import Table
from .encode import Encoded
from .settings import Settings
from .watch import Watch, draw

RECORD = "run.json"
PACKAGES = ("minipeft", "torch", "transformers", "datasets", "accelerate")


def folder_for(output: str, resume: bool) -> Path:
    """The output folder, looked at and not touched.

    Raises:
        ConfigError: it is a file, or holds a run or an adapter already.
    """
    folder = Path(output).expanduser()
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--output {output} is a file; give a folder")
    there = [name for name in (CONFIG, RECORD) if (folder / name).exists()]
    if there and not resume:
        raise ConfigError(
            f"--output {output} holds a run or an adapter already ({there[0]}): give another "
            f"folder, delete this one, or go on with its run: --resume"
        )
    if resume and _record(folder).get("state") == "finished":
        raise ConfigError(f"the run in {output} is finished: there is nothing to resume")
    return folder


def _record(folder: Path) -> dict[str, Any]:
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / RECORD} cannot be read: {error}") from error
    return record if isinstance(record, dict) else {}


def begin(
    settings: Settings,
    train: Table,
    rows: Encoded,
    held: Encoded | None,
    model: Any,
    said: list[str],
    world: int,
) -> dict[str, Any]:
    """What is known before the first step."""
    trained, all_ = model.get_nb_trainable_parameters()
    return {
        "state": "running",
        "began": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "base": settings.base,
        "method": settings.method,
        "config": model.active_peft_config.to_dict(),
        "parameters": {"trained": trained, "all": all_},
        "data": {
            "source": train.source,
            "digest": train.digest,
            "kind": train.kind,
            "labels": list(train.labels),
            "rows": len(rows.rows),
            "tokens": rows.tokens,
            "labels_counted": rows.counted,
            "cut": rows.truncated,
            "notes": said,
        },
        "training": {
            "steps": settings.steps,
            "batch_size": settings.batch_size,
            "lr": settings.lr,
            "max_length": settings.max_length,
            "seed": settings.seed,
            "processes": world,
        },
        "held_out": {"rows": len(held.rows), "labels_counted": held.counted} if held else {},
        "machine": {
            "device": _device(),
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
        },
        "versions": {name: metadata.version(name) for name in PACKAGES},
    }


def _device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()


def same_data(folder: Path, record: dict[str, Any]) -> None:
    """Refuse to go on with other rows than the run began with."""
    before, now = (r.get("data", {}).get("digest") for r in (_record(folder), record))
    if before is not None and before != now:
        raise ConfigError(
            f"the data is no longer what the run in {folder} began with (its hash was {before}, "
            f"and is {now}): put it back, or start anew in another folder"
        )


def figures(metrics: dict[str, float]) -> dict[str, float]:
    """Loss and accuracy out of Trainer's metrics."""
    return {name: metrics[f"eval_{name}"] for name in ("loss", "accuracy")}


def finish(record: dict[str, Any], trainer: Any, seen: Watch, stopped: str | None) -> None:
    """What is known after the last step."""
    history, state = trainer.state.log_history, trainer.state
    losses = [row["loss"] for row in history if "loss" in row]
    looks = {row["step"]: figures(row) for row in history if "eval_loss" in row}
    record["state"] = "finished" if stopped is None else f"stopped by {stopped}"
    # a run that was killed after its last checkpoint has no step left to time
    speed = round(seen.tokens / seen.seconds, 1) if seen.seconds else 0.0
    record["training"] |= {
        "steps_done": state.global_step, "first_loss": losses[0], "last_loss": losses[-1],
        "seconds": round(seen.seconds, 3), "tokens_per_second": speed,
    }  # fmt: skip
    if looks:
        best = state.best_global_step or max(looks)
        record["held_out"] |= {"best": looks[best], "best_step": best}
        if stopped is None and state.global_step < state.max_steps:
            record["training"]["stopped_early"] = "the held-out rows showed no further gain"


def write(folder: Path, name: str, content: str | Callable[[str], Any]) -> None:
    """Write one file, given its text or what writes it to a path; CheckpointError if that fails."""

    def text(path: str) -> Any:
        return Path(path).write_text(str(content), encoding="utf-8")

    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / name, content if callable(content) else text)
    except OSError as error:
        raise CheckpointError(
            f"cannot write {folder / name}: {error.strerror or error}; make room or give another "
            f"--output"
        ) from error


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write run.json."""
    write(folder, RECORD, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def save_adapter(model: Any, folder: Path) -> None:
    """Write the adapter; CheckpointError if that fails."""
    try:
        model.save_pretrained(folder)
    except OSError as error:
        raise CheckpointError(
            f"cannot write the adapter to {folder}: {error.strerror or error}; its numbers are in "
            f"{folder / 'checkpoints'}: make room, then --resume"
        ) from error


def write_all(folder: Path, record: dict[str, Any], history: list[dict[str, Any]]) -> None:
    """Write the card in its three forms: for programs, for people, as a picture."""
    base = record["held_out"].get("base", {}).get("loss")

    def picture(path: str) -> None:
        draw(history, Path(path), base)

    write(folder, "run.md", "\n".join(lines(record)) + "\n")
    write(folder, "loss.png", picture)
    write_record(folder, record)  # last: it says that the run is finished


def lines(record: dict[str, Any]) -> list[str]:
    """The card as markdown."""
    data, training, held = record["data"], record["training"], record["held_out"]
    n, all_ = record["parameters"]["trained"], record["parameters"]["all"]
    text = [
        f"# {record['method']} on {record['base']}", "",
        f"- state: {record['state']}, {training['steps_done']} of {training['steps']} steps",
        f"- data: {data['source']} ({data['kind']}), {data['digest']}",
        f"- rows: {data['rows']:,} to train on, {data['tokens']:,} tokens, "
        f"{held.get('rows', 0):,} held out",
        *[f"  - {sentence}" for sentence in data["notes"]],
        f"- trained: {n:,} of {all_:,} parameters ({100 * n / all_:.3f} %)",
        f"- batch {training['batch_size']}, highest learning rate {training['lr']:g}, "
        f"{training['processes']} process(es), seed {training['seed']}",
        f"- loss: {training['first_loss']:.4f} at the first step, {training['last_loss']:.4f} at "
        f"the last (nats per label)",
    ]  # fmt: skip
    if "best" in held and "base" in held:
        text += [
            f"- held out: {held['best']['loss']:.4f} at step {held['best_step']}, "
            f"{held['base']['loss']:.4f} before training",
            f"- right at once: {held['best']['accuracy']:.1%} of the held-out labels, "
            f"{held['base']['accuracy']:.1%} before training",
        ]
    seconds, speed = training["seconds"], training["tokens_per_second"]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return [
        *text,
        f"- time: {seconds:,.1f} s, {speed:,.0f} tokens/s, on {record['machine']['device']} with "
        f"{record['machine']['threads']} thread(s)",
        f"- versions: {versions}",
        "",
        "Repeat it: `minipeft train --config run.toml --output ANOTHER`",
        "",
        "![losses](loss.png)",
    ]


def announce(screen: Console | None, record: dict[str, Any]) -> None:
    """Say what is about to be trained, on what."""
    if screen is None:
        return
    data, (n, all_) = record["data"], record["parameters"].values()
    for sentence in data["notes"]:
        screen.print(f"[yellow]note:[/] {sentence}" if screen.is_terminal else f"note: {sentence}")
    screen.print(
        f"{record['method']} on {record['base']}: {n:,} of {all_:,} parameters; {data['rows']:,} "
        f"rows, {record['training']['steps']:,} steps, lr {record['training']['lr']:g}"
    )


def summary(screen: Console | None, record: dict[str, Any], folder: Path) -> None:
    """Say how it ended."""
    if screen is None:
        return
    held = record["held_out"]
    if "best" in held and "base" in held:
        screen.print(
            f"held out: loss {held['best']['loss']:.3f} (before: {held['base']['loss']:.3f}), "
            f"right {held['best']['accuracy']:.1%} (before: {held['base']['accuracy']:.1%})"
        )
    if record["state"] == "finished":
        screen.print(f"the adapter, run.md and loss.png are in {folder}")
    else:
        screen.print(f"{record['state']}; go on: minipeft train --resume --output {folder}")
