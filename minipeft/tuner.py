"""The model with slots in it: plans adapters, attaches, switches, merges and removes them.

A *plan* holds an adapter that is complete, checked, even filled from a file, and not yet attached.
Whatever can be refused is refused while planning, so a refused call leaves the model as it was.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from . import refuse
from .config import LayerConfig, PeftConfig
from .core import Method, Slot, Wrapper, method_of
from .errors import ConfigTypeError, StateError, listed
from .families import model_type
from .prompts import NAME, PromptSlot
from .quant import packed
from .refuse import slots
from .saved import SavedModule
from .targets import find_heads, find_targets, resolve_default
from .virtual import PromptConfig, PromptMethod


@dataclass
class Plan:
    """An adapter ready to be attached.

    Attributes:
        name: its name.
        config: its own copy of the config, with the default targets resolved.
        methods: the method modules, by the dotted name of the layer they go beside.
        prompt: the module with the virtual tokens, for a method that has them.
        copies: the modules trained whole, by the dotted name of the module they stand for.
    """

    name: str
    config: PeftConfig
    methods: dict[str, Method[Any]]
    copies: dict[str, nn.Module]
    prompt: PromptMethod[Any] | None = None


def plan(model: nn.Module, config: PeftConfig, name: str, *, every: bool = True) -> Plan:
    """Check everything and build the adapter beside the model; the model is not touched.

    Args:
        model: the model, with or without adapters in it.
        config: what to build.
        name: the adapter's name.
        every: demand that each entry of `target_modules` matches; False for what comes from a
            file, whose values also stand for a prompt's own start.

    Raises:
        ConfigTypeError, AdapterNameError, TargetError: what is wrong, and the fix.
    """
    if not isinstance(config, (LayerConfig, PromptConfig)):
        raise ConfigTypeError(
            f"the config must be a minipeft config such as LoraConfig(r=8), "
            f"got {type(config).__name__}"
        )
    refuse.bad_name(model, name)
    method: Any = method_of(config)
    refuse.mixture(model, isinstance(config, PromptConfig))
    if isinstance(config, PromptConfig):
        heads = find_heads(model, config)
        refuse.clash(model, (), heads)
        known: Any = config.of_model(model, keys=not method.inserted)
        method.reader(model)  # a model without a place for the virtual tokens refuses here
        prompt = method.for_model(model, config, fresh=every).train(model.training)
        return Plan(name, replace(copy.deepcopy(config), **known), {}, copies_of(heads), prompt)
    targets = find_targets(model, config, every=every)
    heads = find_heads(model, config)
    refuse.clash(model, targets, heads)
    methods = {path: method.for_layer(base, config) for path, base in targets.items()}
    for path, module in methods.items():
        module.train(targets[path].layer.training)
    refuse.rebase(model, methods)
    own = copy.deepcopy(config.in_family(model_type(model)))
    if own.default_targets:  # a method without such a table finds its layers by another rule
        own = replace(own, target_modules=resolve_default(model, config))
    if heads:
        own.modules_to_save = config.heads()
    return Plan(name, own, methods, copies_of(heads))


def copies_of(heads: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """A copy of each module that is to be trained whole, from the original, not from a copy."""
    return {
        path: copy.deepcopy(head.original_module if isinstance(head, SavedModule) else head)
        for path, head in heads.items()
    }


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
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name in self._was_trainable)
        return self.model


class LoraModel(LayerModel):
    """`LoraModel(model, LoraConfig(...), "default")`: the layers' part of a `PeftModel` alone."""
