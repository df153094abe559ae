"""The models and devices that commands are given by name."""

from __future__ import annotations

from typing import Any

from ..checks.errors import ConfigError


def skeleton(base: str, config: Any) -> Any:
    """The base model on the meta device: its modules and shapes, without numbers."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

    from ..lab.zoo import ASSETS, BUNDLED

    source = str(ASSETS / base) if base in BUNDLED else base
    classes = str(getattr(config.task_type, "value", config.task_type)) == "SEQ_CLS"
    kind: Any = AutoModelForSequenceClassification if classes else AutoModelForCausalLM
    try:
        shape = AutoConfig.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"no model {base!r}: neither a folder with a config.json, nor to be had from the hub"
        ) from error
    with torch.device("meta"):
        return kind.from_config(shape)


def device_of(name: str) -> Any:
    """The device of this name; ConfigError for one that this machine lacks."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        why = str(error).split("\n")[0]
        raise ConfigError(f"--device {name} cannot be used here ({why}); try auto") from error
