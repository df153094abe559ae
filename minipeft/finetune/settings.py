"""The settings of one run: from the command line, from a .toml file, and back into one.

Each setting stands here once: its type, its default, its help on the command line and its check.
A setting that is None is decided by the run (`defaults.py`) and written to the run's own run.toml.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from ..checks.errors import ConfigError, ConfigTypeError
from ..checks.rules import integer, number
from ..checks.say import did_you_mean, listed, shown
from .defaults import METHODS

KINDS = ("auto", "text", "completion", "chat", "class")
DATA, METHOD, TRAINING, WATCHING = "What is learned", "How much is trained", "Training", "Watching"


def setting(help: str, panel: str, default: Any = MISSING, **check: Any) -> Any:
    """A dataclass's field with what the command line and the check need to know of it."""
    metadata = {"help": help, "panel": panel, "check": check}
    if default == {}:
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """One run of `minipeft train`; the help of each setting says what it is.

    Raises:
        ConfigError, ConfigTypeError: a setting has a value that is not allowed.
    """

    base: str = setting("the base model: tiny-llama, a folder, or a name on the hub", DATA)
    data: str = setting("the rows: a .jsonl, .csv, .txt, ... file, or a dataset's name", DATA)
    output: str = setting("the folder for the adapter, the run's card and its checkpoints", DATA)
    kind: str = setting(
        "text, completion (prompt and completion), chat (messages) or class (text and label); "
        "auto: as the columns say",
        DATA, "auto", choices=KINDS,
    )  # fmt: skip
    column: dict[str, str] = setting(
        "what a column is called in the data, as NAME=COLUMN: prompt=question", DATA, {}
    )
    split: str = setting("which split of a dataset to train on", DATA, "train")
    validation: str = setting(
        "rows to hold out and never train on: a share (0.1), a number (50), or a file", DATA, "0.1"
    )
    max_length: int | None = setting(
        "tokens of a row, or of a packed block; longer ones are cut (default: what the base "
        "model reads, at most 512)",
        DATA, None, low=2,
    )  # fmt: skip
    packing: bool | None = setting(
        "join texts end to end and cut them into full blocks (default: for kind text)", DATA, None
    )
    method: str = setting(", ".join(METHODS), METHOD, "lora", choices=tuple(METHODS))
    r: int | None = setting("LoRA's rank (default: 8)", METHOD, None, low=1)
    alpha: float | None = setting(
        "LoRA's α; the update counts α/r (default: 2r)", METHOD, None, low=0, open_low=True
    )
    target: list[str] | None = setting(
        "a layer to adapt, once for each; all-linear: all (default: the architecture's)",
        METHOD, None,
    )  # fmt: skip
    option: dict[str, Any] = setting(
        "another option of the method's config, as NAME=VALUE: lora_dropout=0.1", METHOD, {}
    )
    quantize: bool = setting("hold the frozen base in four bits (NF4)", METHOD, False)
    epochs: float = setting(
        "passes over the rows; --steps wins over it", TRAINING, 3.0, low=0, open_low=True
    )
    steps: int | None = setting("updates of the weights", TRAINING, None, low=1)
    batch_size: int = setting("rows of an update, over all processes", TRAINING, 16, low=1)
    accumulate: int = setting(
        "read a batch in so many parts: less memory, the same update", TRAINING, 1, low=1
    )
    lr: float | None = setting(
        "the highest learning rate (default: the method's, by the model's width)",
        TRAINING, None, low=0, open_low=True,
    )  # fmt: skip
    warmup: float = setting("the share of steps in which it rises", TRAINING, 0.05, low=0, high=1)
    weight_decay: float = setting("AdamW's", TRAINING, 0.0, low=0)
    clip: float = setting(
        "longest gradient; longer ones are shortened", TRAINING, 1.0, low=0, open_low=True
    )
    bf16: bool = setting("compute in bfloat16 (autocast); weights stay float32", TRAINING, False)
    checkpointing: bool = setting(
        "compute activations twice in place of keeping them", TRAINING, False
    )
    device: str = setting(
        "auto (a GPU if there is one) or cpu", TRAINING, "auto", choices=("auto", "cpu")
    )
    seed: int = setting("of the new weights, the rows' order and the split", TRAINING, 0, low=0)
    every: int | None = setting(
        "steps between two looks at the held-out rows, each with a checkpoint (default: a tenth "
        "of the run)",
        WATCHING, None, low=1,
    )  # fmt: skip
    patience: int = setting(
        "stop after so many looks without a gain on the held-out rows; 0: never", WATCHING, 0, low=0
    )
    keep: int = setting("how many checkpoints to keep, the best one among them", WATCHING, 2, low=1)

    def __post_init__(self) -> None:
        hints = get_type_hints(Settings)
        for each in fields(self):
            value = checked(each, hints[each.name], getattr(self, each.name))
            object.__setattr__(self, each.name, value)
        if self.batch_size % self.accumulate:
            raise ConfigError(
                f"batch_size must be a multiple of accumulate, got {self.batch_size} and "
                f"{self.accumulate}"
            )


