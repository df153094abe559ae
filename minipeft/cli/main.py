"""The `minipeft` command: train, look at and use adapters, count, and do the course."""

from __future__ import annotations

import importlib.util
import sys
from typing import Annotated, Any

from ..checks.errors import CheckpointError, ConfigError, MinipeftError
from ..checks.say import did_you_mean, listed

try:
    import typer
    from rich.console import Console
    from rich.table import Table
except ModuleNotFoundError as missing:  # the command line is part of the course extra
    sys.exit(f"minipeft needs {missing.name} here; install it: pip install 'minipeft[course]'")

from ..course.commands import app as course_app
from . import adapters
from . import train as train_command
from .train import pairs, plain

app = typer.Typer(no_args_is_help=True, add_completion=False)


def versions(asked: bool) -> None:
    """Print the versions, and end."""
    if asked:
        from importlib.metadata import version

        packages = ("minipeft", "torch", "transformers", "peft")
        typer.echo(", ".join(f"{name} {version(name)}" for name in packages if installed(name)))
        raise typer.Exit


def installed(name: str) -> bool:
    """Whether a package is there."""
    return importlib.util.find_spec(name) is not None


@app.callback(help=__doc__)
def options(
    version: Annotated[
        bool, typer.Option("--version", help="print versions", callback=versions, is_eager=True)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="show where in the code an error came from")
    ] = False,
) -> None:
    """What stands before a command's name; `main` reads --debug."""


train_command.add_to(app)
app.add_typer(adapters.app)
app.add_typer(course_app)


@app.command()
def count(
    model: Annotated[
        str | None, typer.Argument(help="gpt2, bloom-560m, llama-2-7b, ...: known by its shapes")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="or any model: a folder with its config.json, or a name on the hub"),
    ] = None,
    method: Annotated[str, typer.Option(help="lora, ia3, bitfit, prefix_tuning, ...")] = "lora",
    r: Annotated[int | None, typer.Option(help="LoRA's rank")] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="layers to adapt, once for each; default: the architecture's"),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(help="another option of the method's config, as name=value"),
    ] = None,
) -> None:
    """Count what a method trains on a real model, from its shapes alone."""
    from ..lab.counting import count as count_parameters
    from ..methods.method import REGISTRY
    from .models import skeleton

    if (model is None) == (base is None):
        raise ConfigError(
            "count needs one model: a known name (minipeft count gpt2), or --base FOLDER"
        )

    if method.upper() not in REGISTRY:
        near = did_you_mean(method.upper(), REGISTRY).lower()
        raise ConfigError(
            f"no method {method!r}{near or ';'} there are {listed(REGISTRY, 20).lower()}"
        )
    options: dict[str, Any] = {} if r is None else {"r": r}
    if target:
        options["target_modules"] = "all-linear" if target == ["all-linear"] else target
    options |= pairs("option", option or [], plain)
    config = REGISTRY[method.upper()][0](**options)
    chosen: Any = model if base is None else skeleton(base, config)
    typer.echo(count_parameters(chosen, config))


@app.command()
def demo(
    model: Annotated[str, typer.Option(help="tiny-gpt2, tiny-bloom, a folder or a name")] = (
        "tiny-gpt2"
    ),
    task: Annotated[str, typer.Option(help="mood, opposite, where")] = "opposite",
    seed: Annotated[int, typer.Option(help="of the data's order and of the new weights")] = 0,
    method: Annotated[
        list[str] | None,
        typer.Option(help="full, lora, adapter, ia3, ..., once for each; default: all"),
    ] = None,
) -> None:
    """Fine-tune the bundled model with each method there is, and compare them in one table."""
    from ..lab.demo import METHODS, run

    table = Table(title=f"{model} on the task {task!r}, seed {seed}")
    for heading in ("method", "trained", "of all", "steps", "seconds", "loss"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    table.add_column("accuracy", justify="right")
    for row in run(model, task, seed, method or tuple(METHODS)):
        table.add_row(*row)
    Console().print(table)


def main() -> None:
    """Run the command line; what can be foreseen ends in one line that says the fix."""
    try:
        app()
    except MinipeftError as error:
        if "--debug" in sys.argv:
            raise
        print(f"minipeft: {error}", file=sys.stderr)
        # 1: the adapter is damaged, or does not fit; 2: the command cannot be carried out
        sys.exit(1 if isinstance(error, CheckpointError) else 2)


if __name__ == "__main__":
    main()
