"""The model with slots in it: attaches planned adapters, switches, merges and removes them."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..checks import doubts, refuse
from ..checks.errors import StateError
from ..layers.quant import packed
from ..methods.config import PeftConfig
from .copies import SavedModule
from .plan import Plan, plan
from .prompts import NAME, PromptSlot
from .slots import Slot, Wrapper, slots


class LayerModel(nn.Module):
    """A model with adapters beside its layers.

    Args:
        model: the base model; it is frozen, and gets its slots in place.
        peft_config: an adapter to begin with; None for none.
        adapter_name: that adapter's name.

    Attributes:
        model: the base model, with slots where adapters stand.
        requantized: whether the last merge packed its layers again.
    """

    requantized = False

    def __init__(
        self,
        model: nn.Module,
        peft_config: PeftConfig | None = None,
        adapter_name: str = "default",
    ):
        super().__init__()
        refuse.adapted(model, slots)
        first = None
        if peft_config is not None:
            first = plan(model, peft_config, adapter_name)
            refuse.attachment(first, {})
        if any(hasattr(module, "quant_state") for module in model.modules()):
            packed.settle(model)  # 4-bit layers of bitsandbytes
        self.model = model
        self.reshapes: list[Any] = []
        # Given back by unload: what was trainable before.
        self._was_trainable = [n for n, p in model.named_parameters() if p.requires_grad]
        model.requires_grad_(False)
        if first is not None:
            self.attach(first)
            names = (adapter_name,)
            self.activate(names, () if first.config.inference_mode else names)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own forward."""
        return self.model(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        # config, generate, device, ...: the model answers
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "model":  # not set yet: there is nobody to ask
                raise
            return getattr(self.model, name)

    def slots(self) -> dict[str, Slot]:
        """The slots, by dotted name inside `self.model`."""
        return slots(self.model)

    def attach(self, plan: Plan) -> None:
        """Put a planned adapter into the model, frozen and not active."""
        if plan.reshape is not None:
            plan.reshape.apply()
            self.reshapes.append(plan.reshape)
        made: dict[nn.Module, nn.Module] = {}
        for path, method in plan.methods.items():
            self._put(path, Wrapper, plan.name, method, made, plan.stand_on.get(path))
        for path, copied in plan.copies.items():
            self._put(path, SavedModule, plan.name, copied, made)
        self._replace(made)
        hold_encoder_layers(self.model, set(made.values()))
        if plan.prompt is not None:
            place = getattr(self.model, NAME, None) or PromptSlot(self.model)
            place.add(self.model, plan.name, plan.prompt.requires_grad_(False))

    def _put(
        self,
        path: str,
        kind: type[Wrapper] | type[SavedModule],
        name: str,
        module: nn.Module,
        made: dict[nn.Module, nn.Module],
        stands_on: nn.Module | None = None,
    ) -> None:
        """Put one module into the slot at `path`; a new slot is noted in `made`."""
        slot = self.model.get_submodule(path)
        if not isinstance(slot, Slot):
            layer, slot = slot, kind(slot if stands_on is None else stands_on)
            # not slot.train(): the layer's own children may be in different modes
            slot.training = slot.adapters.training = layer.training
            made[layer] = slot
        slot.adapters[name] = module.requires_grad_(False)

    def _release(self, slots: list[Slot]) -> None:
        """Take slots out, and put back what stood there."""
        for slot in slots:
            if isinstance(slot, PromptSlot):
                slot.leave(self.model)
        self._replace({s: s.released() for s in slots if not isinstance(s, PromptSlot)})

    def _replace(self, new: dict[nn.Module, nn.Module]) -> None:
        """Put `new[layer]` wherever `layer` stands; one used twice stands in two places."""
        for parent in [m for m in self.model.modules() if m not in new.values()]:
            for name, child in parent._modules.items():  # named_children would skip repeats
                if child in new:
                    parent._modules[name] = new[child]

    def activate(self, names: tuple[str, ...], trained: tuple[str, ...]) -> None:
        """Make `names` the active adapters; train those of `trained` and no others."""
        for slot in self.slots().values():
            slot.activate(names, trained)

    def enable(self, on: bool) -> None:
        """Switch all adapters on or off."""
        for slot in self.slots().values():
            slot.enabled = on

    @property
    def merged(self) -> tuple[str, ...]:
        """The names of the adapters that are merged at the moment."""
        return tuple(dict.fromkeys(n for slot in self.slots().values() for n in slot.merged))

    def merge(self, names: tuple[str, ...], requantize: bool = False) -> None:
        """Merge `names` in all slots, or, if one refuses, in none; `requantize`: see `Wrapper`.

        Raises:
            StateError: something is merged already, a weight is shared, or a layer refuses.
        """
        here = self.slots()
        names = refuse.merge(self.model, here, names, requantize)
        done: list[Slot] = []
        try:
            for slot in here.values():
                slot.merge(names, requantize)
                done.append(slot)
        except Exception:
            for slot in done:
                slot.unmerge()
            raise
        self.requantized = requantize

    def unmerge(self) -> None:
        """Undo the merge in all slots, bit for bit."""
        for slot in self.slots().values():
            if slot.merged:
                slot.unmerge()

    def delete(self, name: str) -> None:
        """Take one adapter out; a slot that holds none any more goes too."""
        for slot in self.slots().values():
            if name in slot.adapters:
                del slot.adapters[name]
                slot.active = tuple(n for n in slot.active if n != name)
        left = [slot for slot in self.slots().values() if not slot.adapters]
        self._release(left)

    def unload(self) -> nn.Module:
        """Take all slots out, and give back what was trainable before; returns the base model."""
        self._release(list(self.slots().values()))
        while self.reshapes:
            self.reshapes.pop().undo()
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name in self._was_trainable)
        return self.model

    def losses(self) -> tuple[list[Any], list[Any]]:
        """What the last merge rounded off: of plain layers, and of layers packed again."""
        wrappers = [slot for slot in self.slots().values() if isinstance(slot, Wrapper)]
        again = [w.base_layer for w in wrappers if w.aside is not None]
        return [w.loss for w in wrappers], [m for m in again if hasattr(m, "rounding")]


