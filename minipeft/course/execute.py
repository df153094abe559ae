"""Runs a notebook in a fresh, empty folder, and cleans what it printed of this machine's paths."""

from __future__ import annotations

import copy
import os
import re
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from .exercise import CourseError


def client(notebook: NotebookNode, folder: str, timeout: int, **options: Any) -> NotebookClient:
    """A client that runs `notebook` in `folder` with the python3 kernel."""
    return NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        coalesce_streams=True,  # a progress bar shows its end, not each of its steps
        store_widget_state=False,
        record_timing=False,
        extra_arguments=["--log-level=40"],  # errors; not that the kernel listens on this machine
        resources={"metadata": {"path": folder}},
        **options,
    )


def run(notebook: NotebookNode, timeout: int = 300) -> None:
    """Executes a notebook in place.

    Args:
        notebook: gets outputs and execution counts.
        timeout: seconds per cell.

    Raises:
        CourseError: a cell raises or takes too long; the message holds the error and the cell.
    """
    kept = os.environ.get("MINIPEFT_HOME")
    metadata = copy.deepcopy(notebook.metadata)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as home:
        os.environ["MINIPEFT_HOME"] = home  # building is not learning: no progress is recorded
        try:
            client(notebook, folder, timeout).execute()
        except CellExecutionError as error:
            raise CourseError(f"{error.ename}: {error.evalue}\n{_failed(notebook)}") from error
        except (CellTimeoutError, DeadKernelError) as error:
            raise CourseError(str(error)) from error
        finally:
            if kept is None:
                del os.environ["MINIPEFT_HOME"]
            else:
                os.environ["MINIPEFT_HOME"] = kept
        notebook.metadata = metadata  # the kernel adds its exact Python version
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.metadata.pop("execution", None)
                for output in cell.outputs:
                    _clean(output, {folder: ".", home: "."})


def _failed(notebook: NotebookNode) -> str:
    """The source of the cell that raised, indented."""
    for cell in notebook.cells:
        if any(o.output_type == "error" for o in cell.get("outputs", [])):
            return textwrap.indent(cell.source, "    ")
    return ""


def _clean(output: NotebookNode, folders: dict[str, str]) -> None:
    """Takes this machine's folders out of an output's text."""
    folders = {**folders, str(Path(__file__).parents[2]): "", sys.prefix: "<python>"}
    folders[str(Path.home())] = "~"

    def clean(text: str) -> str:
        for folder, name in folders.items():
            text = text.replace(folder + os.sep, name + os.sep if name else "")
        return re.sub(r"\S*ipykernel_\d+/\d+\.py", "<cell>", text)

    # A stored widget without its state shows as an error; its text/plain stays.
    output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    if "text" in output:
        output["text"] = clean(output["text"])
    for kind, value in output.get("data", {}).items():
        if isinstance(value, str) and kind.startswith("text/"):
            output["data"][kind] = clean(value)
