r"""Other ranks and strengths for some layers, and adapters in some of the numbered layers only.

    rank_pattern={"c_proj": 4, r"h\.11\..*": 16}       r for the layers whose name ends so
    alpha_pattern={"c_proj": 8}                       α likewise
    layers_to_transform=[0, 11], layers_pattern="h"   of transformer.h.0 … 11 the first and the last

Lecture note: 000_456609471e9b7c6d.txt, lines 140-161 (layers_to_transform works with the default
target_modules too). The rules are Hugging Face peft's; what would mean nothing is an error here.
"""

from __future__ import annotations

import numbers
import re
import warnings
from collections.abc import Mapping
from typing import Any

from ..checks import check_pattern, integer, number, shown
from ..errors import ConfigError, ConfigTypeError, RankWarning, TargetError, did_you_mean, listed


def meant(key: str, name: str) -> bool:
    """Whether a pattern's key means the layer: it is the whole name, or its end from a dot on."""
    return re.match(rf"(.*\.)?({key})$", name) is not None


def strength(config: Any, name: str) -> tuple[int, float]:
    """R and α of the layer called `name`: the first pattern that means it decides."""
    r = next((r for key, r in config.rank_pattern.items() if meant(key, name)), config.r)
    found = (a for key, a in config.alpha_pattern.items() if meant(key, name))
    return r, next(found, config.lora_alpha)


def layer_number(name: str, patterns: list[str]) -> int | None:
    """The number of the layer that a module stands in: transformer.h.3.attn.c_attn is in 3.

    Args:
        name: the module's dotted name.
        patterns: what the list of layers is called (`["h"]`); none: the first number in the name.
    """
    for pattern in patterns or [r"[^.]+"]:
        if found := re.match(rf"(?:^|.*?\.)(?:{pattern})\.(\d+)\.", name):
            return int(found[1])
    return None


def narrow(config: Any, hits: list[str], every: bool) -> list[str]:
    """Those of the layers `hits` that layers_to_transform means.

    Args:
        config: a `LoraConfig`.
        hits: dotted names.
        every: demand that each number and each pattern means something.

    Raises:
        TargetError: one does not.
    """
    if config.layers_to_transform is not None:
        wanted, patterns = as_list(config.layers_to_transform), as_list(config.layers_pattern)
        # as in peft, a name given in full is meant whatever its number
        spelt = [name for name in hits if name in (config.target_modules or ())]
        numbered = {name: layer_number(name, patterns) for name in hits if name not in spelt}
        there = sorted({n for n in numbered.values() if n is not None})
        if (lost := [n for n in wanted if n not in there]) and every:
            where = f" with layers_pattern={config.layers_pattern!r}" if patterns else ""
            lists = dict.fromkeys(f[1] for n in hits for f in re.finditer(r"([^.]+)\.\d+\.", n))
            raise TargetError(
                f"layers_to_transform={config.layers_to_transform!r}{where}: no targeted layer has "
                f"the number {', '.join(map(str, lost))}; there are "
                f"{', '.join(map(str, there)) or 'none'} (the numbered lists: {listed(lists)})"
            )
        hits = [name for name in hits if name in spelt or numbered[name] in wanted]
    for option in ("rank_pattern", "alpha_pattern") if every else ():
        for key in getattr(config, option):
            if not any(meant(key, name) for name in hits):
                ends = dict.fromkeys(name.rsplit(".", 1)[-1] for name in hits)
                near = did_you_mean(key, [*ends, *hits])
                raise TargetError(
                    f"{option}: {key!r} means none of the {len(hits)} adapted layers"
                    f"{near or ';'} they end in {listed(ends)}"
                )
    return hits


def warn_of_ranks(methods: Mapping[str, Any]) -> None:
    """Warn where B A has a higher rank than a matrix of the layer's size can have."""
    high = {}
    for path, method in methods.items():
        a, b = getattr(method, "lora_A", None), getattr(method, "lora_B", None)
        if a is None or b is None:
            continue
        most = min(a[0].numel(), b.numel() // a.shape[0])  # A (r, in), B (out, r)
        if a.shape[0] > most:
            high[path] = f"{path!r} takes ranks up to {most}, not {a.shape[0]}"
    if high:
        warnings.warn(
            f"r is above what {len(high)} of the {len(methods)} layers can use: "
            f"{'; '.join(list(high.values())[:3])}. What lies above trains to no effect; take a "
            f"smaller r, or rank_pattern for these layers",
            RankWarning,
            stacklevel=6,  # where get_peft_model was called
        )


def as_list(value: Any) -> list[Any]:
    """One, several or none, as a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def check(config: Any) -> None:
    """Refuse values that a `LoraConfig`'s options about layers do not take.

    Raises:
        ConfigTypeError, ConfigError: which, and what is allowed.
    """
    wanted = config.layers_to_transform
    if wanted is not None:
        for layer in as_list(wanted) or [wanted]:
            if isinstance(layer, bool) or not isinstance(layer, numbers.Integral):
                raise ConfigTypeError(
                    f"layers_to_transform must be a layer's number or a list of them, such as "
                    f"[0, 1], got {shown(wanted)}"
                )
            if layer < 0:
                raise ConfigError(
                    f"layers_to_transform counts layers from 0, got {wanted!r}; name the last "
                    f"layers by their numbers"
                )
        several = isinstance(wanted, (list, tuple))
        config.layers_to_transform = [int(n) for n in wanted] if several else int(wanted)
        if isinstance(config.target_modules, str):
            raise ConfigError(
                f"layers_to_transform needs target_modules as a list, or none for the default; got "
                f"{config.target_modules!r}, and a regular expression can name the layers itself"
            )
    patterns = as_list(config.layers_pattern)
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise ConfigTypeError(f"layers_pattern must hold names, got {shown(pattern)}")
        check_pattern("layers_pattern", pattern)
    if patterns and wanted is None:
        raise ConfigError(
            f"layers_pattern={config.layers_pattern!r} says where layers_to_transform counts, and "
            f"that was left out; give both, or neither"
        )
    for option in ("rank_pattern", "alpha_pattern"):
        value = {} if getattr(config, option) is None else getattr(config, option)
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise ConfigTypeError(
                f"{option} must map layers' names to numbers, such as {{'c_proj': 4}}, "
                f"got {shown(value)}"
            )
        for key in value:
            check_pattern(option, key)
        setattr(config, option, {key: allowed(option, key, n) for key, n in value.items()})


def allowed(option: str, key: str, value: Any) -> int | float:
    """The r or α of a pattern, checked as r and lora_alpha are."""
    name = f"{option}[{key!r}]"
    if option == "rank_pattern":
        return integer(name, value, low=1)
    return number(name, value, low=0, open_low=True)
