"""`minipeft progress` and `minipeft grade`, a part of the `minipeft` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from . import record
from .exercise import CourseError

app = typer.Typer(help="The course: what is done, and grading.", no_args_is_help=True)

STYLES = {"right": "green", "wrong": "red", "not attempted": "yellow", "no verdict": "red"}


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
        typer.echo(f"grading needs the course's packages: pip install 'minipeft[course]' ({error})")
        raise typer.Exit(2) from None
    try:
        grades = run(notebook, timeout)
    except CourseError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
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
