"""The one idea: a PEFT method is a small trainable module beside a frozen layer.

    x ──► before(x) ──► frozen layer ──► after(x, y) ──► y

A *method* says what happens before and after, and, if it can, how it folds into W. The *wrapper*
keeps methods by adapter name beside one frozen layer, and switches, merges and unmerges them.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from . import bases, merging
from .config import PeftConfig
from .errors import MinipeftError, StateError, listed
from .quant import packed
from .rows import Rows

C = TypeVar("C", bound=PeftConfig)


class Method(nn.Module, Generic[C]):
    """A small trainable module beside a frozen layer; every method of the course is one of these.

    A subclass gives `for_layer`, `count`, and what it does: `before`, `after`, or both. `fold` is
    for methods that can be merged; `view` and `select` for those that stand beside other layers
    than linear ones, or choose them by another rule; `companions` for those that some option puts
    beside further layers.
    """

    # What `view` takes, for an error.
    stands_beside = (
        "linear layers (nn.Linear, Conv1D, or a layer with in_features and out_features)"
    )
    # Whether `before` changes the input: then W takes it last when several adapters are merged.
    changes_input = False
    # Whether `fold` changes W; one that changes b only can be merged into any layer with a bias.
    changes_matrix = True
    # Whether it computes from W beside the layer, and so answers otherwise once W has changed.
    reads_matrix = False
    # A layer that takes the frozen one's place with the method; a tuple hides it from nn.Module.
    rebase: tuple[nn.Module, ...] = ()

    @classmethod
    def view(cls, layer: nn.Module) -> bases.Base | None:
        """How the method sees a layer, or None if it cannot stand beside it."""
        return bases.view(layer)

    @classmethod
    def select(cls, layers: dict[str, nn.Module], config: C, model: nn.Module) -> list[str] | None:
        """The dotted names in `layers` that `config` means; None: by the rule of target_modules."""
        return None

    @classmethod
    def companions(
        cls,
        model: nn.Module,
        layers: dict[str, nn.Module],
        found: dict[str, bases.Base],
        config: C,
        *,
        every: bool,
    ) -> dict[str, bases.Base]:
        """Layers beside those `found` that an option other than target_modules asks for.

        Args:
            model, layers: the model, and its modules by dotted name.
            found: those that `config` means so far.
            every: demand that the option means something in this model.
        """
        return {}

    @classmethod
    def for_layer(cls, base: bases.Base, config: C) -> Method[Any]:
        """The method's module for one layer, on the layer's device."""
        raise NotImplementedError(f"{cls.__name__} must say how it is built: for_layer")

    @classmethod
    def count(cls, base: bases.Base, config: C) -> int:
        """How many parameters the module has beside this layer: the formula, on its widths."""
        raise NotImplementedError(f"{cls.__name__} must say how it is counted: count")

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


REGISTRY: dict[str, tuple[type[PeftConfig], type[Method[Any]]]] = {}


def register(config_class: type[PeftConfig], method_class: type[Method[Any]]) -> None:
    """Make a method known to `get_peft_model`, saving and loading, by its config's `peft_type`."""
    name = config_class.peft_type
    REGISTRY[str(getattr(name, "value", name))] = (config_class, method_class)


def method_of(config: PeftConfig) -> type[Method[Any]]:
    """The method class that a config asks for."""
    if config.peft_type not in REGISTRY:
        raise MinipeftError(
            f"no method is registered for {type(config).__name__} (peft_type={config.peft_type!r});"
            f" known: {listed(REGISTRY)}; register(ConfigClass, MethodClass) adds one"
        )
    return REGISTRY[config.peft_type][1]


