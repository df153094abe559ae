"""Writes notebooks/, exercises/ and solutions/ from the lessons and the package.

    python -m minipeft.course.builder              all lessons, outputs of unchanged cells kept;
                                                   a changed first cell alone is executed
    python -m minipeft.course.builder 08 09        these lessons
    python -m minipeft.course.builder --execute 08 run them and store what they print
    python -m minipeft.course.builder errata       the page of all claims, likewise
    python -m minipeft.course.builder --check      exit 1 and name the files that differ

`notebooks/` and `solutions/` are executed; `exercises/` are stored without outputs.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from ..checks.errors import MinipeftError
from . import glossary, lessons
from .execute import run
from .exercise import CourseError, Exercise, every
from .notebooks import (
    EXACT,
    SETUP,
    code,
    errata_notebook,
    exercise_notebook,
    lesson_notebook,
    markdown,
    notebook,
    page_notebook,
)

ROOT = Path(__file__).parents[2]


def build(
    folder: Path = lessons.LESSONS, exercises: Sequence[Exercise] | None = None
) -> dict[str, NotebookNode]:
    """All notebooks as they should be, without outputs, by path below the root.

    Args:
        folder: where the lessons are.
        exercises: all exercises; the package's when left out.
    """
    course = lessons.read_all(folder)
    exercises = every() if exercises is None else exercises
    titles = {one.name: one.title for one in course}
    terms = glossary.terms()
    out = {
        f"notebooks/{one.name}.ipynb": lesson_notebook(one, course, exercises, terms)
        for one in course
    }
    glossed = glossary.page([(one.name, one.title) for one in course], terms)
    page = page_notebook([markdown(text) for text in glossed], glossary.PAGE)
    out[f"notebooks/{glossary.PAGE}.ipynb"] = page
    errata = errata_notebook(course)
    if errata is not None:
        out["notebooks/errata.ipynb"] = errata
    for name in dict.fromkeys(e.lesson for e in exercises):
        mine = [e for e in exercises if e.lesson == name]
        title = titles.get(name, name[3:])
        for kind in ("exercises", "solutions"):
            out[f"{kind}/{name}.ipynb"] = exercise_notebook(
                name, title, mine, solved=kind == "solutions", linked=name in titles
            )
    return out


def _key(cell: NotebookNode) -> tuple[str, str, str]:
    return cell.cell_type, cell.source, str(sorted(cell.metadata.get("tags", [])))


def keep_outputs(new: NotebookNode, old: NotebookNode) -> None:
    """Takes over the outputs of code cells whose source has not changed."""
    stored: dict[str, list[NotebookNode]] = {}
    for cell in old.cells:
        if cell.cell_type == "code":
            stored.setdefault(cell.source, []).append(cell)
    for cell in new.cells:
        if cell.cell_type == "code" and stored.get(cell.source):
            before = stored[cell.source].pop(0)
            cell.outputs, cell.execution_count = before.outputs, before.execution_count


def differences(path: str, new: NotebookNode, file: Path) -> list[str]:
    """What is different in a stored notebook, outputs aside; empty if nothing is."""
    if not file.exists():
        return [f"{path}: missing"]
    try:
        old = nbformat.read(file, as_version=4)  # type: ignore[no-untyped-call]
        return _compare(path, new, old)
    except Exception as error:  # whatever is in the file, it is not what the builder writes
        return [f"{path}: not a notebook ({type(error).__name__})"]


def _compare(path: str, new: NotebookNode, old: NotebookNode) -> list[str]:
    found = []
    for part in ("metadata", "nbformat", "nbformat_minor"):
        if old[part] != new[part]:
            found.append(f"{path}: {part} differs")
    was, now = [_key(c) for c in old.cells], [_key(c) for c in new.cells]
    for op, a, b, c, d in difflib.SequenceMatcher(a=was, b=now, autojunk=False).get_opcodes():
        if op != "equal":
            found.append(f"{path}: cells {a + 1} to {b} are stored, {c + 1} to {d} are built")
    shape = [(c.get("id"), c.metadata) for c in old.cells]
    if not found and shape != [(c["id"], c.metadata) for c in new.cells]:
        found.append(f"{path}: cell ids or metadata differ")
    for at, cell in enumerate(old.cells, 1):
        tags = cell.metadata.get("tags", [])
        if EXACT in tags and cell.cell_type == "code" and cell.execution_count is None:
            # nbval skips the comparison of such a cell without a word.
            found.append(f"{path}: exact cell {at} was never executed; run the builder --execute")
    return found


def orphans(root: Path, built: Sequence[str]) -> list[str]:
    """Notebooks in the three folders that no lesson, exercise or page accounts for."""
    there = [f for kind in ("notebooks", "exercises", "solutions") for f in root.glob(f"{kind}/*")]
    paths = sorted(f.relative_to(root).as_posix() for f in there if f.suffix == ".ipynb")
    return [f"{path}: belongs to no lesson" for path in paths if path not in built]


def text(notebook: NotebookNode) -> str:
    """A notebook as it is stored."""
    nbformat.validate(notebook)
    stored: str = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
    return stored.rstrip("\n") + "\n"


def _has_run(notebook: NotebookNode) -> bool:
    return any(cell.get("execution_count") for cell in notebook.cells)


@cache
def _setup_cell() -> NotebookNode:
    """The first cell of every notebook, executed once."""
    alone = notebook([code(SETUP)], "", "setup")
    run(alone)
    return nbformat.from_dict(alone.cells[0])  # type: ignore[no-any-return, no-untyped-call]


def write(path: str, new: NotebookNode, root: Path, execute: bool, timeout: int) -> None:
    """Writes one notebook, executed if asked for."""
    file = root / path
    if execute and not path.startswith("exercises/"):
        run(new, timeout)
    elif file.exists() and not path.startswith("exercises/"):
        try:
            keep_outputs(new, nbformat.read(file, as_version=4))  # type: ignore[no-untyped-call]
        except Exception:  # a damaged notebook has no outputs to keep
            print(f"{path}: the stored file cannot be read and is written anew", file=sys.stderr)
        else:
            first = new.cells[0]
            if first.source == SETUP and not first.outputs and _has_run(new):
                first.outputs, first.execution_count = _setup_cell().outputs, 1
    stored = text(new)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(stored, encoding="utf-8")
    print(f"wrote {path}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser("python -m minipeft.course.builder", description=__doc__)
    parser.add_argument("lessons", nargs="*", help="08, 08_lora or errata; all when left out")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument("--execute", action="store_true", help="run them, store the outputs")
    parser.add_argument("--timeout", type=int, default=300, help="seconds per cell")
    parser.add_argument("--root", type=Path, default=ROOT, help="where the three folders are")
    parser.add_argument("--from", dest="folder", type=Path, default=lessons.LESSONS)
    given = parser.parse_args(arguments)
    try:
        built = build(given.folder)
        wanted = {p: n for p, n in built.items() if _wanted(p, given.lessons)}
        if not wanted:
            raise CourseError(f"no lesson is named {', '.join(given.lessons) or 'anything'}")
        if given.check:
            found = [d for p, n in wanted.items() for d in differences(p, n, given.root / p)]
            found += orphans(given.root, list(built))
            print("\n".join(found) or f"{len(wanted)} notebooks are what the builder writes")
            return 1 if found else 0
    except MinipeftError as error:
        print(error, file=sys.stderr)
        return 1
    failed = False
    for path, new in wanted.items():
        try:
            write(path, new, given.root, given.execute, given.timeout)
        except CourseError as error:  # the others can still be written
            print(f"{path} does not run: {error}", file=sys.stderr)
            failed = True
    return int(failed)


def _wanted(path: str, names: Sequence[str]) -> bool:
    stem = Path(path).stem
    return not names or any(stem == n or stem.startswith(f"{n}_") for n in names)


if __name__ == "__main__":
    raise SystemExit(main())
