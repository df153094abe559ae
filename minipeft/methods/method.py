"""The one idea: a PEFT method is a small trainable module beside a frozen layer.

    x ──► before(x) ──► frozen layer ──► after(x, y) ──► y

Two objects make a method. The module (`Method`) says what happens before and after, and, if it can,
how it folds into W. The `Placement`, at the end of a method's file, says what must be known before
there is a module: beside which layers it stands, and how it is built and counted.

A further option of a method (`Option`) is a piece with a file of its own, which nobody enters
unless a config asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

from ..checks.errors import StateError
from ..layers import bases
from .config import PeftConfig

C = TypeVar("C", bound=PeftConfig)


class Method(nn.Module, Generic[C]):
    """A small trainable module beside a frozen layer; every method of the course is one of these.

    A subclass gives `before`, `after`, or both; and `fold`, if it can be merged.
    """

    # Whether `before` changes the input: then W takes it last when several adapters are merged.
    changes_input = False
    # Whether `fold` changes W; one that changes b only can be merged into any layer with a bias.
    changes_matrix = True
    # Whether it computes from W beside the layer, and so answers otherwise once W has changed.
    reads_matrix = False
    # Its rank, and the highest that could have an effect beside its layer.
    ranks = (0, 0)
    # What peft calls the parameters on disk, where it has another name: {ours: theirs}.
    on_disk: Mapping[str, str] = {}

    def before(self, x: Tensor) -> Tensor:
        """What the frozen layer gets: (..., in) -> (..., in)."""
        return x

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        """What the next layer gets, from the input (..., in) and the frozen output (..., out)."""
        return y

    def fold(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """W (out, in) and b (out,) of the one layer that does what both do."""
        raise StateError(
            f"{type(self).__name__} cannot be merged: it does not fold into one matrix"
        )


@dataclass(frozen=True)
class Layout:
    """A model as it is seen while an adapter is planned: walked once, and not touched.

    Attributes:
        model: the model.
        modules: its modules by dotted name, as before any adapter: a slot counts as what it holds.
        heads: those of them that will be trained whole.
        taken: those that another adapter trains whole.
    """

    model: nn.Module
    modules: dict[str, nn.Module]
    heads: Mapping[str, nn.Module] = field(default_factory=dict)
    taken: Mapping[str, nn.Module] = field(default_factory=dict)


LINEAR = "linear layers (nn.Linear, Conv1D, or a layer with in_features and out_features)"


@dataclass(frozen=True)
class Placement:
    """Where a method stands, and how it is built there: what is known before there is a module.

    Attributes:
        build: (layer, config) -> the module beside one layer, on the layer's device.
        count: (layer, config) -> how many parameters that module has: the formula.
        sees: a layer as a `Base`, or None if the method cannot stand beside it.
        beside: what `sees` takes, for an error.
        defaults: the layers that peft adapts when none are named: {config.model_type: suffixes};
            empty where the method finds them by another rule.
        select: (layout, config) -> the dotted names that `config` means, by another rule than
            target_modules'; None: by that rule.
        demand: (layout, config, names) refuses what means nothing in this model.
        resolve: (config, config.model_type) -> options that the family of the model decides.
    """

    build: Callable[[bases.Base, Any], Method[Any]]
    count: Callable[[bases.Base, Any], int]
    sees: Callable[[nn.Module], bases.Base | None] = bases.view
    beside: str = LINEAR
    defaults: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    select: Callable[[Layout, Any], list[str] | None] | None = None
    demand: Callable[[Layout, Any, list[str]], None] | None = None
    resolve: Callable[[Any, str | None], dict[str, Any]] | None = None


class Option:
    """A further option of a method, with a file of its own; its hooks run when it is asked for.

    Attributes:
        when: what asks for it: {the config's field: the value that does}.
        unless: what asks for it too: {the config's field: the only value that does not}.
        beside: kinds of layers that ask for it, whatever the config says.
    """

    when: Mapping[str, Any] = {}
    unless: Mapping[str, Any] = {}
    beside: tuple[type[bases.Base], ...] = ()

    def check(self, config: Any) -> None:
        """Refuse values that the rules of single options let through."""

    def reshape(self, config: Any, model: nn.Module) -> Any:
        """What becomes of the model's list of layers; None: it stays."""
        return None

    def narrow(self, config: Any, names: list[str]) -> list[str]:
        """Those of the layers called `names` that are meant."""
        return names

    def more(self, config: Any, layout: Layout, names: list[str]) -> dict[str, bases.Base]:
        """Further layers, beside those called `names`, where the option stands by itself."""
        return {}

    def demand(
        self, config: Any, layout: Layout, found: Mapping[str, bases.Base], named: list[str]
    ) -> None:
        """Refuse what means nothing in this model; not asked of what comes from a file.

        Args:
            config, layout: as above.
            found: the layers that get the method.
            named: the names that target_modules means, before any option narrowed them.
        """

    def at(self, config: Any, name: str) -> Any:
        """The config as it is for the layer called `name`."""
        return config

    def make(self, config: Any, base: bases.Base) -> Method[Any]:
        """The module beside a layer of the kinds `beside`, instead of the placement's."""
        raise NotImplementedError(f"{type(self).__name__} must say how it is built: make")

    def built(
        self, config: Any, method: Method[Any], base: bases.Base
    ) -> tuple[Method[Any], bases.Base]:
        """What becomes of a module that was made, and the layer that it stands on then."""
        return method, base

    def alone(self, config: Any, base: bases.Base) -> Method[Any]:
        """The module beside one of the layers that `more` gave."""
        raise NotImplementedError(f"{type(self).__name__} must say how it stands alone: alone")

    def count(self, config: Any, base: bases.Base, n: int) -> int:
        """How many parameters there are, if there were n without the option."""
        return n

    def header(self, layers: Mapping[str, nn.Module]) -> dict[str, str]:
        """What the weights file shall say beside the tensors, of the frozen layers by name."""
        return {}

    def loaded(self, header: Mapping[str, str], layers: Mapping[str, nn.Module], at: Any) -> None:
        """Warn of what `header` said of other layers than those that the adapter stands on now."""


# {peft_type: (config class, placement)}
REGISTRY: dict[str, tuple[type[PeftConfig], Any]] = {}


def register(config_class: type[PeftConfig], method: Any, options: tuple[Option, ...] = ()) -> None:
    """Make a method known to `get_peft_model`, saving and loading, by its config's `peft_type`.

    Args:
        config_class: the method's config.
        method: its `Placement`, or a `Method` that has `build` and `count` as the class methods
            `for_layer(base, config)` and `count(base, config)`.
        options: further options, each with a file of its own.
    """
    if isinstance(method, type) and issubclass(method, Method):
        own: Any = method
        method = Placement(build=own.for_layer, count=own.count)
    config_class.pieces = options
    name = config_class.peft_type
    REGISTRY[str(getattr(name, "value", name))] = (config_class, method)
