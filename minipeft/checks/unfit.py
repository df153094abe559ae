"""What is said of inputs, layers and options that a method cannot work with."""

from __future__ import annotations

from typing import Any

from .errors import ConfigError


def lora_start(given: Any) -> ConfigError:
    """A start that one LoRA by hand does not have."""
    return ConfigError(
        f"init_lora_weights must be True, False or 'gaussian' for a LoRALayer made by hand, got "
        f"{given!r}; LoraConfig(init_lora_weights=...) has the others"
    )
