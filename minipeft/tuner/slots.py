"""Places in a model where adapters stand: beside a frozen layer, around a module or the model.

    x ──► before(x) ──► frozen layer ──► after(x, y) ──► y

A wrapper keeps methods by adapter name beside one frozen layer, and switches, merges and unmerges
them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..layers import bases
from ..layers.quant import packed
from ..methods.method import Method
from . import merging
from .rows import Rows


class Slot(nn.Module):
    """A place in the model where adapters can stand, by name; switched on and off together.

    Attributes:
        adapters: the modules, by adapter name.
        active: the names in use here, in order.
        enabled: False inside `with model.disable_adapter()`.
        merged: the names whose effect is in the base layer at the moment.
        rows: during a call with `adapter_names`, which adapter answers which row.
    """

    # What stands here: "layer" methods beside a layer, "whole" modules, or a "prompt".
    kind = ""
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


@dataclass
class Aside:
    """A layer that is out of the model for a while, and not one of its modules."""

    layer: nn.Module


class Wrapper(Slot):
    """Methods beside one frozen layer, `base_layer`: the very object that stood in the model.

    Attributes:
        transposed: whether the layer stores W as (in, out), which Hugging Face peft must be told.
        aside: while merged, the packed layer whose place a plain one has taken.
        loss: what the weight's dtype took from the last merge.
    """

    kind = "layer"
    original_weight: Tensor | None
    original_bias: Tensor | None

    def __init__(self, base_layer: nn.Module):
        super().__init__()
        self.base_layer = base_layer
        # While merged, what was there before: subtracting would not give the same bits. Not saved.
        self.register_buffer("original_weight", None, persistent=False)
        self.register_buffer("original_bias", None, persistent=False)
        self.aside: Aside | None = None
        self.loss = merging.NONE
        self.transposed = bases.is_conv1d(base_layer)

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
            self.aside = Aside(old)
        elif weight is not None:
            self.original_weight = base.matrix().clone()
            base.write(weight)
        if bias is not None and base.bias is not None and self.aside is None:
            self.original_bias = base.bias.clone()
            base.bias.copy_(bias)
        self.merged = tuple(here)

    @torch.no_grad()
    def unmerge(self) -> None:
        """Put back the weights kept by `merge`: bit for bit what was there."""
        if self.aside is not None:
            device = next((p.device for p in self.base_layer.parameters()), None)
            self.base_layer = self.aside.layer.to(device)
        base: Any = self._base()
        if self.original_weight is not None:
            base.write(self.original_weight)
        if self.original_bias is not None:
            base.bias.copy_(self.original_bias)
        self.original_weight = self.original_bias = None
        self.aside, self.merged = None, ()
        self.loss = merging.NONE

    def _base(self) -> bases.Base | None:
        return bases.shaped(self.base_layer) or bases.biased(self.base_layer)

    def frozen(self) -> nn.Module:
        """The layer that the adapters were made beside, merged or not."""
        return self.base_layer if self.aside is None else self.aside.layer

    def released(self) -> nn.Module:
        """The base layer."""
        return self.base_layer


def slots(model: nn.Module) -> dict[str, Slot]:
    """The slots in a model, by dotted name."""
    return {path: m for path, m in model.named_modules() if isinstance(m, Slot)}


def named_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The model's modules by name as before any adapter: a slot counts as what it holds."""
    inside: tuple[str, ...] = ()
    for name, module in model.named_modules():
        if name.startswith(inside) and inside:
            continue
        if isinstance(module, Slot):
            inside += (f"{name}.",)
        yield name, module.base_layer if isinstance(module, Wrapper) else module
