"""An exercise is one question, three hints, and a check that explains its verdict.

The exercises of a lesson stand in one file, `minipeft/course/exercises/<topic>.py`, as a list
named `EXERCISES`; an exercise's id starts with that topic: `lora.forward` is in `lora.py`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..checks.errors import MinipeftError
from ..checks.say import did_you_mean

PACKAGE = "minipeft.course.exercises"
MARKER = "your turn"  # the message of the NotImplementedError that stands in an unfilled blank


class CourseError(MinipeftError):
    """A part of the course is missing, damaged or was asked for by a wrong name."""


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    Args:
        id: `<topic>.<name>`; the topic is the name of the file it stands in.
        lesson: the lesson it belongs to, `08_lora`.
        title: a few words.
        task: what to do, Markdown, with every shape the learner needs.
        hints: a question, the formula with shapes, nearly the code.
        check: takes the learner's answer, returns what was tested (one sentence), raises
            `expect.Wrong` with the named mistake.
        target: `module:Class.method` or `module:function`; its body is blanked by the builder.
        starter: the code cell to fill, only where there is no target to blank.
        solution: the code cell filled, only where there is no target to lift.
        answer: the expression that the check cell hands over; the target's class or function
            when left out.
        live: the check measures a model: it may take seconds, and its verdict holds numbers of
            that run, so the solutions notebook's is not compared.
    """

    id: str
    lesson: str
    title: str
    task: str
    hints: tuple[str, str, str]
    check: Callable[[Any], str]
    target: str | None = None
    starter: str = ""
    solution: str = ""
    answer: str = ""
    live: bool = False

    def __post_init__(self) -> None:
        if self.target is None and not (self.starter and self.solution and self.answer):
            raise CourseError(f"{self.id}: give a target, or starter, solution and answer")
        if self.target is not None and not self.answer:
            name = self.target.partition(":")[2].partition(".")[0]
            object.__setattr__(self, "answer", name)


_added: dict[str, Exercise] = {}


def add(exercise: Exercise) -> Exercise:
    """Makes an exercise from outside the package known to `check`, until the process ends."""
    _added[exercise.id] = exercise
    return exercise


def topics() -> list[str]:
    """The names of the exercise files, sorted."""
    package = importlib.import_module(PACKAGE)
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if m.name[0] != "_")


def of_topic(topic: str) -> list[Exercise]:
    """The exercises of one file, in their order; imports that file and no other."""
    return list(importlib.import_module(f"{PACKAGE}.{topic}").EXERCISES)


def every() -> list[Exercise]:
    """All exercises, by lesson and then in the order of their file."""
    found = [e for topic in topics() for e in of_topic(topic)] + list(_added.values())
    return sorted(found, key=lambda e: e.lesson)


def find(id: str) -> Exercise:
    """The exercise with that id.

    Raises:
        CourseError: no exercise has that id; says which ids come near.
    """
    if id in _added:
        return _added[id]
    topic = id.partition(".")[0] if isinstance(id, str) else ""
    if topic in topics():
        for exercise in of_topic(topic):
            if exercise.id == id:
                return exercise
    known = [e.id for e in every()]
    guess = did_you_mean(str(id), known) or f"; the exercises are {', '.join(known)}"
    raise CourseError(f"no exercise has the id {id!r}{guess}")
