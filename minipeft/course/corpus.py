"""Wrong and right answers to exercises, written down so that tests can hold every message.

A file `tests/course/mistakes/<lesson>/<exercise id>.py` reads like this:

    @wrong("8.0 times too large: alpha where")
    def alpha_alone(self, x, base_output): ...

    @right
    def einsum(self, x, base_output): ...

    predicted = wrong("only q and v")(8_388_608)

Where the exercise asks for one method of a class, the function takes that method's place in the
solution's class; otherwise the decorated object is the answer itself.
"""

from __future__ import annotations

import runpy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .exercise import Exercise
from .lift import cell


@dataclass(frozen=True)
class Case:
    """One answer: the message it must get contains `fragment`; None means it is right."""

    answer: Any
    fragment: str | None
    name: str = ""


def wrong(fragment: str) -> Callable[[Any], Case]:
    """Marks an answer as wrong, with a part of the message that must name the mistake."""
    return lambda answer: Case(answer, fragment)


def right(answer: Any) -> Case:
    """Marks an answer as right."""
    return Case(answer, None)


def cases(file: Path) -> list[Case]:
    """The cases of one file, in order, named as in the file."""
    found = runpy.run_path(str(file))
    return [replace(c, name=name) for name, c in found.items() if isinstance(c, Case)]


def run_cell(code: str) -> dict[str, Any]:
    """The names that a notebook cell defines."""
    space: dict[str, Any] = {"__name__": "__main__"}
    # dont_inherit: this file's `from __future__` lines are not the cell's.
    exec(compile(code, "cell.py", "exec", dont_inherit=True), space)
    return space


def answer_of(exercise: Exercise, case: Case) -> Any:
    """What `check` is given for a case."""
    path = (exercise.target or "").partition(":")[2]
    if "." not in path or isinstance(case.answer, type):
        return case.answer
    answer = run_cell(cell(exercise, blank=False))[exercise.answer]
    setattr(answer, path.rpartition(".")[2], case.answer)
    return answer
