"""check(), hint() and reveal(): what a learner calls."""

from __future__ import annotations

import inspect
import sys
from types import CodeType, FrameType
from typing import Any

import torch

from . import record
from .blame import explain, signature_of
from .exercise import MARKER, CourseError, Exercise, find
from .expect import Wrong, describe
from .lift import cell, resolve
from .verdict import Verdict, card, publish, to_html

HELP = "`hint({id!r})` helps you start"


class _Borrowed(Exception):
    """The package's own function ran where the learner's was asked for."""


def _code(exercise: Exercise) -> CodeType | None:
    """The code object of the package's own answer."""
    if exercise.target is None:
        return None
    own = resolve(exercise.target)
    own = getattr(own, "__func__", getattr(own, "fget", own))
    own = inspect.unwrap(own)  # `torch.no_grad()` around all functions is the same code
    return getattr(own, "__code__", None)


def _watch(code: CodeType | None) -> Any:
    """A profile function that stops the package's own code from running."""

    def watch(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code is code:
            raise _Borrowed

    return watch if code is not None else None


def _kind(exercise: Exercise, answer: Any) -> None:
    """Raises Wrong if a class was asked for and something else came, or the other way round."""
    if exercise.target is None:
        return
    wanted = exercise.answer
    if "." in exercise.target.partition(":")[2] and not isinstance(answer, type):
        raise Wrong(
            f"hand over the class itself: `check({exercise.id!r}, {wanted})`; "
            f"this is {describe(answer)}"
        )
    if "." not in exercise.target.partition(":")[2] and not callable(answer):
        raise Wrong(
            f"hand over the function itself, without calling it: "
            f"`check({exercise.id!r}, {wanted})`; this is {describe(answer)}"
        )


def _judge(exercise: Exercise, answer: Any) -> Verdict:
    """The verdict; no exception leaves, whatever the answer does."""
    ahead = HELP.format(id=exercise.id)
    if answer is None or answer is ...:
        return Verdict(exercise.id, "not attempted", f"there is no answer yet; {ahead}")
    before = sys.getprofile()
    signature = exercise.answer
    try:
        _kind(exercise, answer)
        if exercise.target is not None:
            signature = signature_of(resolve(exercise.target), exercise.answer)
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(0)
            sys.setprofile(_watch(_code(exercise)))
            try:
                tested = exercise.check(answer)
            finally:
                sys.setprofile(before)
        return Verdict(exercise.id, "right", f"tested: {tested}")
    except _Borrowed:
        message = f"that is the package's own `{exercise.answer}`, at least in part; write yours"
        return Verdict(exercise.id, "wrong", message)
    except Wrong as error:
        return Verdict(exercise.id, "wrong", str(error))
    except NotImplementedError as error:
        if str(error) == MARKER:
            message = f'the line `raise NotImplementedError("{MARKER}")` still stands; {ahead}'
            return Verdict(exercise.id, "not attempted", message)
        return Verdict(exercise.id, "wrong", explain(error, signature))
    except (Exception, SystemExit) as error:
        return Verdict(exercise.id, "wrong", explain(error, signature))


def check(id: str, answer: Any) -> Verdict:
    """Says whether an answer is right, and if not, why.

    Args:
        id: the exercise, "lora.forward".
        answer: what the exercise asks for: a class, a function, a number or a word.

    Returns:
        the verdict, already shown: not attempted, right, or wrong.

    Raises:
        CourseError: there is no exercise with that id.
    """
    exercise = find(id)
    verdict = _judge(exercise, answer)
    record.note(exercise.id, verdict.status)
    verdict.show()
    return verdict


_given: dict[str, int] = {}


def hint(id: str, level: int | None = None) -> None:
    """Shows a hint: a question, then the formula with shapes, then nearly the code.

    Args:
        id: the exercise.
        level: 1, 2 or 3; left out, one further than the last time.

    Raises:
        CourseError: there is no such exercise or no such hint.
    """
    exercise = find(id)
    last = len(exercise.hints)
    if level is None:
        level = min(_given.get(id, 0) + 1, last)
    if not isinstance(level, int) or not 1 <= level <= last:
        raise CourseError(f"hints are numbered 1 to {last}, got {level!r}")
    _given[id] = max(level, _given.get(id, 0))
    text = exercise.hints[level - 1]
    more = f"`reveal({id!r})` shows the solution" if level == last else f"`hint({id!r})` says more"
    head = f"hint {level} of {last}: {id}"
    body = card(head, f"{to_html(text)}<br><small>{to_html(more)}</small>", "#2874a6")
    publish({"text/plain": f"{head}\n{text}\n({more})", "text/html": body})


def reveal(id: str) -> None:
    """Shows the solution, lifted from the package as it stands now.

    Raises:
        CourseError: there is no exercise with that id.
    """
    from .display import source_bundle

    exercise = find(id)
    publish(source_bundle(cell(exercise, blank=False), f"solution: {id}"))
