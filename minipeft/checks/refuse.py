"""What the verbs refuse: each check raises before anything is changed, and says the fix."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from torch import nn

from .core import Slot, Wrapper
from .errors import (
    AdapterNameError,
    ConfigTypeError,
    StateError,
    TargetError,
    did_you_mean,
    listed,
)
from .prompts import PromptSlot
from .rows import BASE
from .saved import SavedModule

# What cannot stand in a folder's name everywhere, or would part a parameter's name.
UNFIT = './\\:*?"<>|'


def slots(model: nn.Module) -> Iterator[tuple[str, Slot]]:
    """The slots in the model, by dotted name."""
    return ((path, m) for path, m in model.named_modules() if isinstance(m, Slot))


def adapter_names(model: nn.Module) -> set[str]:
    """The names of all adapters in the model."""
    return {name for _, slot in slots(model) for name in slot.adapters}


def bad_name(model: nn.Module, name: Any) -> None:
    """Refuse a name that could not be a folder and a part of a parameter's name.

    Raises:
        AdapterNameError: empty, with a dot, slash or space, or a name used inside the model.
    """
    text = isinstance(name, str) and name.isprintable() and len(name) <= 100 and name != BASE
    if not text or not name or any(c in UNFIT or c.isspace() for c in name):
        raise AdapterNameError(
            f"an adapter's name must be a non-empty string that can name a folder, without dots, "
            f"slashes, spaces and other signs such as : and *, got {name!r}"
        )
    known = {part for path, _ in model.named_modules() for part in path.split(".")}
    parameters = {path.rsplit(".", 1)[-1] for path, _ in model.named_parameters()}
    if hasattr(nn.ModuleDict(), name) or name in (known | parameters) - adapter_names(model):
        raise AdapterNameError(
            f"{name!r} cannot name an adapter: it already names a module, a parameter or an "
            f"attribute; choose another, such as 'my_{name}'"
        )


def non_model(model: Any) -> None:
    """Refuse what is no module, or has adapters already."""
    if not isinstance(model, nn.Module):
        raise ConfigTypeError(
            f"the first argument must be the model (an nn.Module), got {type(model).__name__}"
        )
    if any(isinstance(module, Slot) for module in model.modules()):
        raise StateError(
            "this model has adapters already; add another with add_adapter(name, config) or "
            "load_adapter(folder, name), or get the plain model back with unload()"
        )


def unknown(known: Collection[str], names: Iterable[str]) -> None:
    """Refuse names of adapters that are not there."""
    there = f"the adapters are {listed(known)}" if known else "all were deleted, or unloaded"
    for name in names:
        if name not in known:
            raise AdapterNameError(
                f"there is no adapter {name!r}{did_you_mean(str(name), known) or ';'} {there}"
            )


def rebase(model: nn.Module, methods: Mapping[str, Any]) -> None:
    """Refuse a method that changes the frozen layer itself, where other adapters stand on it."""
    there = dict(slots(model))
    for path, method in methods.items():
        if method.rebase and path in there:
            raise StateError(
                f"this adapter would change the frozen weight of {path!r}, on which "
                f"{listed(there[path].adapters)} stand; make it the model's first adapter"
            )


def taken(known: Collection[str], name: Any) -> None:
    """Refuse the name of an adapter that is there."""
    non_name(name)
    if name in known:
        raise AdapterNameError(
            f"there is an adapter {name!r} already; choose another name, or "
            f"delete_adapter({name!r}) first; the adapters are {listed(known)}"
        )


def non_name(name: Any) -> None:
    """Refuse what is no string where one adapter is named."""
    if not isinstance(name, str):
        raise AdapterNameError(
            f"an adapter's name must be a string, got {type(name).__name__} {name!r}; the order is "
            f"add_adapter(name, config), load_adapter(folder, name)"
        )


def non_names(what: str, names: Any, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
    """The names, each once, from a name or several, or the default for None; refuses the rest.

    Raises:
        AdapterNameError: no string, and no list that holds strings only, at least one.
    """
    given: Any = default if names is None else (names,) if isinstance(names, str) else names
    given = list(given) if isinstance(given, Iterable) else [given]
    if not all(isinstance(name, str) for name in given) or (names is not None and not given):
        raise AdapterNameError(f"{what} must be a name or a list of names, got {names!r}")
    return tuple(dict.fromkeys(given))  # one named twice would count twice


def clash(model: nn.Module, layers: Iterable[str], heads: Iterable[str]) -> None:
    """Refuse a module that one adapter trains whole, and another adapts or has layers in.

    Raises:
        TargetError: the names, and what stands there.
    """
    taken = dict(slots(model))
    for path in layers:
        if isinstance(taken.get(path), SavedModule):
            raise TargetError(
                f"{path!r} is trained whole by {listed(taken[path].adapters)} (modules_to_save), "
                f"so it cannot be adapted as well; delete_adapter that one first"
            )
    for path in heads:
        inside = [p for p, slot in taken.items() if isinstance(slot, Wrapper)]
        inside = [p for p in inside if p == path or p.startswith(f"{path}.")]
        if inside:
            raise TargetError(
                f"modules_to_save: {path!r} is, or holds, what another adapter adapts "
                f"({listed(inside)}), so it cannot be trained whole; delete_adapter that one first"
            )


def merged(names: Collection[str], verb: str) -> None:
    """Refuse to change adapters while one is in the weights."""
    if names:
        raise StateError(
            f"{verb} while {listed(names)} is merged into the weights; unmerge_adapter() first"
        )


def mixture(model: nn.Module, virtual: bool) -> None:
    """Refuse to put virtual tokens on a model with adapters in its layers, and the reverse."""
    kind = Wrapper if virtual else PromptSlot
    there = dict.fromkeys(n for _, s in slots(model) if isinstance(s, kind) for n in s.adapters)
    if there:
        what = "virtual tokens", "adapters beside its layers"
        raise StateError(
            f"this model has {what[virtual]} already ({listed(there)}), and {what[not virtual]} "
            f"do not mix with them; delete_adapter those first, or take a second copy of the model"
        )


def two_copies(model: nn.Module, names: tuple[str, ...]) -> None:
    """Refuse to activate two prompts, or two adapters that each bring a copy of one module."""
    for path, slot in slots(model):
        here = [name for name in names if name in slot.adapters]
        if len(here) > 1 and isinstance(slot, PromptSlot):
            raise StateError(
                f"{listed(here)} are prompts, and only one can stand before the text; activate one"
            )
        if len(here) > 1 and isinstance(slot, SavedModule):
            raise StateError(
                f"{listed(here)} each have their own {path!r}, and only one can be in use; "
                f"activate one of them"
            )


def shared_weights(model: nn.Module, names: tuple[str, ...]) -> None:
    """Refuse to merge into a weight that another layer uses as well."""
    users: dict[int, list[str]] = {}
    for path, module in model.named_modules():  # a module used twice comes once
        for name, parameter in module.named_parameters(recurse=False):
            where = f"{path}.{name}".replace(".base_layer.", ".")
            users.setdefault(id(parameter), []).append(where)
    for path, slot in slots(model):
        weight = slot.base_layer._parameters.get("weight") if isinstance(slot, Wrapper) else None
        shared = users.get(id(weight), [])
        here = [slot.adapters[name] for name in names if name in slot.adapters]
        if len(shared) > 1 and any(method.changes_matrix for method in here):
            lists = [module for module in model.modules() if hasattr(module, "replicated")]
            if any(weight is parameter for copies in lists for parameter in copies.parameters()):
                raise StateError(
                    f"layer_replication lets {listed(shared)} share one weight, into which each "
                    f"would put another change; keep the adapter unmerged"
                )
            others = [where for where in shared if where != f"{path}.weight"]
            raise StateError(
                f"merging into {path!r} would also change {listed(others)}: they share one "
                f"weight; give {path!r} its own copy first "
                f"(layer.weight = nn.Parameter(layer.weight.clone()), "
                f"config.tie_word_embeddings = False), or keep the adapter unmerged"
            )


def merge_order(model: nn.Module, names: tuple[str, ...]) -> tuple[str, ...]:
    """The names in the order in which they act, if merging them leaves the answer as it is.

    What is merged acts before what stays beside the layer: ℓ ⊙ (W + ΔW)x is not ℓ ⊙ Wx + ΔWx.
    Adapters of one kind may change places, others not; and a changed input is changed for all.

    Raises:
        StateError: an active adapter that stays beside the layer acts before one that is merged.
    """
    two_copies(model, names)
    active: tuple[str, ...] = ()
    for path, slot in slots(model):
        here, rank = [n for n in names if n in slot.adapters], list(slot.active).index
        active = max(active, slot.active, key=len)
        for name in [n for n in here if n in slot.active]:
            one = slot.adapters[name]
            for other in [n for n in slot.active if n not in names]:
                if slot.adapters[other].reads_matrix:  # and b, which DoRA takes off and puts back
                    raise StateError(
                        f"merging {name!r} alone would change what {other!r} computes from the "
                        f"weight of {path!r}; merge {listed(slot.active)} together, or "
                        f"set_adapter({name!r}) first"
                    )
                same = type(slot.adapters[other]) is type(one)
                everyone = bool(getattr(one, "changes_input", False))
                if not same and (everyone or rank(other) < rank(name)):
                    raise StateError(
                        f"merging {name!r} alone would change the answer: {other!r} stays beside "
                        f"{path!r} and acts before it; merge {listed(slot.active)} together, or "
                        f"set_adapter({name!r}) first"
                    )
    return tuple(sorted(names, key=lambda n: active.index(n) if n in active else -1))


def non_bool(name: str, value: Any) -> None:
    """Refuse anything but True and False."""
    if not isinstance(value, bool):
        raise ConfigTypeError(f"{name} must be True or False, got {value!r}")