class Slot(nn.Module):
    """A place in the model where adapters can stand, by name; switched on and off together.

    Attributes:
        adapters: the modules, by adapter name.
        active: the names in use here, in order.
        enabled: False inside `with model.disable_adapter()`.
        merged: the names whose effect is in the base layer at the moment.
        rows: during a call with `adapter_names`, which adapter answers which row.
    """

    rows: Rows | None = None

    def __init__(self) -> None:
        super().__init__()
        self.adapters = nn.ModuleDict()
        self.active: tuple[str, ...] = ()
        self.enabled = True
        self.merged: tuple[str, ...] = ()

    def activate(self, names: tuple[str, ...], trained: tuple[str, ...]) -> None:
        """Use those of `names` that stand here; train those of `trained` and no others."""
        self.active = tuple(name for name in names if name in self.adapters)
        for name, adapter in self.adapters.items():
            adapter.requires_grad_(name in trained)

    def merge(self, names: tuple[str, ...], requantize: bool = False) -> None:
        """Put the effect of those of `names` that stand here into the base layer."""
        raise NotImplementedError

    def unmerge(self) -> None:
        """Undo `merge`, to the bit."""
        raise NotImplementedError

    def released(self) -> nn.Module:
        """What stands in the model once the adapters are gone."""
        raise NotImplementedError


class Wrapper(Slot):
    """Methods beside one frozen layer, `base_layer`: the very object that stood in the model."""

    original_weight: Tensor | None
    original_bias: Tensor | None

    def __init__(self, base_layer: nn.Module):
        super().__init__()
        self.base_layer = base_layer
        # While merged, what was there before: subtracting would not give the same bits. Not saved.
        self.register_buffer("original_weight", None, persistent=False)
        self.register_buffer("original_bias", None, persistent=False)
        self.packed_layer: tuple[nn.Module, ...] = ()  # a tuple hides it from nn.Module
        self.loss = merging.NONE

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """x (..., in) -> before -> frozen layer -> after -> (..., out)."""
        if self.rows is not None:
            return self.rows.through(self.adapters, self.base_layer, x, *args, **kwargs)
        # What is merged acts in the weights already; what is active and not merged, still here.
        names = self.active if self.enabled else ()
        live: list[Any] = [self.adapters[name] for name in names if name not in self.merged]
        for method in live:
            if type(method).before is not Method.before:
                x = method.before(x)
        y: Tensor = self.base_layer(x, *args, **kwargs)
        for method in live:
            y = method.after(x, y)
        return y

    def __getattr__(self, name: str) -> Any:
        if name in (inside := self.__dict__.get("_modules", {})):
            return inside[name]  # base_layer and adapters, in every forward
        # Models ask their layers for weight, bias, in_features, nf: the frozen layer answers.
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_layer":  # not set yet: there is nobody to ask
                raise
            return getattr(self.base_layer, name)

    @torch.no_grad()
    def merge(self, names: tuple[str, ...], requantize: bool = False) -> None:
        """W, b <- fold(W, b) for each name in turn (see `merging.fold`, and for its errors).

        A packed layer makes way for a plain one, or with `requantize` for one of its kind.
        """
        here = [name for name in names if name in self.adapters]
        if not here:
            return
        methods: list[Any] = [self.adapters[name] for name in here]
        # The input is changed for all of them: ℓ ⊙ x meets W + ΔW, so it is folded in last.
        methods.sort(key=lambda method: bool(method.changes_input))
        base = self._base()
        weight, bias, self.loss = merging.fold(base, methods, type(self.base_layer).__name__, here)
        assert base is not None
        if weight is not None and base.packed:
            old, both = self.base_layer, base.bias if bias is None else bias
            self.base_layer = packed.rebuilt(old, weight, both, requantize)
            self.loss = merging.NONE if requantize else self.loss
            self.packed_layer = (old,)
        elif weight is not None:
            self.original_weight = base.matrix().clone()
            base.write(weight)
        if bias is not None and base.bias is not None and not self.packed_layer:
            self.original_bias = base.bias.clone()
            base.bias.copy_(bias)
        self.merged = tuple(here)

    @torch.no_grad()
    def unmerge(self) -> None:
        """Put back the weights kept by `merge`: bit for bit what was there."""
        if self.packed_layer:
            device = next((p.device for p in self.base_layer.parameters()), None)
            self.base_layer = self.packed_layer[0].to(device)
        base: Any = self._base()
        if self.original_weight is not None:
            base.write(self.original_weight)
        if self.original_bias is not None:
            base.bias.copy_(self.original_bias)
        self.original_weight = self.original_bias = None
        self.packed_layer = self.merged = ()
        self.loss = merging.NONE

    def _base(self) -> bases.Base | None:
        return bases.shaped(self.base_layer) or bases.biased(self.base_layer)

    def released(self) -> nn.Module:
        """The base layer."""
        return self.base_layer
