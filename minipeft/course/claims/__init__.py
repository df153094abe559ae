"""The register of claims: what the lecture notes say, what is right, and a proof that runs.

`claims.md` beside this package is the table people read. Each row has a proof with the same id in
`minipeft/course/proofs/`, which computes the right value and raises if it does not hold.
"""

from __future__ import annotations

import functools
import html
import importlib
import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..exercise import CourseError
from ..verdict import publish

REGISTER = Path(__file__).parents[1] / "claims.md"
COLUMNS = ("id", "note", "claim", "verdict", "right value", "lesson")
VERDICTS = {"OK": "confirmed", "WRONG": "wrong", "PART": "partly right", "UNS": "unsupported"}

Proof = Callable[[], str]
PROOFS: dict[str, Proof] = {}


@dataclass(frozen=True)
class Claim:
    """One row: where it stands (`003:L157`), what it says, and what is right."""

    id: str
    note: str
    claim: str
    verdict: str
    right: str
    lesson: str


def proves(id: str) -> Callable[[Proof], Proof]:
    """Registers a proof: a function without arguments that returns the measured value as text.

    Raises:
        CourseError: the id has a proof already.
    """

    def add(proof: Proof) -> Proof:
        if id in PROOFS:
            raise CourseError(f"there are two proofs of {id!r}")
        PROOFS[id] = proof
        return proof

    return add


def hold(condition: object, message: str) -> None:
    """Nothing if `condition` holds.

    Raises:
        CourseError: with `message`; the register and the measurement disagree.
    """
    if not condition:
        raise CourseError(message)


def parse(text: str, source: str = "claims.md") -> list[Claim]:
    """The rows of a Markdown table with the columns of the register; other lines are prose.

    Raises:
        CourseError: a row has too few cells, an unknown verdict, or an id used before.
    """
    rows: list[Claim] = []
    for at, line in enumerate(text.splitlines(), 1):
        if not line.startswith("|"):
            continue
        cells = [c.strip().replace(r"\|", "|") for c in re.split(r"(?<!\\)\|", line)[1:-1]]
        if tuple(cells) == COLUMNS or all(re.fullmatch(r":?-+:?", c) for c in cells):
            continue
        if len(cells) != len(COLUMNS) or not all(cells):
            raise CourseError(f"{source}:{at}: a row has the cells {', '.join(COLUMNS)}")
        row = Claim(*cells)
        if row.verdict not in VERDICTS:
            raise CourseError(f"{source}:{at}: {row.verdict!r} is none of {', '.join(VERDICTS)}")
        if row.id in {r.id for r in rows}:
            raise CourseError(f"{source}:{at}: the id {row.id!r} was used before")
        rows.append(row)
    return rows


def register() -> list[Claim]:
    """All rows of the register, in its order."""
    return parse(REGISTER.read_text(encoding="utf-8"))


@functools.cache
def proofs() -> dict[str, Proof]:
    """All proofs by id; imports every file of `minipeft/course/proofs`."""
    package = importlib.import_module("minipeft.course.proofs")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return PROOFS


def measure(row: Claim) -> str:
    """Runs the proof of one row.

    Returns:
        the measured value.

    Raises:
        CourseError: there is no proof, or it does not hold.
    """
    if row.id not in proofs():
        raise CourseError(f"the claim {row.id!r} has no proof in minipeft/course/proofs")
    return proofs()[row.id]()


def claims(lesson: str | None = None) -> None:
    """Shows a lesson's rows of the register, each with the value measured now.

    Args:
        lesson: "08_lora"; left out, all lessons.

    Raises:
        CourseError: the register has no rows for the lesson, or a proof does not hold.
    """
    rows = [row for row in register() if lesson in (None, row.lesson)]
    if not rows:
        known = ", ".join(sorted({row.lesson for row in register()}))
        raise CourseError(f"no claim belongs to {lesson!r}; lessons with claims: {known}")
    lines, cells = [], []
    for row in rows:
        value = measure(row)
        lines.append(
            f"{row.verdict:5} {row.note}: {row.claim}\n"
            f"      right: {row.right}\n      measured: {value}"
        )
        style = ' style="text-align: left"'
        shown = (row.note, row.claim, VERDICTS[row.verdict], row.right, value)
        cells.append("".join(f"<td{style}>{html.escape(text)}</td>" for text in shown))
    names = ("note", "it says", "verdict", "right", "measured now")
    head = "".join(f"<th{style}>{name}</th>" for name in names)
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    table = f"<table><tr>{head}</tr>{body}</table>"
    publish({"text/plain": "\n".join(lines), "text/html": table})
