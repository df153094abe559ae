"""`minipeft start`, `progress` and `grade`, a part of the `minipeft` command."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from . import record
from .exercise import CourseError

app = typer.Typer(help="The course: what is done, and grading.", no_args_is_help=True)

START = "notebooks/00_start.ipynb"
STYLES = {"right": "green", "wrong": "red", "not attempted": "yellow", "no verdict": "red"}


SAID = {
    "written": "written",
    "updated": "updated: untouched since they were written, now the new version",
    "unchanged": "as they should be",
    "kept": "changed by you: kept",
    "beside": "changed by you: kept, with the new version beside",
}


@app.command()
def start(
    folder: Annotated[
        Path, typer.Argument(help="where your copy of the course is to be; made if missing")
    ] = Path("minipeft-course"),
) -> None:
    """Write the course's notebooks to a folder of yours, or bring them up to date.

    What you have changed stays as it is. The exit status is 2 if the folder cannot be used.
    """
    try:
        from .start import start as run
    except ImportError as error:
        _needs_packages("start", error)
    folder = folder.expanduser()
    try:
        steps = run(folder)
    except CourseError as error:
        _refused(error)
    table = Table(show_header=False)
    table.add_column(justify="right")
    for state, words in SAID.items():
        if number := sum(step.state == state for step in steps):
            table.add_row(str(number), words)
    typer.echo(f"The course's notebooks in {folder}")
    Console().print(table)
    for step in steps:
        if step.state == "beside":
            typer.echo(f"{step.path} is yours; the new version is {step.target}")
    if any(step.state == "beside" for step in steps):
        typer.echo("Take over what you want from a new version, then delete it.")
    typer.echo(f"Open it: jupyter lab {shlex.quote(str(folder / START))}")


def _needs_packages(command: str, error: ImportError) -> NoReturn:
    typer.echo(
        f"minipeft {command} needs the course's packages: pip install 'minipeft[course]' ({error})",
        err=True,
    )
    raise typer.Exit(2) from None


def _refused(error: CourseError) -> NoReturn:
    typer.echo(f"minipeft: {error}", err=True)
    raise typer.Exit(2) from None


@app.command()
def progress() -> None:
    """Show which exercises are done."""
    table = Table(title="minipeft: exercises")
    for name in ("lesson", "", "done", "exercises"):
        table.add_column(name)
    for lesson, rows in record.rows():
        done = sum(d for _, d, _ in rows)
        ids = Text(", ").join(Text(id, style="green" if d else "dim") for id, d, _ in rows)
        table.add_row(lesson, record.bar(done, len(rows)), f"{done}/{len(rows)}", ids)
    Console().print(table)


@app.command()
def grade(
    notebook: Annotated[Path, typer.Argument(help="a filled notebook, exercises/08_lora.ipynb")],
    timeout: Annotated[int, typer.Option(help="seconds per cell", min=1)] = 60,
) -> None:
    """Run a filled notebook and say which exercises are right.

    The exit status is 0 if all are right, 1 if not, 2 if the file cannot be graded.
    """
    try:
        from .grade import grade as run
    except ImportError as error:
        _needs_packages("grade", error)
    try:
        grades = run(notebook, timeout)
    except CourseError as error:
        _refused(error)
    table = Table(title=notebook.name, show_lines=True)
    for name in ("exercise", "verdict", "why"):
        table.add_column(name)
    for one in grades:
        style = STYLES.get(one.status, "")
        table.add_row(one.id, Text(one.status, style=style), Text(one.message))
    right = sum(one.status == "right" for one in grades)
    console = Console()
    console.print(table)
    console.print(f"{right} of {len(grades)} right")
    raise typer.Exit(0 if right == len(grades) else 1)


if __name__ == "__main__":
    app()
