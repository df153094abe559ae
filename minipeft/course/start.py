"""`minipeft start`: the course in a folder of yours, and its updates, without losing an answer.

A manifest beside the notebooks keeps a fingerprint of each file as it was last put there. A file
that still has it is untouched, and an update may replace it; a file that has not is the learner's,
and a new version goes beside it, `08_lora.new.ipynb`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Literal

from .. import __version__
from ..saving.atomic import replace_file
from . import builder
from .exercise import CourseError

MANIFEST = ".minipeft.json"
State = Literal["written", "updated", "unchanged", "kept", "beside"]


@dataclass(frozen=True)
class Step:
    """What one file of the course needs.

    Args:
        path: the file's path below the folder, `exercises/08_lora.ipynb`.
        state: "written" (it was missing), "updated" (untouched, a new version replaces it),
            "unchanged", "kept" (the learner's, nothing new), "beside" (the learner's, and the
            new version goes to `target`).
        target: the path to write, None if nothing is.
        text: the file's new version.
    """

    path: str
    state: State
    target: str | None
    text: str


def texts() -> dict[str, str]:
    """The course's files by path, from the installed package alone."""
    built = builder.build()
    return {path: builder.text(notebook) for path, notebook in built.items()}


def fingerprint(data: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _now(file: Path) -> str | None:
    """The fingerprint of a file as it is, None if it is missing.

    Raises:
        CourseError: something else than a readable file stands there.
    """
    try:
        return fingerprint(file.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CourseError(
            f"{file} is not a file that can be read ({error.strerror}); move it away"
        ) from error


def read_manifest(folder: Path) -> dict[str, str]:
    """Path -> fingerprint of what was last put there; empty if the folder is new.

    Raises:
        CourseError: the manifest is damaged.
    """
    file = folder / MANIFEST
    try:
        files = json.loads(file.read_text(encoding="utf-8"))["files"]
        if not all(isinstance(v, str) for v in files.values()):
            raise ValueError("a fingerprint is not text")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CourseError(
            f"{file} is damaged ({type(error).__name__}), so your changes cannot be told from "
            "the course's; delete it and run this again: every file that differs is then kept, "
            "and the new version put beside it"
        ) from error
    return dict(files)


def _beside(folder: Path, path: str, new: str, known: Mapping[str, str]) -> str:
    """Where a new version goes: `08_lora.new.ipynb`, or the next number if that one is edited."""
    stem = path.removesuffix(".ipynb")
    for ending in chain([".new"], (f".new-{n}" for n in count(2))):
        target = f"{stem}{ending}.ipynb"
        if _now(folder / target) in (None, new, known.get(target)):
            return target
    raise AssertionError("count() never ends")


def plan(folder: Path, files: Mapping[str, str], known: Mapping[str, str]) -> list[Step]:
    """What each file needs; nothing is written.

    Args:
        folder: the learner's.
        files: the course as it is now, path -> text.
        known: the manifest.
    """
    steps = []
    for path, text in files.items():
        new, now, last = fingerprint(text.encode()), _now(folder / path), known.get(path)
        state: State
        if now is None:
            state = "written"
        elif now == new:
            state = "unchanged"
        elif now == last:
            state = "updated"
        else:
            state = "kept" if new == last else "beside"
        targets = {"written": path, "updated": path}
        target = _beside(folder, path, new, known) if state == "beside" else targets.get(state)
        steps.append(Step(path, state, target, text))
    return steps


def _refuse(folder: Path) -> None:
    """Raises CourseError if the course cannot be put there; touches nothing."""
    if (folder / "minipeft" / "course").is_dir() or folder.resolve() == builder.ROOT:
        raise CourseError(
            f"{folder} holds minipeft itself, whose notebooks the builder writes; give a folder "
            "of your own: minipeft start minipeft-course"
        )
    for place in (folder, *(folder / kind for kind in ("notebooks", "exercises", "solutions"))):
        there = place
        while not os.path.lexists(there) and there != there.parent:
            there = there.parent
        if not there.is_dir():
            raise CourseError(f"{there} is a file; give a folder, or a name that is free")
        if not os.access(there, os.W_OK | os.X_OK):
            raise CourseError(f"{there} cannot be written; give a folder of your own")


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_file(file, lambda name: Path(name).write_bytes(text.encode()))


def start(folder: Path) -> list[Step]:
    """Writes the course to a folder, or brings it up to date; the learner's changes stay.

    Args:
        folder: made if it is missing.

    Returns:
        one step for each file of the course.

    Raises:
        CourseError: the folder is a file, cannot be written or is minipeft's own, or its manifest
            is damaged; then nothing has changed. Or the disk filled up on the way: run it again.
    """
    try:
        _refuse(folder)
        known = read_manifest(folder)
        steps = plan(folder, texts(), known)
    except OSError as error:  # a name too long, a loop of links
        raise CourseError(f"{folder} is no folder to write to: {error.strerror}") from error
    was = dict(known)
    try:
        try:
            for step in steps:
                if step.target is not None:
                    _write(folder / step.target, step.text)
                    known[step.target] = fingerprint(step.text.encode())
                known[step.path] = fingerprint(step.text.encode())
        finally:  # what has been put there is known, also when the disk is full after it
            if known != was:
                manifest = {"minipeft": __version__, "files": known}
                _write(folder / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    except OSError as error:
        raise CourseError(
            f"{folder} could not be written to ({error.strerror}); nothing of yours is lost: make "
            "room and run this again, or give another folder"
        ) from error
    return steps
