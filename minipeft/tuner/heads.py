"""Which modules an adapter trains whole: those asked for, and the new head of a task."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from torch import nn

from ..checks import unmatched
from ..layers.quant.packed import hidden_parameters
from ..methods.config import HEADS, PeftConfig, TaskType, matches
from .copies import SavedModule


def find_heads(modules: Mapping[str, nn.Module], config: PeftConfig) -> dict[str, nn.Module]:
    """The modules trained whole, by dotted name, among `modules`.

    Raises:
        TargetError: an entry of `modules_to_save` matches no module, or a quantized one.
    """
    own = own_heads(config)
    for entry in [entry for entry in config.modules_to_save or () if entry not in own]:
        if not any(matches([entry], name) for name in modules):
            raise unmatched.entry("modules_to_save", entry, modules)
    heads = config.heads()
    found = {n: m for n, m in modules.items() if heads and matches(heads, n)}
    outer = tuple(f"{name}." for name in found)  # what stands inside a head is copied with it
    found = {n: m for n, m in found.items() if not n.startswith(outer)}
    for path, head in found.items():
        if hidden_parameters(head):
            raise unmatched.packed_head(path)
    return found


def own_heads(config: PeftConfig) -> tuple[str, ...]:
    """The names that the head of the config's task has, of which a model has one."""
    return HEADS[TaskType(config.task_type)] if config.task_type in HEADS else ()


def demand_head(model: nn.Module, config: PeftConfig, heads: Mapping[str, nn.Module]) -> None:
    """Refuse a task whose head the model lacks: nobody would notice that none is trained.

    Raises:
        TargetError: with the names of the model's parts.
    """
    transformers_own = hasattr(model, "config")  # a plain module may call its head as it likes
    if own_heads(config) and not heads and transformers_own and not config.modules_to_save:
        raise unmatched.no_head(TaskType(config.task_type), own_heads(config), model)


def copies_of(heads: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """A copy of each module that is to be trained whole, from the original, not from a copy."""
    return {
        path: copy.deepcopy(head.original_module if isinstance(head, SavedModule) else head)
        for path, head in heads.items()
    }