def checked(each: Field[Any], hint: Any, value: Any) -> Any:
    """A setting's value in its type; ConfigError or ConfigTypeError if it is not allowed."""
    check, name = dict(each.metadata["check"]), each.name
    kinds = [k for k in (get_args(hint) if _is_union(hint) else (hint,)) if k is not type(None)]
    kind = get_origin(kinds[0]) or kinds[0]
    if value is None and _is_union(hint):
        return None
    if kind is int:
        return integer(name, value, low=check["low"])
    if kind is float:
        return number(name, value, **check)
    if not isinstance(value, kind) or (kind is str and not value):
        what = {str: "a non-empty string", bool: "true or false", list: "a list", dict: "a table"}
        raise ConfigTypeError(f"{name} must be {what[kind]}, got {shown(value)}")
    choices = check.get("choices")
    if choices and value not in choices:
        raise ConfigError(
            f"{name} must be one of {listed(choices, 20)}, got {value!r}"
            f"{did_you_mean(value, choices)}"
        )
    if name == "column" and not all(isinstance(column, str) for column in value.values()):
        raise ConfigTypeError(f"column must map names to columns, got {value!r}")
    return value


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)


def made(given: Mapping[str, Any]) -> Settings:
    """Settings from values by name.

    Raises:
        ConfigError, ConfigTypeError: a name is not known, one that is needed is missing, or a
            value is not allowed.
    """
    known = {each.name: each for each in fields(Settings)}
    for name in given:
        if name not in known:
            raise ConfigError(
                f"there is no setting {name!r}{did_you_mean(name, known) or '.'} "
                f"The settings: {', '.join(known)}"
            )
    needed = [n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING]
    missing = [name for name in needed if given.get(name) is None]
    if missing:
        flags = " and ".join(f"--{name}" for name in missing)
        raise ConfigError(f"a run needs {flags} (or a --config FILE.toml that names it)")
    return Settings(**given)


def read_toml(path: str | Path) -> dict[str, Any]:
    """The settings in a file, not checked yet.

    Raises:
        ConfigError: there is no such file, or it is not TOML; with the line.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        text = Path(path).read_text(encoding="utf-8")
        return dict(tomlkit.parse(text).unwrap())
    except FileNotFoundError:
        raise ConfigError(f"there is no file {str(path)!r} to read settings from") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    except TOMLKitError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error


def to_toml(settings: Settings, title: str = "") -> str:
    """The file that repeats a run: `minipeft train --config FILE`. None is left out."""
    import tomlkit

    document = tomlkit.document()
    if title:
        document.add(tomlkit.comment(title))
    values = {name: value for name, value in asdict(settings).items() if value is not None}
    tables = {name: values.pop(name) for name in ("column", "option") if values.get(name)}
    for name, value in values.items():
        if value != {}:
            document.add(name, tomlkit.item(value))
    for name, table in tables.items():  # TOML wants tables after the plain values
        document.add(name, tomlkit.item(table))
    return tomlkit.dumps(document)
