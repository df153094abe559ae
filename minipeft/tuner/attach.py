"""The model with slots in it: attaches planned adapters, switches, merges and removes them."""

from __future__ import annotations

from typing import Any

from torch import nn

from . import refuse
from .config import PeftConfig
from .core import Slot, Wrapper
from .errors import StateError, listed
from .lengths import hold_encoder_layers
from .plans import Plan, plan
from .prompts import NAME, PromptSlot
from .quant import packed
from .refuse import slots
from .saved import SavedModule


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
        refuse.non_model(model)
        first = plan(model, peft_config, adapter_name) if peft_config is not None else None
        packed.settle(model)
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
        return dict(slots(self.model))

    def attach(self, plan: Plan) -> None:
        """Put a planned adapter into the model, frozen and not active."""
        if plan.reshape is not None:
            plan.reshape.apply()
            self.reshapes.append(plan.reshape)
        parts: list[tuple[dict[str, Any], type[Wrapper] | type[SavedModule]]] = [
            (plan.methods, Wrapper),
            (plan.copies, SavedModule),
        ]
        made: dict[nn.Module, nn.Module] = {}
        for modules, kind in parts:
            for path, module in modules.items():
                slot = self.model.get_submodule(path)
                if not isinstance(slot, Slot):
                    layer, slot = slot, kind(*getattr(module, "rebase", ()) or (slot,))
                    # not slot.train(): the layer's own children may be in different modes
                    slot.training = slot.adapters.training = layer.training
                    made[layer] = slot
                slot.adapters[plan.name] = module.requires_grad_(False)
                module.__dict__.pop("rebase", None)  # it stands in the model now
        self._replace(made)
        hold_encoder_layers(self.model, set(made.values()))
        if plan.prompt is not None:
            place = getattr(self.model, NAME, None) or PromptSlot(self.model)
            place.add(self.model, plan.name, plan.prompt.requires_grad_(False))

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
        refuse.non_bool("requantize", requantize)
        if self.merged:
            raise StateError(
                f"{listed(self.merged)} already merged; call unmerge_adapter() first, "
                f"or the update would count twice"
            )
        refuse.shared_weights(self.model, names)
        names = refuse.merge_order(self.model, names)
        done: list[Slot] = []
        try:
            for slot in self.slots().values():
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


class LoraModel(LayerModel):
    """`LoraModel(model, LoraConfig(...), "default")`: the layers' part of a `PeftModel` alone."""
