"""What a run does when it is not told: each method's config and learning rate, lengths, steps."""

from __future__ import annotations

import math
from typing import Any

from ..checks.errors import ConfigError
from ..checks.say import did_you_mean
from ..methods.config import PeftConfig, TaskType
from ..methods.method import REGISTRY
from ..methods.virtual_tokens import PromptMethod

# {name on the command line: (the registered method, options of its config, highest learning rate
# at width 768)}. LoRA's 1e-3 becomes 2e-4 at a 7-billion model's width of 4,096, the usual choice
# there, and 6e-3 at 128; the others are near the best of `make accuracy`'s sweep at 128.
METHODS: dict[str, tuple[str, dict[str, Any], float]] = {
    "lora": ("LORA", {"r": 8}, 1e-3),
    "dora": ("LORA", {"r": 8, "use_dora": True}, 1e-3),
    "adapter": ("ADAPTER", {}, 1e-3),
    "bitfit": ("BITFIT", {}, 5e-3),
    "ia3": ("IA3", {}, 3e-2),
    "prompt_tuning": ("PROMPT_TUNING", {"num_virtual_tokens": 10}, 2e-2),
    "p_tuning": ("P_TUNING", {"num_virtual_tokens": 10}, 5e-3),
    "prefix_tuning": ("PREFIX_TUNING", {"num_virtual_tokens": 10}, 5e-2),
    "p_tuning_v2": ("P_TUNING_V2", {"num_virtual_tokens": 10}, 5e-2),
}
LONGEST = 512  # more tokens in a row are asked for by --max-length


def method_config(
    method: str,
    *,
    classes: bool,
    r: int | None = None,
    alpha: float | None = None,
    target: list[str] | None = None,
    option: dict[str, Any] | None = None,
) -> PeftConfig:
    """The config of a run's method.

    Args:
        method: a key of `METHODS`.
        classes: True for a model with a new head for classes, which is then trained as well.
        r, alpha, target: LoRA's rank, α (2r when None) and layers.
        option: further options by their names in the config; they win.

    Raises:
        ConfigError: r or alpha for a method without a rank; ConfigTypeError: an unknown option.
    """
    if method not in METHODS:
        raise ConfigError(
            f"no method {method!r}; there are {', '.join(METHODS)}{did_you_mean(method, METHODS)}"
        )
    kind, options, _ = METHODS[method]
    options = {**options, "task_type": TaskType.SEQ_CLS if classes else TaskType.CAUSAL_LM}
    if kind != "LORA" and (r is not None or alpha is not None):
        raise ConfigError(f"--r and --alpha are LoRA's; {method} has neither: leave them out")
    if kind == "LORA":
        options["r"] = options["r"] if r is None else r
        options["lora_alpha"] = 2 * options["r"] if alpha is None else alpha
    if target:
        options["target_modules"] = "all-linear" if target == ["all-linear"] else list(target)
    return REGISTRY[kind][0](**{**options, **(option or {})})


def is_prompt(method: str) -> bool:
    """Whether the method adds virtual tokens, which take room from the text."""
    return issubclass(REGISTRY[METHODS[method][0]][1], PromptMethod)


def learning_rate(method: str, width: int) -> float:
    """The highest learning rate: the method's at width 768, times 768/width.

    Adam moves every weight by about the learning rate, whatever the gradient's size, and a sum
    over `width` inputs then moves by width times as much (Yang et al., arXiv 2203.03466). Rounded
    to two digits.
    """
    return float(f"{METHODS[method][2] * 768 / width:.1e}")


def steps_of(epochs: float, rows: int, batch_size: int) -> int:
    """How many updates read `rows` `epochs` times; at least one."""
    return max(1, math.ceil(epochs * rows / batch_size))