class LoraModel(LayerModel):
    """`LoraModel(model, LoraConfig(...), "default")`: the layers' part of a `PeftModel` alone."""


class Disabled:
    """What `with model.disable_adapter():` enters; called without `with`, it says so.

    Args:
        layers: the `LayerModel` whose adapters are switched off inside.
    """

    def __init__(self, layers: LayerModel):
        self.layers, self.entered = layers, False
        self.states: dict[Slot, bool] = {}
        self.merged: tuple[str, ...] = ()

    def __enter__(self) -> None:
        self.entered = True
        self.states = {slot: slot.enabled for slot in self.layers.slots().values()}
        self.merged = self.layers.merged
        self.layers.unmerge()
        self.layers.enable(False)

    def __exit__(self, *_: Any) -> None:
        for slot, enabled in self.states.items():
            slot.enabled = enabled
        if self.merged:
            self.layers.merge(self.merged, self.layers.requantized)

    def __del__(self) -> None:
        if not getattr(self, "entered", True):
            doubts.not_entered()


def hold_encoder_layers(model: nn.Module, slots: set[nn.Module]) -> None:
    """Let PyTorch's own encoder layers call their parts, of which some are `slots` now.

    In eval mode `nn.TransformerEncoderLayer` computes from its parts' weights, past what stands
    beside them, unless one of the parts has a hook.
    """
    for layer in model.modules():
        if isinstance(layer, nn.TransformerEncoderLayer):
            for part in slots.intersection(layer.children()):
                part.register_forward_pre_hook(unnested)


def unnested(slot: nn.Module, args: Any) -> None:
    """A hook that is there, and refuses nested tensors, which adapters cannot add to."""
    if args and getattr(args[0], "is_nested", False):
        raise StateError(
            "this nn.TransformerEncoder packs a padded batch into a nested tensor, to which no "
            "adapter can add: set use_nested_tensor = False on it"
        )
