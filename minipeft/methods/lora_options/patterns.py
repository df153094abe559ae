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
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...checks import unfit, unmatched
from ...checks.errors import ConfigTypeError
from ...checks.rules import pattern
from ...checks.say import shown
from ...layers import bases
from ..method import Layout, Option


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
    for each in patterns or [r"[^.]+"]:
        if found := re.match(rf"(?:^|.*?\.)(?:{each})\.(\d+)\.", name):
            return int(found[1])
    return None


def as_list(value: Any) -> list[Any]:
    """One, several or none, as a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


class RanksByLayer(Option):
    """`rank_pattern` and `alpha_pattern`."""

    unless = {"rank_pattern": {}, "alpha_pattern": {}}

    def at(self, config: Any, name: str) -> Any:
        """The config with this layer's r and α, and no pattern."""
        r, lora_alpha = strength(config, name)
        return replace(config, r=r, lora_alpha=lora_alpha, rank_pattern={}, alpha_pattern={})

    def demand(
        self, config: Any, layout: Layout, found: Mapping[str, bases.Base], named: list[str]
    ) -> None:
        """Each key must mean one of the layers.

        Raises:
            TargetError: one does not.
        """
        for name in self.unless:
            for key in getattr(config, name):
                if not any(meant(key, path) for path in found):
                    raise unmatched.no_layer_for_pattern(name, key, list(found))


class NumberedLayers(Option):
    """`layers_to_transform` and `layers_pattern`."""

    unless = {"layers_to_transform": None, "layers_pattern": None}

    def check(self, config: Any) -> None:
        """A pattern needs numbers to go with it, and numbers need names in a list."""
        if config.layers_to_transform is None:
            raise unfit.pattern_alone(config.layers_pattern)
        if isinstance(config.target_modules, str):
            raise unfit.numbers_beside_expression(config.target_modules)

    def numbered(self, config: Any, names: list[str]) -> dict[str, int | None]:
        """The number of each layer; as in peft, a name given in full is meant whatever its is."""
        spelt = [name for name in names if name in (config.target_modules or ())]
        patterns = as_list(config.layers_pattern)
        return {name: layer_number(name, patterns) for name in names if name not in spelt}

    def narrow(self, config: Any, names: list[str]) -> list[str]:
        """Those in the layers that are named by number.

        Raises:
            TargetError: there are none.
        """
        numbers, wanted = self.numbered(config, names), as_list(config.layers_to_transform)
        hits = [name for name in names if name not in numbers or numbers[name] in wanted]
        if not hits:
            raise unmatched.no_layer_of_number(config, wanted, numbers)
        return hits

    def demand(
        self, config: Any, layout: Layout, found: Mapping[str, bases.Base], named: list[str]
    ) -> None:
        """Each number must be that of a layer.

        Raises:
            TargetError: one is not.
        """
        numbers = self.numbered(config, named)
        lost = [n for n in as_list(config.layers_to_transform) if n not in numbers.values()]
        if lost:
            raise unmatched.no_layer_of_number(config, lost, numbers)


# --- rules ---------------------------------------------------------------------------------------


def layer_numbers(name: str, value: Any) -> int | list[int]:
    """The rule of `layers_to_transform`: a layer's number, or a list of them."""
    for layer in as_list(value) or [value]:
        if isinstance(layer, bool) or not isinstance(layer, numbers.Integral):
            raise unfit.no_layer_number(name, value)
        if layer < 0:
            raise unfit.counted_from_the_end(name, value)
    several = isinstance(value, (list, tuple))
    return [int(n) for n in value] if several else int(value)


def list_names(name: str, value: Any) -> Any:
    """The rule of `layers_pattern`: what the list of layers is called, one or several."""
    for each in as_list(value):
        if not isinstance(each, str):
            raise ConfigTypeError(f"{name} must hold names, got {shown(each)}")
        pattern(name, each)
    return value
