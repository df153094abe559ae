"""Checkpoints as folders: whole or not there, the newest first found, the oldest thrown away.

output_dir/checkpoint-40/            whole
output_dir/.writing/checkpoint-50/   on its way: renamed when the disk has all of it
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ..saving.atomic import sync

STAGE = ".writing"
STATE = "trainer_state.json"


def step_of(folder: Path) -> int:
    """40 of checkpoint-40; -1 of anything else."""
    name, dash, step = folder.name.partition("-")
    return int(step) if name == "checkpoint" and dash and step.isdecimal() else -1


def checkpoints(folder: str | os.PathLike[str]) -> list[Path]:
    """The whole checkpoints in a folder, the oldest first."""
    place = Path(folder)
    found = [p for p in place.iterdir() if step_of(p) >= 0] if place.is_dir() else []
    return sorted((p for p in found if (p / STATE).is_file()), key=step_of)


def last_checkpoint(folder: str | os.PathLike[str]) -> Path | None:
    """The newest whole checkpoint in a folder; None if there is none."""
    found = checkpoints(folder)
    return found[-1] if found else None


def sync_all(folder: Path) -> None:
    """Have the disk hold what is in a folder, before a rename says that it does."""
    for path in [*folder.rglob("*"), folder]:
        sync(path)


def publish(written: Path, final: Path) -> None:
    """Give a whole checkpoint its name; one of that name steps aside first."""
    sync_all(written)
    aside = written.parent / f"old-{final.name}"
    if final.exists():
        os.rename(final, aside)
    os.rename(written, final)
    sync(final.parent)  # the name itself


def put_back(place: Path) -> None:
    """Undo what a kill left: a checkpoint that stepped aside for one that did not come."""
    for aside in (place / STAGE).glob("old-checkpoint-*"):
        final = place / aside.name.removeprefix("old-")
        if not final.exists():
            os.rename(aside, final)
    shutil.rmtree(place / STAGE, ignore_errors=True)


def rotate(place: Path, limit: int | None, best: Path | None) -> None:
    """Delete the oldest checkpoints beyond `limit`; never the newest, nor the best."""
    found = checkpoints(place)
    kept = {found[-1], *([best] if best in found else [])}
    surplus = len(found) - max(limit, len(kept)) if limit else 0
    for old in [p for p in found if p not in kept][: max(surplus, 0)]:
        gone = place / STAGE / old.name  # a half-deleted one must not look like a checkpoint
        gone.parent.mkdir(exist_ok=True)
        os.rename(old, gone)
    shutil.rmtree(place / STAGE, ignore_errors=True)
