"""What the verbs refuse, before anything is changed; each check says the fix.

The model's slots are handed in, by dotted name: a slot has `kind` ("layer", "whole" or "prompt"),
`adapters`, `active`, `enabled` and `merged`. So is the finished plan of an adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from torch import nn

from .errors import (
    AdapterNameError,
    ConfigTypeError,
    MinipeftError,
    StateError,
    TargetError,
)
from .rules import flag
from .say import did_you_mean, listed

# What cannot stand in a folder's name everywhere, or would part a parameter's name.
UNFIT = './\\:*?"<>|'
# What stands for "no adapter" where there is one for each row.
BASE = "__base__"
# Names that our own modules have inside a slot.
OURS = {"base_layer", "adapters", "original_module", "prompt_encoder"}
Slots = Mapping[str, Any]


# --- a model and a config ------------------------------------------------------------------------


def adapted(model: Any, slots: Callable[[nn.Module], Slots]) -> None:
    """Refuse what is no module, or has adapters already."""
    if not isinstance(model, nn.Module):
        raise ConfigTypeError(
            f"the first argument must be the model (an nn.Module), got {type(model).__name__}"
        )
    if slots(model):
        raise StateError(
            "this model has adapters already; add another with add_adapter(name, config) or "
            "load_adapter(folder, name), or get the plain model back with unload()"
        )


def no_config(config: Any) -> ConfigTypeError:
    """What to say of what is no config."""
    return ConfigTypeError(
        f"the config must be a minipeft config such as LoraConfig(r=8), got {type(config).__name__}"
    )


def unregistered(config: Any, known: Iterable[str]) -> MinipeftError:
    """What to say of a config of a method that nobody registered."""
    return MinipeftError(
        f"no method is registered for {type(config).__name__} (peft_type={config.peft_type!r});"
        f" known: {listed(known)}; register(ConfigClass, MethodClass) adds one"
    )


# --- a new adapter -------------------------------------------------------------------------------


def attachment(plan: Any, slots: Slots, reshapes: Collection[Any] = ()) -> None:
    """Refuse an adapter that does not go with what is in the model already.

    Args:
        plan: the adapter, complete and not attached.
        slots: what is in the model.
        reshapes: what changed the model's list of layers before.

    Raises:
        AdapterNameError, StateError, TargetError: why not.
    """
    bad_name(plan.name, plan.layout)
    if not slots:
        return
    other_layers(plan, slots, reshapes)
    mixture(slots, plan.prompt is not None)
    clash(slots, plan.methods, plan.copies)
    for path in plan.stand_on:
        if path in slots:
            raise StateError(
                f"this adapter would change the frozen weight of {path!r}, on which "
                f"{listed(slots[path].adapters)} stand; make it the model's first adapter"
            )


def bad_name(name: Any, layout: Any) -> None:
    """Refuse a name that could not be a folder and a part of a parameter's name."""
    text = isinstance(name, str) and name.isprintable() and len(name) <= 100 and name != BASE
    if not text or not name or any(c in UNFIT or c.isspace() for c in name):
        raise AdapterNameError(
            f"an adapter's name must be a non-empty string that can name a folder, without dots, "
            f"slashes, spaces and other signs such as : and *, got {name!r}"
        )
    known = {part for path in layout.modules for part in path.split(".")}
    own = {key for module in layout.modules.values() for key in module._parameters}
    if hasattr(nn.ModuleDict(), name) or name in known | own | OURS:
        raise AdapterNameError(
            f"{name!r} cannot name an adapter: it already names a module, a parameter or an "
            f"attribute; choose another, such as 'my_{name}'"
        )


def other_layers(plan: Any, slots: Slots, reshapes: Collection[Any]) -> None:
    """Refuse an adapter for another number of layers than those that the model has by now."""
    given = getattr(plan.config, "layer_replication", None)
    there = next((shape.ranges for shape in reshapes), None)
    if there is not None and given != there:
        raise StateError(
            f"this model's layers were replicated for its first adapter; give further ones the "
            f"same layer_replication={there!r}, got {given!r}"
        )
    if there is None and given is not None:
        raise StateError(
            f"layer_replication={given!r} makes the model another one, and it has adapters "
            f"already; make this one its first"
        )


def mixture(slots: Slots, virtual: bool) -> None:
    """Refuse to put virtual tokens on a model with adapters in its layers, and the reverse."""
    kind = "layer" if virtual else "prompt"
    there = dict.fromkeys(n for s in slots.values() if s.kind == kind for n in s.adapters)
    if there:
        what = "virtual tokens", "adapters beside its layers"
        raise StateError(
            f"this model has {what[virtual]} already ({listed(there)}), and {what[not virtual]} "
            f"do not mix with them; delete_adapter those first, or take a second copy of the model"
        )


