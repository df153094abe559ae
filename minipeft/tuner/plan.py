"""Plans: an adapter complete, checked, even filled from a file, and not yet attached.

Whatever can be refused is refused while planning, so a refused call leaves the model as it was.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from . import refuse
from .config import LayerConfig, PeftConfig
from .core import Method, method_of
from .errors import ConfigTypeError
from .families import model_type
from .heads import find_heads, refuse_packed
from .methods.patterns import warn_of_ranks
from .saved import SavedModule
from .targets import find_targets, resolve_default
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
        reshape: what changes the model's layers before the adapter comes (see replication.py).
    """

    name: str
    config: PeftConfig
    methods: dict[str, Method[Any]]
    copies: dict[str, nn.Module]
    prompt: PromptMethod[Any] | None = None
    reshape: Any = None


def plan(model: nn.Module, config: PeftConfig, name: str, *, every: bool = True) -> Plan:
    """Check everything and build the adapter beside the model, which is afterwards as it was.

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
    config = replace(config)  # checked again: an option may have been set since it was made
    refuse.bad_name(model, name)
    method: Any = method_of(config)
    refuse.mixture(model, isinstance(config, PromptConfig))
    if isinstance(config, PromptConfig):
        heads = find_heads(model, config, every=every)
        refuse.clash(model, (), heads)
        known: Any = config.of_model(model, keys=not method.inserted)
        method.reader(model)  # a model without a place for the virtual tokens refuses here
        prompt = method.for_model(model, config, fresh=every).train(model.training)
        return Plan(name, replace(copy.deepcopy(config), **known), {}, copies_of(heads), prompt)
    reshape = config.reshaped(model)
    with nullcontext() if reshape is None else reshape.tried():
        return replace(beside_layers(model, config, name, every), reshape=reshape)


def beside_layers(model: nn.Module, config: LayerConfig, name: str, every: bool) -> Plan:
    """A plan for a method that works on layers."""
    method = method_of(config)
    targets = find_targets(model, config, every=every)
    heads = find_heads(model, config, every=every)
    refuse.clash(model, targets, heads)
    methods = {path: method.for_layer(base, config) for path, base in targets.items()}
    for path, module in methods.items():
        module.train(targets[path].layer.training)
    refuse.rebase(model, methods)
    if every:
        warn_of_ranks(methods)
    own = copy.deepcopy(config.in_family(model_type(model)))
    if own.default_targets:  # a method without such a table finds its layers by another rule
        own = replace(own, target_modules=resolve_default(model, config))
    if heads:
        own.modules_to_save = config.heads()
    return Plan(name, own, methods, copies_of(heads))


def copies_of(heads: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """A copy of each module that is to be trained whole, from the original, not from a copy."""
    refuse_packed(heads)
    return {
        path: copy.deepcopy(head.original_module if isinstance(head, SavedModule) else head)
        for path, head in heads.items()
    }
