"""What a user asks for: one dataclass per method, whose options have their rules beside them.

    r: int = option(8, whole(1))

A config holds numbers and names, never tensors or modules. Each option is checked when it is set,
so that a mistake is reported where it was made. A config is never changed by use, so that one
serves many models: an adapter keeps a copy of its own, in which nothing that the adapter was built
from can be changed any more. On disk it is Hugging Face peft's `adapter_config.json`.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection
from dataclasses import MISSING, dataclass, field, fields
from enum import Enum
from typing import Any, ClassVar, TypeVar

from typing_extensions import Self

from ..checks.errors import ConfigError, ConfigTypeError
from ..checks.rules import Rule, flag, names, names_or_pattern, optional, text
from ..checks.say import did_you_mean
from ..layers.names import CLASSIFIERS

T = TypeVar("T")


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
    TaskType.SEQ_CLS: CLASSIFIERS,
    TaskType.TOKEN_CLS: CLASSIFIERS,
    TaskType.QUESTION_ANS: ("qa_outputs",),
}


def matches(target: str | Collection[str], name: str) -> bool:
    """Whether `target_modules=target` means the module with the dotted name `name`.

    The rule is Hugging Face peft's: an entry of a list matches a module whose whole dotted name it
    is, or whose name ends in "." + entry; a string is a regular expression that must match the
    whole name.
    """
    if isinstance(target, str):
        return re.fullmatch(target, name) is not None
    return any(name == entry or name.endswith(f".{entry}") for entry in target)


def option(default: T, rule: Rule) -> T:
    """A field of a config: its default, which is copied if it is a dict, and its rule."""
    made: dict[str, Any] = {"default": default}
    if isinstance(default, dict):
        made = {"default_factory": default.copy}
    return field(**made, metadata={"rule": rule})  # type: ignore[no-any-return]


def task(name: str, value: Any) -> TaskType:
    """The rule of `task_type`."""
    allowed = [kind.value for kind in TaskType]
    if value not in allowed:
        near = did_you_mean(str(value).upper(), allowed)
        raise ConfigError(
            f"{name} must be None or one of {', '.join(allowed)}, got {value!r}{near}"
        )
    return TaskType(value)


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
    # What others call an option: {their name: ours}.
    also_called: ClassVar[dict[str, str]] = {}
    # The method's further options, each in a file of its own (see `Option`); `register` sets them.
    pieces: ClassVar[tuple[Any, ...]] = ()
    # Whether an adapter is built from it: then only what says nothing of its numbers may change.
    in_use: ClassVar[bool] = False
    always_free: ClassVar[tuple[str, ...]] = ("inference_mode", "base_model_name_or_path")

    task_type: TaskType | str | None = option(None, optional(task))
    inference_mode: bool = option(False, flag)
    base_model_name_or_path: str | None = option(None, optional(text))
    modules_to_save: Collection[str] | None = option(None, optional(names))

    def __new__(cls, *args: Any, **options: Any) -> PeftConfig:  # noqa: D102
        # Before the dataclass's own __init__ can say only "unexpected keyword argument".
        for name in options:
            cls._rule(name)
        return super().__new__(cls)

    def __setattr__(self, name: str, value: Any) -> None:
        value = self._rule(name)(name, value)  # config.lora_alfa = 32 would do nothing, for ever
        if self.in_use and name not in self.always_free:
            raise ConfigError(
                f"{name}={value!r} comes too late: the adapter was made with {name}="
                f"{getattr(self, name)!r}, and is saved with its config; make another adapter"
            )
        super().__setattr__(name, value)

    @classmethod
    def _rule(cls, name: str) -> Rule:
        known = {f.name: f.metadata.get("rule", anything) for f in fields(cls)}
        if name not in known:
            near = cls.also_called.get(name)
            near = f"; did you mean {near!r}?" if near else did_you_mean(name, known)
            raise ConfigTypeError(
                f"{cls.__name__} has no option {name!r}{near or '.'} "
                f"Its options: {', '.join(known)}"
            )
        rule: Rule = known[name]
        return rule

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Refuse what the rules of single options cannot: options that exclude each other."""
        for f in fields(self):
            value = getattr(self, f.name)
            if value and isinstance(value, (list, dict)):  # changed in place since it was set?
                self._rule(f.name)(f.name, value)
        for piece in self.asked():
            piece.check(self)

    def asked(self) -> list[Any]:
        """Those of the further options that this config asks for, by a value that is theirs."""
        return [
            piece
            for piece in self.pieces
            if any(getattr(self, name) == value for name, value in piece.when.items())
            or any(getattr(self, name) != value for name, value in piece.unless.items())
        ]

    def own(self, **resolved: Any) -> Self:
        """A copy for one adapter, with what the model decides filled in; from now on it is in use.

        Args:
            resolved: options by name, which are not checked again.
        """
        mine = copy.deepcopy(self)
        for name, value in {**resolved, "in_use": True}.items():
            object.__setattr__(mine, name, value)  # past the rules: these come from the model
        return mine

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


def anything(name: str, value: Any) -> Any:
    """The rule of an option without one."""
    return value


@dataclass
class LayerConfig(PeftConfig):
    """What the config of every method that works on layers has.

    Args:
        target_modules: which layers. A list of names or of dotted suffixes (`["c_attn"]`,
            `["attn.c_proj"]`), a regular expression that must match the whole name (a string),
            `"all-linear"` (all linear layers but the output layer), or None for the
            architecture's default.
        exclude_modules: which of them not: a list or a regular expression, read in the same way.
    """

    target_modules: str | Collection[str] | None = option(None, optional(names_or_pattern))
    exclude_modules: str | Collection[str] | None = option(None, optional(names_or_pattern))
