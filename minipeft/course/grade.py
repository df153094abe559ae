"""`minipeft grade`: runs a filled exercises notebook from top to bottom and reads its verdicts.

The notebook runs in an empty folder with a progress file of its own, so grading neither reads nor
changes what the learner has done. It runs the notebook's code: grade strangers' work in a sandbox.
"""

from __future__ import annotations

import copy
import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from .execute import client
from .exercise import CourseError, every
from .verdict import MIME


@dataclass(frozen=True)
class Grade:
    """One exercise of a graded notebook: a verdict's status, or "no verdict", and the message."""

    id: str
    status: str
    message: str


def read(file: Path) -> NotebookNode:
    """Reads a notebook.

    Raises:
        CourseError: there is no such file, or it is no notebook.
    """
    if not file.is_file():
        raise CourseError(f"there is no file {file}")
    try:
        text = file.read_text(encoding="utf-8")
        if not isinstance(json.loads(text).get("cells"), list):
            raise ValueError("it has no cells")
        notebook: NotebookNode = nbformat.reads(text, as_version=4)  # type: ignore[no-untyped-call]
        nbformat.validate(notebook)
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise CourseError(f"{file} is not a notebook: {_first_line(error)}") from error
    except nbformat.ValidationError as error:
        raise CourseError(f"{file} is not a valid notebook: {_first_line(error)}") from error
    return notebook


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def expected(notebook: NotebookNode) -> list[str]:
    """The ids a notebook must answer: its lesson's, else those its check cells name.

    Raises:
        CourseError: the notebook belongs to no lesson and checks nothing.
    """
    lesson = dict(notebook.metadata).get("minipeft", {}).get("lesson")
    known = every()
    ids = [e.id for e in known if e.lesson == lesson]
    if not ids:
        code = "\n".join(c.source for c in notebook.cells if c.cell_type == "code")
        named = re.findall(r"""^\s*check\(\s*["']([^"']+)["']""", code, re.MULTILINE)
        ids = [id for id in dict.fromkeys(named) if id in {e.id for e in known}]
    if not ids:
        raise CourseError("the notebook holds no exercise: no cell calls check() with a known id")
    return ids


def _checks(source: str, id: str) -> bool:
    return re.search(rf"""\bcheck\(\s*["']{re.escape(id)}["']""", source) is not None


def _error(cell: Any) -> str:
    """The error that stopped a cell, in one line, or nothing."""
    for output in cell.get("outputs", []):
        if output.output_type == "error":
            return f"{output.ename}: {output.evalue}".splitlines()[0]
    return ""


def grade(file: Path, timeout: int = 60) -> list[Grade]:
    """Runs and grades one notebook.

    Args:
        file: the notebook; it is not changed.
        timeout: seconds per cell.

    Returns:
        one grade for each exercise of the notebook's lesson, in order.

    Raises:
        CourseError: the file is missing, no notebook, or without exercises.
    """
    notebook = read(file)
    ids = expected(notebook)
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":  # a verdict stored in the file counts for nothing
            cell.outputs, cell.execution_count = [], None
    stopped = ""
    kept = os.environ.get("MINIPEFT_HOME")
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as home:
        os.environ["MINIPEFT_HOME"] = home
        try:
            client(notebook, folder, timeout, allow_errors=True).execute()
        except CellTimeoutError:
            stopped = f"a cell took longer than {timeout} s; the cells after it did not run"
        except DeadKernelError:
            stopped = "Python stopped while the notebook ran"
        finally:
            os.environ.pop("MINIPEFT_HOME")
            if kept is not None:
                os.environ["MINIPEFT_HOME"] = kept
    return [_grade(id, notebook, stopped) for id in ids]


def _grade(id: str, notebook: NotebookNode, stopped: str) -> Grade:
    found, error, before = None, "", ""
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        for output in cell.outputs:
            data = output.get("data", {}).get(MIME)
            if isinstance(data, dict) and data.get("id") == id:
                found = Grade(id, str(data.get("status")), str(data.get("message")))
        if _checks(cell.source, id):
            # An error in the cell to fill explains the one in the check below it.
            error = before or _error(cell)
        before = _error(cell)
    if found is not None and not error:
        return found
    if error:  # the answer's own cell failed: what was checked is not what it defines
        return Grade(id, "wrong", f"the cell stops with {error}")
    return Grade(id, "no verdict", stopped or f'no cell calls check("{id}", ...)')
