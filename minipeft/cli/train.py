"""`minipeft train`: its options are the settings of `finetune.settings`, each said there once."""

from __future__ import annotations

import inspect
import json
import signal
import typing
from dataclasses import Field, fields
from typing import Annotated, Any

import typer

from ..checks.errors import ConfigError
from ..finetune.settings import Settings, read_toml

SHORT = {"output": "-o", "seed": "-s"}
EPILOG = (
    "Example: minipeft train --base tiny-llama --data rows.jsonl --method lora --r 8 -o my-lora. "
    "Several processes: torchrun --nproc-per-node 2 -m minipeft.cli train ..."
)


def option_of(each: Field[Any], hint: Any) -> Any:
    """A setting as an option of typer; not given is None, so that a file's value stays."""
    kinds = [k for k in typing.get_args(hint) if k is not type(None)]
    kind = kinds[0] if kinds and typing.get_origin(hint) is not dict else hint
    if typing.get_origin(hint) is dict or typing.get_origin(kind) is list:
        kind = list[str]  # once for each
    text = each.metadata["help"]
    shown = isinstance(each.default, (int, float, str)) and not isinstance(each.default, bool)
    text += f" (default: {each.default})" if shown else ""
    name = each.name.replace("_", "-")
    flag = f"--{name}/--no-{name}" if kind is bool else f"--{name}"
    flags = [flag, SHORT[each.name]] if each.name in SHORT else [flag]
    made = typer.Option(*flags, help=text, rich_help_panel=each.metadata["panel"])
    return Annotated[kind | None, made]


def pairs(flag: str, texts: list[str], read: Any) -> dict[str, Any]:
    """NAME=VALUE texts as a dict."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigError(f"--{flag} must be name=value, got {text!r}")
        found[name] = read(value)
    return found


def plain(value: str) -> Any:
    """A value as JSON reads it (16, true, "x"), or the text itself."""
    try:
        return json.loads(value)
    except ValueError:
        return value


def train(**given: Any) -> None:
    """Fine-tune a base model on rows of yours, and keep the adapter.

    The output folder gets the adapter, checkpoints to resume from, and a card of the run. Ctrl-C
    ends with a checkpoint; `--resume -o DIR` goes on from it.
    """
    config, resume, quiet = (given.pop(name) for name in ("config", "resume", "quiet"))
    values = {name: value for name, value in given.items() if value not in (None, [])}
    for name, read in (("column", str), ("option", plain)):
        if name in values:
            values[name] = pairs(name, values[name], read)
    if config is not None:
        if resume:
            raise ConfigError("--resume reads the settings from the run's own run.toml; leave "
                              "--config out")  # fmt: skip
        values = {**read_toml(config), **values}
    try:
        from ..finetune.run import run
    except ImportError as error:
        raise ConfigError(
            f"minipeft train needs the package {error.name!r}: pip install 'minipeft[train]'"
        ) from error
    outcome = run(values, resume=resume, quiet=quiet)
    if outcome.stopped is not None:
        raise typer.Exit(128 + signal.Signals[outcome.stopped])


def _signature() -> inspect.Signature:
    hints = typing.get_type_hints(Settings)
    options = {each.name: option_of(each, hints[each.name]) for each in fields(Settings)}
    more: dict[str, tuple[Any, str, Any]] = {
        "config": (str | None, "read settings from a .toml file; options given here win", None),
        "resume": (bool, "go on with the run in the output folder", False),
        "quiet": (bool, "print nothing but errors", False),
    }
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)
        for name, hint in options.items()
    ]
    for name, (kind, text, default) in more.items():
        made = typer.Option(f"--{name}", help=text, rich_help_panel="The run")
        hint: Any = Annotated[kind, made]
        parameters.append(
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint
            )
        )
    return inspect.Signature(parameters)


train.__signature__ = _signature()  # type: ignore[attr-defined]
train.__annotations__ = {p.name: p.annotation for p in _signature().parameters.values()}


def add_to(app: typer.Typer) -> None:
    """Make it a command of the app."""
    app.command(epilog=EPILOG)(train)