def clash(slots: Slots, layers: Iterable[str], heads: Iterable[str]) -> None:
    """Refuse a module that one adapter trains whole, and another adapts or has layers in."""
    for path in layers:
        if path in slots and slots[path].kind == "whole":
            raise TargetError(
                f"{path!r} is trained whole by {listed(slots[path].adapters)} (modules_to_save), "
                f"so it cannot be adapted as well; delete_adapter that one first"
            )
    for path in heads:
        inside = [p for p, slot in slots.items() if slot.kind == "layer"]
        inside = [p for p in inside if p == path or p.startswith(f"{path}.")]
        if inside:
            raise TargetError(
                f"modules_to_save: {path!r} is, or holds, what another adapter adapts "
                f"({listed(inside)}), so it cannot be trained whole; delete_adapter that one first"
            )


def another(known: Collection[str], merged: Collection[str], verb: str, name: Any) -> None:
    """Refuse to add an adapter while one is merged, or under a name that is taken."""
    changes(merged, verb)
    taken(known, name)


def taken(known: Collection[str], name: Any) -> None:
    """Refuse the name of an adapter that is there."""
    no_string(name)
    if name in known:
        raise AdapterNameError(
            f"there is an adapter {name!r} already; choose another name, or "
            f"delete_adapter({name!r}) first; the adapters are {listed(known)}"
        )


def no_string(name: Any) -> None:
    """Refuse what is no string where one adapter is named."""
    if not isinstance(name, str):
        raise AdapterNameError(
            f"an adapter's name must be a string, got {type(name).__name__} {name!r}; the order is "
            f"add_adapter(name, config), load_adapter(folder, name)"
        )


# --- adapters that are there ---------------------------------------------------------------------


def unknown(known: Collection[str], names: Iterable[str]) -> None:
    """Refuse names of adapters that are not there."""
    there = f"the adapters are {listed(known)}" if known else "all were deleted, or unloaded"
    for name in names:
        if name not in known:
            raise AdapterNameError(
                f"there is no adapter {name!r}{did_you_mean(str(name), known) or ';'} {there}"
            )


def names(
    what: str, given: Any, known: Collection[str], default: tuple[str, ...] | None = None
) -> tuple[str, ...]:
    """Names of adapters that are there, each once, from a name or several; None: the default.

    Raises:
        AdapterNameError: no string, no list that holds strings only, or an unknown name.
    """
    names = several(what, given, default)
    unknown(known, names)
    return names


