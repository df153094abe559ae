"""What a user asks for: one dataclass per method, checked when it is made.

A config holds numbers and names, never tensors or modules. It is checked in full at construction,
so that a mistake is reported where it was made; it is never changed by use, so that one config
serves many models. On disk it is Hugging Face peft's `adapter_config.json`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import MISSING, dataclass, fields
from enum import Enum
from typing import Any, ClassVar

from torch import nn

from .checks import check_bool, check_names, check_pattern, check_string
from .errors import ConfigError, ConfigTypeError, did_you_mean


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
    # Options that the notes name and minipeft lacks, and why; only their default is accepted.
    not_yet: ClassVar[dict[str, str]] = {}
    # What others call an option: {their name: ours}.
    also_called: ClassVar[dict[str, str]] = {}

    task_type: TaskType | str | None = None
    inference_mode: bool = False
    base_model_name_or_path: str | None = None
    modules_to_save: Collection[str] | None = None

    def __new__(cls, *args: Any, **options: Any) -> PeftConfig:  # noqa: D102
        # Before the dataclass's own __init__ can say only "unexpected keyword argument".
        for name in options:
            cls._known(name)
        return super().__new__(cls)

    def __setattr__(self, name: str, value: Any) -> None:
        self._known(name)  # config.lora_alfa = 32 would do nothing, for ever
        if "in_use" in vars(self) and name not in ("inference_mode", "base_model_name_or_path"):
            raise ConfigError(
                f"{name}={value!r} comes too late: the adapter was made with {name}="
                f"{getattr(self, name)!r}, and is saved with its config; make another adapter"
            )
        super().__setattr__(name, value)

    @classmethod
    def _known(cls, name: str) -> None:
        known = [f.name for f in fields(cls)]
        if name not in known:
            near = cls.also_called.get(name)
            near = f"; did you mean {near!r}?" if near else did_you_mean(name, known)
            raise ConfigTypeError(
                f"{cls.__name__} has no option {name!r}{near or '.'} "
                f"Its options: {', '.join(known)}"
            )

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
        for name, why in self.not_yet.items():
            value, neutral = getattr(self, name), self.default_of(name)
            if value is not None and value != neutral:
                raise ConfigError(
                    f"{name}={value!r} is not available in this version of minipeft ({why}); "
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
        exclude_modules: which of them not: a list or a regular expression, read in the same way.
    """

    # The layers that peft adapts when none are named: {config.model_type: suffixes}.
    default_targets: ClassVar[dict[str, tuple[str, ...]]] = {}

    target_modules: str | Collection[str] | None = None
    exclude_modules: str | Collection[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("target_modules", "exclude_modules"):
            value = getattr(self, name)
            if isinstance(value, str):
                check_pattern(name, value)
            elif value is not None:
                setattr(self, name, check_names(name, value))

    def narrow(self, hits: list[str], every: bool) -> list[str]:
        """Those of the layers hit by target_modules that further options mean as well."""
        return hits

    def reshaped(self, model: nn.Module) -> Any:
        """What the model becomes before it gets the adapter; None: it stays as it is."""
        return None

    def in_family(self, kind: str | None) -> LayerConfig:
        """The config with its family's defaults, by `config.model_type`, for what it leaves out."""
        return self
