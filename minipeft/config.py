"""What a user asks for: one dataclass per method, checked when it is made.

A config holds numbers and names, never tensors or modules. It is checked in full at construction,
so that a mistake is reported where it was made; it is never changed by use, so that one config
serves many models. On disk it is Hugging Face peft's `adapter_config.json`.
"""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Collection
from dataclasses import MISSING, dataclass, fields
from enum import Enum
from typing import Any, ClassVar

from .errors import ConfigError, ConfigTypeError, did_you_mean, listed


class PeftType(str, Enum):
    """The names that Hugging Face peft writes on disk as `peft_type`, and ours beside them."""

    LORA = "LORA"
    BITFIT = "BITFIT"
    ADAPTER = "ADAPTER"
    IA3 = "IA3"
    PROMPT_TUNING = "PROMPT_TUNING"
    P_TUNING = "P_TUNING"
    PREFIX_TUNING = "PREFIX_TUNING"
    P_TUNING_V2 = "P_TUNING_V2"


class TaskType(str, Enum):
    """What the model is for; it decides which head is trained along with the adapter."""

    SEQ_CLS = "SEQ_CLS"
    SEQ_2_SEQ_LM = "SEQ_2_SEQ_LM"
    CAUSAL_LM = "CAUSAL_LM"
    TOKEN_CLS = "TOKEN_CLS"
    QUESTION_ANS = "QUESTION_ANS"
    FEATURE_EXTRACTION = "FEATURE_EXTRACTION"


# Heads that are new and random when such a model is made, so that they must be trained and saved.
HEADS = {
    TaskType.SEQ_CLS: ("classifier", "score"),
    TaskType.TOKEN_CLS: ("classifier", "score"),
    TaskType.QUESTION_ANS: ("qa_outputs",),
}


@dataclass
class PeftConfig:
    """What every method's config has.

    Args:
        task_type: a `TaskType` or its name; None for any module.
        inference_mode: True freezes the adapter as well.
        base_model_name_or_path: the base model, filled in when the adapter is made.
        modules_to_save: modules trained whole beside the adapter, on a copy (`["classifier"]`).

    Raises:
        ConfigTypeError, ConfigError: an unknown option, or a value that is not allowed.
    """

    peft_type: ClassVar[str] = ""
    # The peft_type on disk, where peft has another name for what the file holds.
    saved_as: ClassVar[str] = ""
    # Options that the notes name and this version lacks; only their default is accepted.
    not_yet: ClassVar[tuple[str, ...]] = ()
    # What others call an option: {their name: ours}.
    also_called: ClassVar[dict[str, str]] = {}

    task_type: TaskType | str | None = None
    inference_mode: bool = False
    base_model_name_or_path: str | None = None
    modules_to_save: Collection[str] | None = None

    def __new__(cls, *args: Any, **options: Any) -> PeftConfig:  # noqa: D102
        # Before the dataclass's own __init__ can say only "unexpected keyword argument".
        known = [f.name for f in fields(cls) if f.init]
        for name in options:
            if name not in known:
                near = cls.also_called.get(name)
                near = f"; did you mean {near!r}?" if near else did_you_mean(name, known)
                raise ConfigTypeError(
                    f"{cls.__name__} has no option {name!r}{near or '.'} "
                    f"Its options: {', '.join(known)}"
                )
        return super().__new__(cls)

    def __post_init__(self) -> None:
        if self.task_type is not None:
            allowed = [t.value for t in TaskType]
            if self.task_type not in allowed:
                hint = did_you_mean(str(self.task_type).upper(), allowed)
                raise ConfigError(
                    f"task_type must be None or one of {', '.join(allowed)}, "
                    f"got {self.task_type!r}{hint}"
                )
            self.task_type = TaskType(self.task_type)
        check_bool(self, "inference_mode")
        if self.base_model_name_or_path is not None:
            check_string(self, "base_model_name_or_path")
        if self.modules_to_save is not None:
            self.modules_to_save = check_names("modules_to_save", self.modules_to_save)
        for name in self.not_yet:
            value, neutral = getattr(self, name), self.default_of(name)
            if value is not None and value != neutral:
                raise ConfigError(
                    f"{name}={value!r} is not available in this version of minipeft; "
                    f"leave {name} out (its value is {neutral!r})"
                )

    def to_dict(self) -> dict[str, Any]:
        """The config as JSON can hold it: enums as strings, sets as sorted lists."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        plain = {k: v.value if isinstance(v, Enum) else v for k, v in values.items()}
        plain = {k: sorted(v) if isinstance(v, set) else v for k, v in plain.items()}
        kind = self.saved_as or self.peft_type
        return {**plain, "peft_type": str(getattr(kind, "value", kind))}

    def heads(self) -> list[str]:
        """Names of the modules trained whole: those asked for, and the task's own head."""
        own = HEADS.get(self.task_type, ()) if isinstance(self.task_type, TaskType) else ()
        return list(dict.fromkeys([*(self.modules_to_save or ()), *own]))

    @classmethod
    def default_of(cls, name: str) -> Any:
        """The default of option `name`."""
        f = next(f for f in fields(cls) if f.name == name)
        return f.default if f.default_factory is MISSING else f.default_factory()


