"""What is done, in one small file on the learner's own machine; nothing is sent anywhere.

The file is `progress.json` in `$MINIPEFT_HOME`, else in `$XDG_DATA_HOME/minipeft`, else in
`~/.local/share/minipeft`. Losing it costs a row of ticks; so nothing here ever stops a check.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from .verdict import Status, publish, to_html

State = dict[str, dict[str, Any]]


def home() -> Path:
    """The folder of the progress file."""
    if os.environ.get("MINIPEFT_HOME"):
        return Path(os.environ["MINIPEFT_HOME"]).expanduser()
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "minipeft"


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _set_aside(path: Path) -> None:
    """Renames a damaged file, so that it is kept and out of the way."""
    number = 1
    while (aside := path.with_name(f"{path.stem}.damaged-{number}{path.suffix}")).exists():
        number += 1
    try:
        path.rename(aside)
        _say(f"the progress file was damaged; it is kept as {aside.name}, a new one is begun")
    except OSError:
        _say(f"the progress file {path.name} is damaged and cannot be moved")


def load() -> State:
    """Exercise id -> {"done": bool, "tries": int}; empty if there is no file or no reading it.

    A damaged file is reported and set aside.
    """
    path = home() / "progress.json"
    try:
        state = json.loads(path.read_text(encoding="utf-8"))["exercises"]
        good = isinstance(state, dict) and all(
            isinstance(v, dict) and isinstance(v.get("tries", 0), int) for v in state.values()
        )
        if not good:
            raise ValueError("not a table of exercises")
    except OSError:  # not there yet, or not readable
        return {}
    except (ValueError, KeyError, TypeError, RecursionError):
        _set_aside(path)
        return {}
    return dict(state)


def save(state: State) -> bool:
    """Writes the file in one step, so that a crash leaves the old one; False if it cannot."""
    folder = home()
    text = json.dumps({"version": 1, "exercises": state}, indent=1, sort_keys=True) + "\n"
    name = ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=folder, suffix=".tmp", delete=False, encoding="utf-8"
        ) as file:
            name = file.name
            file.write(text)
        os.replace(name, folder / "progress.json")
    except OSError:  # a read-only home, a full disk
        if name:
            with contextlib.suppress(OSError):
                os.unlink(name)
        return False
    return True


def note(id: str, status: Status) -> None:
    """Records one verdict; an exercise once right stays done."""
    if status == "not attempted":
        return
    state = load()
    old = state.get(id, {})
    tries = int(old.get("tries", 0)) + (not old.get("done", False))
    state[id] = {"done": bool(old.get("done")) or status == "right", "tries": tries}
    save(state)


def rows() -> list[tuple[str, list[tuple[str, bool, int]]]]:
    """Lesson -> [(exercise id, done, tries)], for the exercises that exist."""
    from .exercise import every

    state = load()  # ids that no exercise has any more are kept in the file and not shown
    table: dict[str, list[tuple[str, bool, int]]] = {}
    for e in every():
        entry = state.get(e.id, {})
        row = (e.id, bool(entry.get("done")), int(entry.get("tries", 0)))
        table.setdefault(e.lesson, []).append(row)
    return list(table.items())


def bar(done: int, of: int, width: int = 10) -> str:
    """`#####.....` for half."""
    full = done * width // of if of else 0
    return "#" * full + "." * (width - full)


def progress() -> None:
    """Shows what is done, lesson by lesson."""
    lines, cells = [], []
    for lesson, exercises in rows():
        done = sum(d for _, d, _ in exercises)
        marks = ", ".join(f"{'x' if d else '-'} {id}" for id, d, _ in exercises)
        lines.append(f"{lesson:24} {bar(done, len(exercises))} {done}/{len(exercises)}  {marks}")
        meter = f'<progress value="{done}" max="{len(exercises)}"></progress>'
        ids = ", ".join(f"<b>{to_html(i)}</b>" if d else to_html(i) for i, d, _ in exercises)
        cells.append(
            f'<tr><td style="text-align: left">{to_html(lesson)}</td><td>{meter}</td>'
            f'<td>{done}/{len(exercises)}</td><td style="text-align: left">{ids}</td></tr>'
        )
    head = "<tr><th>lesson</th><th></th><th></th><th>exercises (done: bold)</th></tr>"
    publish(
        {
            "text/plain": "\n".join(lines) or "there are no exercises",
            "text/html": f"<table>{head}{''.join(cells)}</table>",
        }
    )
