"""layer_replication: a deeper model out of the same weights, with a LoRA of its own in each copy.

    layer_replication=[(0, 4), (2, 5)]   layers 0 1 2 3 and 2 3 4: seven out of five

What is shared are the base weights, which cost their memory once; each copy has its own A and B,
which cost theirs. (Lecture note: 000_456609471e9b7c6d.txt, lines 92-108, says both.) The attention
of each copy has its own place in the cache. Merging is refused: two copies share the W into which
each would put another ΔW.
"""

from __future__ import annotations

import copy
import numbers
from typing import Any

from torch import nn

from ...checks import unfit
from ...checks.errors import ConfigError, ConfigTypeError
from ...checks.say import shown
from ..method import Option


def order_of(ranges: list[list[int]]) -> list[int]:
    """[(0, 4), (2, 5)] -> [0, 1, 2, 3, 2, 3, 4]."""
    return [layer for start, end in ranges for layer in range(start, end)]


def pairs(name: str, value: Any) -> list[list[int]]:
    """The rule of `layer_replication`: a list of (start, end) with 0 ≤ start < end."""
    say = f"{name} must be a list of (start, end) pairs, such as [(0, 4), (2, 5)]"
    if not isinstance(value, (list, tuple)) or not value:
        raise ConfigTypeError(f"{say}, got {shown(value)}")
    for pair in value:
        two = isinstance(pair, (list, tuple)) and len(pair) == 2
        if not two or any(isinstance(n, bool) or not isinstance(n, numbers.Integral) for n in pair):
            raise ConfigTypeError(f"{say}, got {shown(pair)} in it")
        if not 0 <= pair[0] < pair[1]:
            raise ConfigError(f"{say} with 0 <= start < end, got {pair!r}")
    return [[int(start), int(end)] for start, end in value]


class ReplicatedLayers(nn.ModuleList):
    """The longer list; it knows what it was made of.

    Attributes:
        ranges: (start, end) pairs.
    """

    ranges: list[list[int]]


class Replication:
    """A model's list of layers, and the longer one that takes its place.

    Args:
        model: the model; it is not changed until `apply`.
        ranges: (start, end) pairs.

    Raises:
        TargetError: the model has no such list, or the ranges pass its end.
    """

    def __init__(self, model: nn.Module, ranges: list[list[int]]):
        self.ranges, order = ranges, order_of(ranges)
        self.path, old = find_layers(model)
        parent, _, self.name = self.path.rpartition(".")
        self.parent = model.get_submodule(parent)
        if max(order) >= len(old):
            raise unfit.past_the_end(ranges, max(order), model, len(old))
        shared = {id(t): t for t in [*old.parameters(), *old.buffers()]}
        old_config: Any = model.config
        new_config = copy.deepcopy(old_config)  # other models may use the old one
        new_config.num_hidden_layers = len(order)
        kinds = getattr(old_config, "layer_types", None)
        if kinds is not None:
            new_config.layer_types = [kinds[n] for n in order]
        memo: dict[int, Any] = {**shared, id(old_config): new_config}
        new = ReplicatedLayers(copy.deepcopy(old[n], dict(memo)) for n in order)
        new.training, new.ranges = old.training, ranges
        for place, layer in enumerate(new):
            inside: list[Any] = [m for m in layer.modules() if hasattr(m, "layer_idx")]
            for module in inside:
                module.layer_idx = place  # the attention's place in the cache
        holders = [m for m in model.modules() if getattr(m, "config", None) is old_config]
        holders = [m for m in holders if not any(m is inner for inner in old.modules())]
        self.layers, self.configs, self.holders = (old, new), (old_config, new_config), holders

    def _put(self, which: int) -> None:
        setattr(self.parent, self.name, self.layers[which])
        for module in self.holders:
            module.config = self.configs[which]

    def apply(self) -> None:
        """Put the longer list into the model."""
        self._put(1)

    def undo(self) -> None:
        """Put the model's own list back."""
        self._put(0)

    def modules(self, given: dict[str, nn.Module]) -> dict[str, nn.Module]:
        """A model's modules by dotted name, `given`, as they will be with the longer list."""
        longer = {f"{self.path}.{name}": m for name, m in self.layers[1].named_modules() if name}
        found: dict[str, nn.Module] = {}
        for name, module in given.items():
            if name == self.path:
                found |= {name: self.layers[1], **longer}
            elif not name.startswith(f"{self.path}."):
                found[name] = module
        return found


def find_layers(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The list of the model's layers, and its dotted name.

    Raises:
        TargetError: there is none, or more than one.
    """
    config = getattr(model, "config", None)
    count = getattr(config, "num_hidden_layers", None)
    lists = [
        (path, module)
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    ]
    depth = min((path.count(".") for path, _ in lists), default=0)
    outer = [(path, module) for path, module in lists if path.count(".") == depth]
    if len(outer) != 1 or getattr(config, "is_encoder_decoder", False):
        raise unfit.no_single_stack(model, len(outer))
    return outer[0]


class Replicate(Option):
    """`layer_replication`: the model becomes deeper before its first adapter comes."""

    unless = {"layer_replication": None}

    def reshape(self, config: Any, model: nn.Module) -> Replication | None:
        """What becomes of the model's list of layers; None: it was made longer already.

        Raises:
            StateError: it has adapters, of another list or of none. TargetError: see `Replication`.
        """
        given = config.layer_replication
        there = next((m for m in model.modules() if isinstance(m, ReplicatedLayers)), None)
        if there is not None and given == there.ranges:
            return None
        return Replication(model, given)
