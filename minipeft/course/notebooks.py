"""From lessons and exercises to notebooks: cells, tags, ids and metadata, always the same bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import nbformat
from nbformat import NotebookNode

from .. import __version__
from . import glossary, settings
from .claims import register
from .exercise import Exercise
from .lessons import Lesson
from .lift import cell

EXACT = "nbval-check-output"  # nbval compares the stored output of cells with this tag


def setup(install: str = settings.INSTALL, version: str = __version__) -> str:
    """The first cell: installs minipeft where it is missing, and says if the kernel is not fit.

    Args:
        install: what pip is given; pip replaces no package that is new enough, torch the least.
        version: of the minipeft that writes the notebook.
    """
    return f"""\
try:
    import minipeft.course
except ImportError:  # Colab, or a fresh environment
    %pip install --quiet "{install}"
    import importlib

    importlib.invalidate_caches()  # so that this kernel sees what pip has just written
    import minipeft.course

minipeft.course.ready("{version}")"""


SETUP = setup()

INTRO = """\
Fill the body under each `# YOUR TURN`, run the cell, then run the `check` below it. It says \
*not attempted*, *right*, or *wrong* and why.

Stuck? `hint("{id}")` gives a question, then a formula, then nearly the code; \
`reveal("{id}")` shows the solution."""


ERRATA = """\
The notes the course follows were checked line by line. Below is every statement that needed it, \
by lesson: where it stands (`003:L157` is line 157 of the note whose name begins with 003), what \
it says, the verdict, what is right, and a value that the cell has just measured. A proof that no \
longer holds would stop its cell. In a terminal, `python -m minipeft.course.claims` prints the same.

Verdicts: *confirmed*; *wrong*; *partly right*, true with a condition that the note leaves out; \
*unsupported*, a number without a source, or a rule of thumb."""

TALLY = """\
from collections import Counter

from minipeft.course import claims
from minipeft.course.claims import VERDICTS, register