@dataclass
class LayerConfig(PeftConfig):
    """What the config of every method that works on layers has.

    Args:
        target_modules: which layers. A list of names or of dotted suffixes (`["c_attn"]`,
            `["attn.c_proj"]`), a regular expression that must match the whole name (a string),
            `"all-linear"` (all linear layers but the output layer), or None for the
            architecture's default.
    """

    # The layers that peft adapts when none are named: {config.model_type: suffixes}.
    default_targets: ClassVar[dict[str, tuple[str, ...]]] = {}

    target_modules: str | Collection[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.target_modules, str):
            check_pattern("target_modules", self.target_modules)
        elif self.target_modules is not None:
            self.target_modules = check_names("target_modules", self.target_modules)

    def in_family(self, kind: str | None) -> LayerConfig:
        """The config with its family's defaults, by `config.model_type`, for what it leaves out."""
        return self


# --- checks of one option, shared by all configs -------------------------------------------------


def shown(value: Any) -> str:
    """A value with its type, as an error names it: `'8' (str)`."""
    return f"{value!r} ({type(value).__name__})"


def check_bool(config: PeftConfig, name: str) -> None:
    """Refuse anything but True and False: the string "False" is true to Python."""
    value = getattr(config, name)
    if not isinstance(value, bool):
        raise ConfigTypeError(f"{name} must be True or False, got {shown(value)}")


def check_string(config: PeftConfig, name: str) -> None:
    """Refuse anything but a non-empty string."""
    value = getattr(config, name)
    if not isinstance(value, str) or not value:
        raise ConfigTypeError(f"{name} must be a non-empty string, got {shown(value)}")


def check_int(config: PeftConfig, name: str, *, low: int) -> None:
    """Refuse anything but an integer of at least `low` (True is no integer here)."""
    value = getattr(config, name)
    what = "a positive integer" if low == 1 else f"an integer of at least {low}"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ConfigTypeError(f"{name} must be {what}, got {shown(value)}")
    if value < low:
        raise ConfigError(f"{name} must be {what}, got {value!r}")
    setattr(config, name, int(value))


def check_number(
    config: PeftConfig, name: str, *, low: float, high: float = math.inf, open_low: bool = False
) -> None:
    """Refuse anything but a finite number in [low, high), or in (low, high)."""
    value = getattr(config, name)
    bracket = "(" if open_low else "["
    top = "infinity" if high == math.inf else f"{high:g}"
    what = f"a number in {bracket}{low:g}, {top})"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ConfigTypeError(f"{name} must be {what}, got {shown(value)}")
    if not (low <= float(value) < high) or (open_low and value == low):  # NaN fails as well
        raise ConfigError(f"{name} must be {what}, got {value!r}")
    # numpy's numbers are numbers, but JSON cannot hold them
    setattr(config, name, int(value) if isinstance(value, numbers.Integral) else float(value))


def check_choice(config: PeftConfig, name: str, allowed: Collection[Any]) -> None:
    """Refuse anything but one of `allowed`, compared with its type (1 is not True)."""
    value = getattr(config, name)
    if not any(type(value) is type(a) and value == a for a in allowed):
        near = did_you_mean(str(value), [a for a in allowed if isinstance(a, str)])
        choices = ", ".join(map(repr, allowed))
        raise ConfigError(f"{name} must be one of {choices}, got {shown(value)}{near}")


def check_pattern(name: str, pattern: str) -> None:
    """Refuse an empty string and what is not a regular expression."""
    if not pattern:
        raise ConfigError(f"{name} must not be an empty string; leave it out for the default")
    try:
        re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"{name}={pattern!r} is a string, so it is read as a regular expression, and is not "
            f"one: {error}; for plain names give a list, such as ['q_proj', 'v_proj']"
        ) from None


def check_names(name: str, names: Any) -> list[str]:
    """A list of non-empty names without repeats, from a list, tuple or set; refuses the rest."""
    if isinstance(names, (str, bytes)) or not isinstance(names, (list, tuple, set, frozenset)):
        raise ConfigTypeError(f"{name} must be a list of module names, got {shown(names)}")
    if not names:
        raise ConfigError(f"{name} must not be empty; leave it out for the default")
    for entry in names:
        if not isinstance(entry, str) or not entry:
            raise ConfigTypeError(
                f"{name} must hold module names (non-empty strings), got {shown(entry)} "
                f"in {listed(map(str, names))}"
            )
    ordered = sorted(names) if isinstance(names, (set, frozenset)) else names
    return list(dict.fromkeys(ordered))