def several(what: str, given: Any, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
    """The names, each once, from a name or several, or the default for None."""
    names: Any = default if given is None else (given,) if isinstance(given, str) else given
    names = list(names) if isinstance(names, Iterable) else [names]
    if not all(isinstance(name, str) for name in names) or (given is not None and not names):
        raise AdapterNameError(f"{what} must be a name or a list of names, got {given!r}")
    return tuple(dict.fromkeys(names))  # one named twice would count twice


def changes(merged: Collection[str], verb: str) -> None:
    """Refuse to change adapters while one is in the weights."""
    if merged:
        raise StateError(
            f"{verb} while {listed(merged)} is merged into the weights; unmerge_adapter() first"
        )


def deletion(known: Collection[str], layers: Any, name: Any) -> None:
    """Refuse to delete what is not there, or while one of the adapters in `layers` is merged."""
    no_string(name)
    unknown(known, (name,))
    changes(layers.merged, "delete_adapter")


def switch(known: Collection[str], layers: Any, given: Any, mode: Any) -> tuple[str, ...]:
    """The names to switch to; refuses unknown or merged ones, and those that exclude each other.

    Args:
        known: the adapters' names; layers: what has the slots.
        given: a name or several; mode: True, False or None.
    """
    chosen, slots = names("adapter_name", given, known), layers.slots()
    changes(merged_in(slots), "set_adapter")
    two_copies(slots, chosen)
    if mode is not None:
        flag("inference_mode", mode)
    return chosen


def merged_in(slots: Slots) -> tuple[str, ...]:
    """The names of the adapters that are merged at the moment."""
    return tuple(dict.fromkeys(n for slot in slots.values() for n in slot.merged))


def two_copies(slots: Slots, chosen: tuple[str, ...]) -> None:
    """Refuse to activate two prompts, or two adapters that each bring a copy of one module."""
    for path, slot in slots.items():
        here = [name for name in chosen if name in slot.adapters]
        if len(here) > 1 and slot.kind == "prompt":
            raise StateError(
                f"{listed(here)} are prompts, and only one can stand before the text; activate one"
            )
        if len(here) > 1 and slot.kind == "whole":
            raise StateError(
                f"{listed(here)} each have their own {path!r}, and only one can be in use; "
                f"activate one of them"
            )


def rows(
    known: Collection[str], slots: Slots, adapter_names: Any, batch: int | None, again: bool
) -> None:
    """Refuse adapters by row that could not be told apart.

    Args:
        known: the adapters' names.
        slots: where they stand.
        adapter_names: what was given: a name for each row.
        batch: how many rows there are, where that is known.
        again: whether the layers will run a second time in the backward pass.
    """
    if not isinstance(adapter_names, (list, tuple)):
        raise ConfigTypeError(
            f"adapter_names must be a list with a name for each row of the batch ({BASE!r} for "
            f"no adapter), got {adapter_names!r}"
        )
    if not adapter_names or len(adapter_names) != (batch or len(adapter_names)):
        many = "one name for each row" if batch is None else f"{batch} names, one for each row"
        raise AdapterNameError(f"adapter_names needs {many}, got {len(adapter_names)}")
    unknown([*known, BASE], adapter_names)
    changes(merged_in(slots), "adapter_names")
    if any(slot.kind == "prompt" for slot in slots.values()):
        raise StateError(
            "virtual tokens stand before all rows or none, so adapter_names cannot choose "
            "them; set_adapter(name), and run the rows of each adapter as a batch of their own"
        )
    if again:
        raise StateError(
            "gradient checkpointing runs the layers again in the backward pass, where nothing "
            "says which adapter is for which row; model.gradient_checkpointing_disable()"
        )


# --- merging -------------------------------------------------------------------------------------


def merge(
    model: nn.Module, slots: Slots, chosen: tuple[str, ...], requantize: Any
) -> tuple[str, ...]:
    """The names in the order in which they act; refuses a merge that would change the answer.

    Raises:
        StateError: something is merged already, a weight is shared, or others stay beside it.
    """
    flag("requantize", requantize)
    if there := merged_in(slots):
        raise StateError(
            f"{listed(there)} already merged; call unmerge_adapter() first, "
            f"or the update would count twice"
        )
    shared_weights(model, slots, chosen)
    return merge_order(slots, chosen)


def shared_weights(model: nn.Module, slots: Slots, chosen: tuple[str, ...]) -> None:
    """Refuse to merge into a weight that another layer uses as well."""
    users: dict[int, list[str]] = {}
    for path, module in model.named_modules():  # a module used twice comes once
        for name, parameter in module.named_parameters(recurse=False):
            where = f"{path}.{name}".replace(".base_layer.", ".")
            users.setdefault(id(parameter), []).append(where)
    for path, slot in slots.items():
        weight = slot.base_layer._parameters.get("weight") if slot.kind == "layer" else None
        shared = users.get(id(weight), [])
        here = [slot.adapters[name] for name in chosen if name in slot.adapters]
        if len(shared) > 1 and any(method.changes_matrix for method in here):
            copies = [module for module in model.modules() if hasattr(module, "ranges")]
            if any(weight is parameter for each in copies for parameter in each.parameters()):
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


def merge_order(slots: Slots, chosen: tuple[str, ...]) -> tuple[str, ...]:
    """The names in the order in which they act, if merging them leaves the answer as it is.

    What is merged acts before what stays beside the layer: ℓ ⊙ (W + ΔW)x is not ℓ ⊙ Wx + ΔWx.
    Adapters of one kind may change places, others not; and a changed input is changed for all.

    Raises:
        StateError: an active adapter that stays beside the layer acts before one that is merged.
    """
    two_copies(slots, chosen)
    active: tuple[str, ...] = ()
    for path, slot in slots.items():
        here, rank = [n for n in chosen if n in slot.adapters], list(slot.active).index
        active = max(active, slot.active, key=len)
        for name in [n for n in here if n in slot.active]:
            one = slot.adapters[name]
            for other in [n for n in slot.active if n not in chosen]:
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
    return tuple(sorted(chosen, key=lambda n: active.index(n) if n in active else -1))


def no_matrix(layer: str) -> StateError:
    """What to say of a layer without a matrix to merge into."""
    return StateError(
        f"{layer} cannot take a merge: its W is no plain matrix; keep the adapter beside it"
    )


def other_bias(names: Iterable[str], layer: str, without: bool) -> StateError:
    """What to say of a merge that needs a bias where there is none (`without`), or the reverse."""
    return StateError(
        f"merging {listed(names)} would {'add' if without else 'drop'} a bias, and a "
        f"{layer} cannot change whether it has one; keep the adapter beside it"
    )


def not_finite(names: Iterable[str]) -> StateError:
    """What to say of a merge that spoils the weights."""
    return StateError(
        f"merging {listed(names)} gives weights that are not finite; "
        f"look for NaN or very large numbers in the adapter"
    )


# --- an adapter's tensors ------------------------------------------------------------------------


def not_in(name: str, model: Any) -> AdapterNameError:
    """What to say of an adapter whose tensors a model does not have."""
    return AdapterNameError(f"there is no adapter {name!r} in this {type(model).__name__}")
