"""A lesson's source: a small YAML header, then jupytext Markdown.

It reads like this:

    ---
    title: LoRA
    minutes: 60
    needs: [02_inside]
    objectives:
      - derive the update and count its parameters
    ---
    Prose.

    ```python tags=["exact"]
    print(294_912)
    ```
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jupytext
import yaml  # type: ignore[import-untyped]
from nbformat import NotebookNode

from .exercise import CourseError

LESSONS = Path(__file__).parent / "lessons"
KEYS = {"title", "minutes", "needs", "objectives"}
NAME = re.compile(r"\d\d_[a-z0-9_]+")


@dataclass(frozen=True)
class Lesson:
    """A lesson as written: its header's fields and its cells."""

    name: str
    title: str
    minutes: int = 0
    needs: tuple[str, ...] = ()
    objectives: tuple[str, ...] = ()
    cells: list[NotebookNode] = field(default_factory=list)

    @property
    def number(self) -> str:
        """The two digits in front."""
        return self.name[:2]


def _header(file: Path, text: str) -> tuple[dict[str, Any], str]:
    match = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    if match is None:
        raise CourseError(f"{file.name}: a lesson begins with a YAML header between --- lines")
    try:
        header = yaml.safe_load(match[1])
    except yaml.YAMLError as error:
        raise CourseError(f"{file.name}: the header is no YAML: {error}") from error
    missing = KEYS - set(header if isinstance(header, dict) else ())
    unknown = set(header if isinstance(header, dict) else ()) - KEYS
    if missing or unknown:
        raise CourseError(
            f"{file.name}: the header has title, minutes, needs and objectives; "
            f"missing {sorted(missing)}, unknown {sorted(unknown)}"
        )
    return header, text[match.end() :]


def read(file: Path) -> Lesson:
    """Reads one lesson.

    Raises:
        CourseError: the file's name, its header or its fences are not those of a lesson.
    """
    if not NAME.fullmatch(file.stem):
        raise CourseError(f"{file.name}: a lesson's file is named like 08_lora.md")
    header, body = _header(file, file.read_text(encoding="utf-8"))
    cells = jupytext.reads(body, fmt="md").cells
    if len(re.findall(r"^```", body, re.MULTILINE)) % 2:
        raise CourseError(f"{file.name}: a ``` fence is not closed")
    return Lesson(
        name=file.stem,
        title=str(header["title"]),
        minutes=int(header["minutes"]),
        needs=tuple(header["needs"] or ()),
        objectives=tuple(header["objectives"] or ()),
        cells=cells,
    )


def read_all(folder: Path = LESSONS) -> list[Lesson]:
    """All lessons of a folder, in order; README.md and other files are skipped."""
    return [read(f) for f in sorted(folder.glob("*.md")) if f.stem[:2].isdigit()]