count = Counter(VERDICTS[row.verdict] for row in register())
tally = ", ".join(f"{n} {verdict}" for verdict, n in count.items())
print(f"{count.total()} statements: {tally}")"""


def _make(kind: str, source: str, tags: Sequence[str] = ()) -> NotebookNode:
    parts: dict[str, Any] = {"cell_type": kind, "id": "", "metadata": {}, "source": source}
    if tags:
        parts["metadata"]["tags"] = list(tags)
    if kind == "code":
        parts.update(execution_count=None, outputs=[])
    return nbformat.from_dict(parts)  # type: ignore[no-any-return, no-untyped-call]


def markdown(source: str) -> NotebookNode:
    """A Markdown cell."""
    return _make("markdown", source)


def code(source: str, tags: Sequence[str] = ()) -> NotebookNode:
    """A code cell that has not run."""
    return _make("code", source, tags)


def notebook(cells: Sequence[NotebookNode], lesson: str, kind: str) -> NotebookNode:
    """Puts cells together.

    Args:
        cells: the cells.
        lesson, kind: "08_lora" and "lesson", "exercises" or "solutions"; `minipeft grade`
            reads them back.
    """
    seen: dict[str, int] = {}
    for node in cells:
        # Ids follow from the content, so an edit changes the edited cell's id and no other.
        text = f"{node.cell_type}\n{node.source}"
        seen[text] = seen.get(text, 0) + 1
        node["id"] = hashlib.sha256(f"{text}\n{seen[text]}".encode()).hexdigest()[:12]
    metadata: dict[str, Any] = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "minipeft": {"kind": kind, "lesson": lesson},
    }
    return nbformat.from_dict(  # type: ignore[no-any-return, no-untyped-call]
        {"cells": list(cells), "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    )


def _links(lesson: Lesson, course: Sequence[Lesson], has_exercises: bool) -> str:
    at = [one.name for one in course].index(lesson.name)
    parts = []
    if at > 0:
        before = course[at - 1]
        parts.append(f"[← {before.number} {before.title}]({before.name}.ipynb)")
    if has_exercises:
        parts.append(f"[Exercises](../exercises/{lesson.name}.ipynb)")
        parts.append(f"[Solutions](../solutions/{lesson.name}.ipynb)")
    colab = settings.COLAB.format(path=f"notebooks/{lesson.name}.ipynb")
    parts.append(f"[Open in Colab]({colab})")
    parts.append(f"[Glossary]({glossary.PAGE}.ipynb)")
    if at + 1 < len(course):
        after = course[at + 1]
        parts.append(f"[{after.number} {after.title} →]({after.name}.ipynb)")
    return " · ".join(parts)


def _head(lesson: Lesson, course: Sequence[Lesson]) -> str:
    titles = {one.name: f"[{one.number} {one.title}]({one.name}.ipynb)" for one in course}
    needs = ", ".join(titles.get(name, name) for name in lesson.needs)
    lines = [f"**{lesson.minutes} minutes.**" + (f" Before it: {needs}." if needs else "")]
    if lesson.objectives:
        lines += ["", "Afterwards you can", "", *(f"- {one}" for one in lesson.objectives)]
    return "\n".join(lines)


def lesson_notebook(
    lesson: Lesson,
    course: Sequence[Lesson],
    exercises: Sequence[Exercise],
    terms: Sequence[glossary.Term] = (),
) -> NotebookNode:
    """The notebook of one lesson.

    Args:
        lesson: the lesson.
        course: all lessons in order, for the links.
        exercises: all exercises.
        terms: of the glossary; the first use of each becomes a link.
    """
    links = _links(lesson, course, any(e.lesson == lesson.name for e in exercises))
    title = f"# {lesson.number} · {lesson.title}"
    cells = [code(SETUP), markdown(f"{title}\n\n{links}\n\n{_head(lesson, course)}")]
    prose = [node for node in lesson.cells if node.cell_type == "markdown"]
    texts = iter(glossary.linked([node.source for node in prose], terms))
    for node in lesson.cells:
        if node.cell_type == "markdown":
            cells.append(markdown(next(texts)))
            continue
        tags = [EXACT if t == "exact" else t for t in node.metadata.get("tags", [])]
        cells.append(_make(node.cell_type, node.source, tags))
    more = " · [Errata](errata.ipynb)" if any(r.lesson == lesson.name for r in register()) else ""
    cells.append(markdown(f"---\n\n{links}{more}"))
    return notebook(cells, lesson.name, "lesson")


def page_notebook(cells: Sequence[NotebookNode], name: str) -> NotebookNode:
    """A page that is no lesson, "glossary"; its cells are given."""
    return notebook(cells, name, "page")


def errata_notebook(course: Sequence[Lesson]) -> NotebookNode | None:
    """The page with all rows of the register, proved anew by each run; None if there are none.

    Args:
        course: the lessons, in order; each that has rows gets a heading and its `claims` cell.
    """
    proved = {row.lesson for row in register()}
    cells = [code(SETUP), markdown(f"# Errata of the notes\n\n{ERRATA}"), code(TALLY)]
    for one in course:
        if one.name in proved:
            cells.append(markdown(f"## [{one.number} {one.title}]({one.name}.ipynb)"))
            cells.append(code(f'claims("{one.name}")'))
    return notebook(cells, "errata", "page") if len(cells) > 3 else None


def exercise_notebook(
    name: str, title: str, exercises: Sequence[Exercise], *, solved: bool, linked: bool
) -> NotebookNode:
    """The exercises of one lesson, to fill or filled.

    Args:
        name, title: the lesson's.
        exercises: the lesson's exercises, in order.
        solved: fill the blanks with the solutions; the verdicts become exact cells.
        linked: whether the lesson's notebook exists.
    """
    kind = "solutions" if solved else "exercises"
    lesson = f"[the lesson](../notebooks/{name}.ipynb)" if linked else "the lesson"
    other = "exercises" if solved else "solutions"
    links = f"Back to {lesson}; [the {other}](../{other}/{name}.ipynb)."
    text = "These are the exercises filled in." if solved else INTRO.format(id=exercises[0].id)
    cells = [
        code(SETUP),
        markdown(f"# {name[:2]} · {title}: {kind}\n\n{links}\n\n{text}"),
        code(f"from minipeft.course import check{'' if solved else ', hint, progress, reveal'}"),
    ]
    for number, e in enumerate(exercises, 1):
        cells.append(markdown(f"## {number}. {e.title}\n\n{e.task.strip()}"))
        cells.append(code(cell(e, blank=not solved)))
        cells.append(code(f'check("{e.id}", {e.answer})', [EXACT] if solved and not e.live else []))
        if not solved:
            cells.append(markdown(f'`hint("{e.id}")` · `reveal("{e.id}")`'))
    if not solved:
        cells.append(code("progress()"))
    return notebook(cells, name, kind)
