"""A model's modules by dotted name, and which of them an entry of `target_modules` means.

The rule is Hugging Face peft's: an entry of a list matches a module whose whole dotted name it is,
or whose name ends in "." + entry; a string is a regular expression that must match the whole name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from torch import nn

from .core import Slot, Wrapper


def matches(target: str | Collection[str], name: str) -> bool:
    """Whether `target_modules=target` means the module with the dotted name `name`."""
    if isinstance(target, str):
        return re.fullmatch(target, name) is not None
    return any(name == entry or name.endswith(f".{entry}") for entry in target)


def named_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The model's modules by name as before any adapter: a slot counts as what it holds."""
    inside: tuple[str, ...] = ()
    for name, module in model.named_modules():
        if name.startswith(inside) and inside:
            continue
        if isinstance(module, Slot):
            inside += (f"{name}.",)
        yield name, module


def original(module: nn.Module) -> nn.Module:
    """The frozen layer inside a wrapper; any other module is itself."""
    return module.base_layer if isinstance(module, Wrapper) else module
