"""`python -m minipeft.lab.compare`: run the comparison, or what is missing of it, and write it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from . import RESULTS, load, versions, write
from .runs import BASE, BATCH, STEPS, Run, chosen, perform, rate_runs, table_runs


def main(
    output: Annotated[Path, typer.Option(help="the file to write, or to go on with")] = RESULTS,
    steps: Annotated[int, typer.Option(min=1, help="updates of every run")] = STEPS,
    jobs: Annotated[int, typer.Option(min=1, help="processes, one thread each")] = 2,
    anew: Annotated[bool, typer.Option("--anew", help="forget what the file holds")] = False,
    picture: Annotated[
        Path | None, typer.Option(help="draw loss against parameters into this file, PNG or SVG")
    ] = None,
) -> None:
    """Fine-tune tiny-gpt2 with every method on equal terms; about half an hour on two cores."""
    os.environ["OMP_NUM_THREADS"] = "1"  # read by the processes that are started
    results = fresh(steps) if anew or not output.is_file() else load(output)
    if results["steps"] != steps or results["versions"] != versions():
        Console().print(
            f"{output} was made with {results['versions']} and {results['steps']} steps; "
            "begin again with --anew, or give another --output",
            style="red",
        )
        raise typer.Exit(2)
    work(rate_runs(steps), results, output, jobs)
    work(table_runs(chosen(results["runs"]), steps), results, output, jobs)
    if not results["costs"]:
        from .costs import costs

        results["costs"] = costs()
    write(output, results)
    Console().print(f"{output}: {len(results['runs'])} runs, {results['minutes']:.0f} minutes")
    if picture is not None:
        from .draw import pareto

        pareto(results).savefig(picture, dpi=110)


def fresh(steps: int) -> dict[str, Any]:
    """Results without a run in them."""
    head = {"versions": versions(), "base": BASE, "steps": steps, "batch": BATCH}
    return {**head, "minutes": 0.0, "runs": [], "costs": []}


def work(runs: list[Run], results: dict[str, Any], output: Path, jobs: int) -> None:
    """Does the runs that are missing, and writes the file after each."""
    begun, before = time.perf_counter(), results["minutes"]
    for row in perform(runs, list(results["runs"]), jobs):
        results["runs"].append(row)
        results["minutes"] = round(before + (time.perf_counter() - begun) / 60, 2)
        write(output, results)
        print(
            *list(row.values())[:6], f"accuracy {row['accuracy']}, loss {row['loss']}", flush=True
        )


if __name__ == "__main__":
    typer.run(main)
