"""What the names in a config must mean in this model: refused otherwise, with what is near.

Which layers they mean is decided in plan.py (`choose_layers`); the words stand in checks/unmatched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..checks import unmatched
from ..layers import bases
from ..layers.families import model_type
from ..layers.names import ALL_LINEAR, linear_endings
from ..methods.config import LayerConfig, matches
from ..methods.method import Layout, Placement
from .slots import named_layers


def no_default(layout: Layout, placement: Placement) -> Exception:
    """What to say where no layers are named and the architecture has no default."""
    kind, linear = model_type(layout.model), linear_endings(layout.modules)
    return unmatched.no_default(kind, layout.model, placement.defaults, linear)


def demand_entries(layout: Layout, lost: list[str], target: Any) -> None:
    """Refuse entries of target_modules that mean nothing, or only what is trained whole.

    Args:
        layout: the model.
        lost: the entries that match no module.
        target: all entries.

    Raises:
        TargetError: which.
    """
    names = list(layout.modules)
    if lost:
        raise unmatched.entries(lost, names)
    inside = tuple(f"{name}." for name in layout.heads)
    for entry in target:
        hits = [name for name in names if matches([entry], name)]
        if all(n in layout.heads or n.startswith(inside) for n in hits):
            raise unmatched.named_twice(entry, layout.heads)


def demand_exclusions(names: list[str], target: Any) -> None:
    """Refuse entries of exclude_modules that match no module."""
    if isinstance(target, str):
        if not any(matches(target, name) for name in names):
            raise unmatched.pattern(target, names, option="exclude_modules")
    elif target is not None:
        lost = [entry for entry in target if not any(matches([entry], name) for name in names)]
        if lost:
            raise unmatched.entries(lost, names, option="exclude_modules")


def nothing(layout: Layout, config: LayerConfig, target: Any) -> Exception:
    """What to say where no layer is meant."""
    names = list(layout.modules)
    if not isinstance(target, str):
        if not any(matches(target, name) for name in names):
            return unmatched.entries(list(target), names)
        if layout.heads and config.exclude_modules is None:
            demand_entries(layout, [], target)  # what is meant may all be trained whole
    elif target.lower() != ALL_LINEAR and not any(matches(target, name) for name in names):
        return unmatched.pattern(target, names)
    linear = linear_endings(layout.modules)
    return unmatched.no_layer(layout.model, target, config.exclude_modules, linear)


def unsupported(name: str, layer: nn.Module, target: Any, placement: Placement) -> Exception:
    """What to say of a match that is no layer of the method's kind: which of these are near."""
    inside = [n for n, m in named_layers(layer) if n and bases.view(m) is not None]
    return unmatched.other_kind(name, layer, target, placement.beside, inside)


def demand_transposed(found: Mapping[str, bases.Base]) -> None:
    """Refuse fan_in_fan_out=True where a layer stores (out, in)."""
    for base in found.values():
        if not isinstance(base, bases.Conv1D):
            raise unmatched.not_transposed(base.kind)
