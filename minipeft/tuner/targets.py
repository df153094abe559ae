"""Which layers a config means: names in, layers out; when there are none, the near misses named."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import nn

from . import bases
from .config import HEADS, LayerConfig, TaskType
from .core import method_of
from .errors import TargetError, did_you_mean, listed
from .families import model_type
from .heads import find_heads
from .names import matches, named_layers, original

ALL_LINEAR = "all-linear"


def resolve_default(model: nn.Module, config: LayerConfig) -> str | list[str]:
    """`config.target_modules` as a list, the architecture's default looked up.

    Raises:
        TargetError: nothing was asked for and the architecture has no default.
    """
    if config.target_modules is not None:
        target = config.target_modules
        return target if isinstance(target, str) else list(target)
    kind = model_type(model)
    if kind not in config.default_targets:
        what = f"model type {kind!r}" if kind else f"{type(model).__name__}, a plain nn.Module"
        raise TargetError(
            f"target_modules was left out, and there is no default for {what} (there is for "
            f"{', '.join(sorted(config.default_targets))}); name the layers: {linear_names(model)}"
        )
    return list(config.default_targets[kind])


def find_targets(
    model: nn.Module, config: LayerConfig, *, every: bool = True
) -> dict[str, bases.Base]:
    """The layers that `config` means, by dotted name; nothing is changed.

    Args:
        model: any module, with or without adapters.
        config: its `target_modules`, and `heads()`, which are not adapted as well.
        every: demand that each entry of a list matches (a saved adapter may name more).

    Raises:
        TargetError: nothing matches, or a match is no layer that can be adapted.
    """
    method = method_of(config)
    layers = {name: module for name, module in named_layers(model) if name}  # not the model itself
    saved = find_heads(model, config, every=every)
    originals = {name: original(layer) for name, layer in layers.items()}
    chosen = method.select(originals, config, model)
    target = resolve_default(model, config) if chosen is None else chosen
    if chosen is not None:
        hits = chosen
    elif isinstance(target, str) and target.lower() == ALL_LINEAR:
        skip = {*output_layers(model, config.task_type), *saved}
        hits = [n for n, m in layers.items() if bases.is_linear(original(m)) and n not in skip]
    else:
        hits = [name for name in layers if matches(target, name)]
        refuse_unmatched(target, list(layers), hits, every)
    inside = tuple(f"{name}." for name in saved)  # a module trained whole is not adapted as well
    for entry in [] if isinstance(target, str) or chosen is not None or not every else target:
        if all(n in saved or n.startswith(inside) for n in layers if matches([entry], n)):
            raise TargetError(
                f"{entry!r} is named in target_modules, and is trained whole by modules_to_save or "
                f"as the task's head ({listed(saved)}): name it in one of them only"
            )
    hits = [n for n in hits if n not in saved and not (inside and n.startswith(inside))]
    if config.exclude_modules is not None:
        out = [name for name in layers if matches(config.exclude_modules, name)]
        refuse_unmatched(config.exclude_modules, list(layers), out, every, "exclude_modules")
        hits = [name for name in hits if name not in out]
    hits = config.narrow(hits, every) if hits else hits
    if not hits:
        minus = f" without exclude_modules={config.exclude_modules!r}"
        raise TargetError(
            f"target_modules={target!r}{minus * (config.exclude_modules is not None)} leaves no "
            f"layer to adapt in {type(model).__name__}; its linear layers: {linear_names(model)}"
        )
    found: dict[str, bases.Base] = {}
    for name in hits:
        base = method.view(original(layers[name]))
        if base is None:
            raise TargetError(unsupported(name, original(layers[name]), target, method))
        found[name] = base
    found |= method.companions(model, originals, found, config, every=every)
    for name, base in found.items():
        base.name, base.model, base.fresh = name, model, every
    return found


def refuse_unmatched(
    target: str | Collection[str],
    names: list[str],
    hits: list[str],
    every: bool,
    option: str = "target_modules",
) -> None:
    """Raise TargetError for the entries that match no name, with near misses."""
    known = [*names, *(name.rsplit(".", 1)[-1] for name in names)]
    if isinstance(target, str):
        if not hits and (every or option == "target_modules"):
            as_list = any(matches([target], name) for name in names)
            fix = (
                f"; as a list, [{target!r}], it would match by suffix"
                if as_list
                else did_you_mean(target, known)
            )
            raise TargetError(
                f"{option}={target!r} matches no module: a string is a regular expression "
                f"that must match the whole dotted name, such as {''.join(names[-1:])!r}{fix}"
            )
        return
    lost = [entry for entry in target if not any(matches([entry], name) for name in names)]
    if lost and (every or (len(lost) == len(target) and option == "target_modules")):
        hints = "".join(did_you_mean(entry, known) for entry in lost)
        last = dict.fromkeys(name.rsplit(".", 1)[-1] for name in names if name)
        raise TargetError(
            f"{option}={lost!r} matches no module{hints or ';'} "
            f"the model's modules end in {listed([n for n in last if not n.isdigit()], 40)}"
        )


def unsupported(name: str, layer: nn.Module, target: Any, method: Any) -> str:
    """What to say of a match that is no linear layer: what is it, and which layers are near."""
    inside = [n for n, m in named_layers(layer) if n and bases.view(original(m)) is not None]
    fix = f"; the linear layers inside it: {listed(inside)}" if inside else ""
    return (
        f"target_modules={target!r} matches {name!r}, a {type(layer).__name__}; only "
        f"{method.stands_beside} can be adapted{fix}"
    )


def output_layers(model: nn.Module, task_type: TaskType | str | None) -> list[str]:
    """The layers that "all-linear" leaves out: the language-model head or the classifier."""
    get = getattr(model, "get_output_embeddings", None)
    head = get() if callable(get) else None
    if head is None and task_type == TaskType.SEQ_CLS:
        heads = [getattr(model, name, None) for name in HEADS[TaskType.SEQ_CLS]]
        head = next((h for h in heads if h is not None), None)
    return [name for name, module in named_layers(model) if head is not None and module is head]


def linear_names(model: nn.Module) -> str:
    """The distinct last names of the model's linear layers, for an error."""
    names = [n for n, m in named_layers(model) if n and bases.is_linear(original(m))]
    return listed(dict.fromkeys(name.rsplit(".", 1)[-1] for name in names), most=20)
