"""What is said of an adapter's files that do not fit the model, or cannot be used.

Names and shapes are handed in; nothing is read or built here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from .errors import (
    CheckpointError,
    CheckpointNotFoundError,
    ConfigError,
    ConfigTypeError,
    StateError,
)
from .say import did_you_mean, listed

Shapes = Mapping[str, tuple[int, ...]]


def other_tensors(
    own: Shapes, given: Shapes, what: str, config: Any, why: str = ""
) -> CheckpointError | None:
    """What to say of a file's tensors that are not those that the model needs; None: they are.

    Args:
        own: shapes by name on disk, as the model needs them; given: as the file has them.
        what: how the error calls what was given.
        config: the adapter's; None: nothing is known of its base.
        why: what may have led to it.
    """
    said = []
    if lost := [key for key in own if key not in given]:
        said.append(f"lacks {len(lost)} tensors that this model needs: {listed(lost, 3)}")
    if extra := [key for key in given if key not in own and repeated(key) not in own]:
        said.append(
            f"has {len(extra)} tensors that have no place in this model: {listed(extra, 3)}"
        )
    for key in own:
        need = own[key]
        if given.get(key, need) != need:
            said.append(f"has {key!r} of shape {given[key]}, this model needs {need}")
            other = [wanted for has, wanted in zip(given[key], need, strict=False) if has != wanted]
            if config is not None and other and getattr(config, "r", None) not in other:
                said.append("it was made for a model of other widths")
            break
    if not said:
        return None
    said.extend(other_base(own, given))
    return CheckpointError(f"{what} {'; '.join(said)}{made_for(config)}{why}")


def other_base(own: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """What the names say of the model that an adapter was made for, if it is another than this."""
    layers = [
        {int(n) for key in keys for n in re.findall(r"\.(\d+)\.", key)} for keys in (own, given)
    ]
    if own and given and not own.keys() & given.keys():
        return ["it was made for a model with other names, so for another architecture"]
    if layers[0] and layers[1] and max(layers[0]) != max(layers[1]):
        has, needs = (max(found) + 1 for found in layers)
        return [f"it stands beside {needs} numbered layers, here they are {has}: another size?"]
    return []


def repeated(key: str) -> str:
    """The name that a head's bias has: with bias="all" peft writes it under three names."""
    for part in (".original_module.bias", ".modules_to_save.bias"):
        key = key.removesuffix(part) + ".bias" if key.endswith(part) else key
    return key


def made_for(config: Any) -> str:
    """` (it was made for "gpt2")`, if the config says for what."""
    base = getattr(config, "base_model_name_or_path", None)
    return f" (it was made for {base!r})" if base else ""


def refuse_non_tensors(given: Any) -> None:
    """Refuse what is no state dict."""
    if not isinstance(given, Mapping) or not all(isinstance(t, Tensor) for t in given.values()):
        raise ConfigTypeError(
            f"a state dict maps names to tensors, as get_peft_model_state_dict gives it; got "
            f"{type(given).__name__}"
        )


def no_folder(directory: Any) -> ConfigTypeError:
    """What to say of what is no folder to save into."""
    return ConfigTypeError(
        f"an adapter is saved into a folder (a string or a Path), got {directory!r}"
    )


def nothing_to_save() -> StateError:
    """What to say where all adapters are gone."""
    return StateError("there is no adapter to save: all were deleted, or unloaded")


def leads_out(folder: Path, directory: Any, name: str) -> CheckpointError:
    """What to say of a link in the place of an adapter's folder."""
    return CheckpointError(
        f"{folder} is a link to {folder.resolve()}, outside of {directory}; take it away, "
        f"or save adapter {name!r} somewhere else"
    )


def larger(asked: int, held: int, folder: Path, config_file: str, model: Any, config: Any) -> None:
    """Refuse a config that asks for far more numbers than the files hold, before memory is taken.

    A little more is left to `other_tensors`, which says it better.

    Raises:
        CheckpointError: r=1000000000 for a file of a few kilobytes, say.
    """
    if asked > 16 * held + 1_000_000:
        raise CheckpointError(
            f"the adapter in {folder} holds {held:,} numbers, and its {config_file} asks for "
            f"{asked:,} in this {type(model).__name__}{made_for(config)}; the config is another "
            f"adapter's, or was changed"
        )


# --- finding a folder ----------------------------------------------------------------------------


def no_source(model_id: Any) -> ConfigTypeError:
    """What to say of what is no folder to load from."""
    return ConfigTypeError(
        f"an adapter is loaded from a folder (a string or a Path), got {model_id!r}"
    )


def revision_of_folder(revision: str, folder: Path) -> ConfigError:
    """A revision, which only names on the hub have, of a folder."""
    return ConfigError(
        f"revision={revision!r} is for names on the hub, and {folder} is a folder here; "
        f"leave it out"
    )


def no_subfolder(
    folder: Path, subfolder: str | None, there: Iterable[str]
) -> CheckpointNotFoundError:
    """A subfolder that is not there."""
    return CheckpointNotFoundError(
        f"{folder} has no folder {subfolder!r}; the folders in it: {listed(sorted(there))}"
    )


def unreachable(
    model_id: str, revision: str | None, error: Exception, files: tuple[str, str]
) -> CheckpointNotFoundError:
    """A name that is no folder, and that the hub did not give."""
    at = f" at revision {revision!r}" if revision else ""
    return CheckpointNotFoundError(
        f"there is no folder {model_id!r}, and it could not be fetched from the Hugging "
        f"Face hub{at} ({type(error).__name__}); give the folder that holds {files[0]} and "
        f"{files[1]}"
    )


# --- the config ----------------------------------------------------------------------------------


def no_config(folder: Path, config_file: str, there: Iterable[str]) -> CheckpointNotFoundError:
    """A folder without an adapter's config."""
    return CheckpointNotFoundError(
        f"{folder} has no {config_file}, so it is no adapter's folder; there are "
        f"{listed(sorted(there))}"
    )


def no_method(file: Path, kind: Any, known: Iterable[str]) -> CheckpointError:
    """A config that names no method that there is."""
    known = list(known)
    near = did_you_mean(str(kind), known)
    return CheckpointError(
        f"{file} must name its method as peft_type, one of {listed(known)}; got {kind!r}{near}"
    )


def strange_options(
    file: Path, config_class: str, strange: Mapping[str, Any], free: Collection[str]
) -> CheckpointError:
    """Options of a config that its class lacks; `free` are those that the file does not give."""
    return CheckpointError(
        f"{file} asks for what minipeft's {config_class} does not have: "
        + ", ".join(
            f"{key}={value!r}{did_you_mean(key, free)}" for key, value in sorted(strange.items())
        )
    )


# --- the tensors ---------------------------------------------------------------------------------


def cut_off(weights: Path, error: Exception) -> CheckpointError:
    """A weights file that cannot be read to its end."""
    return CheckpointError(
        f"{weights} is damaged or cut off ({error}); save or download the adapter again"
    )


def other_header(weights: Path) -> CheckpointError:
    """A header whose config is not what its hash says."""
    return CheckpointError(
        f"{weights} is damaged: the config in its header is not the one that was saved; save "
        f"or download the adapter again"
    )


def other_hash(weights: Path, key: str, entry: str) -> CheckpointError:
    """A tensor that is not what its hash says; `entry` is where the header has the hashes."""
    return CheckpointError(
        f"{weights} is damaged or was changed: {key!r} is not what was saved (its hash is "
        f"another); save or download the adapter again, or, if it was changed on purpose, "
        f"write the file without the header's entry {entry!r}"
    )


def other_dtype(weights: Path, given: Any, key: str, need: Any) -> CheckpointError:
    """Whole numbers where floating ones are needed, or the reverse."""
    return CheckpointError(f"{weights} holds {given} for {key!r}, this model needs {need}")


def spoilt(weights: Path, key: str) -> CheckpointError:
    """A tensor that is not finite."""
    return CheckpointError(f"{weights}: {key!r} holds NaN or infinity; train or download it again")


def own_weight(what: Any, path: str) -> CheckpointError:
    """A frozen weight in the file that is not the model's."""
    return CheckpointError(
        f"{what} brings a frozen weight of its own for {path!r}, other than this "
        f"model's; load the base model that the adapter was made for"
    )


def does_not_fit(
    folder: Path, model: Any, config: Any, error: Exception, why: str
) -> CheckpointError:
    """A config that cannot be planned on this model; `why`: what may have led to it."""
    return CheckpointError(
        f"the adapter in {folder} does not fit this {type(model).__name__}"
        f"{made_for(config)}: {error}{why}"
    )


# --- saving, and the network that computes virtual tokens ----------------------------------------


def not_written(name: str, place: Path, error: Exception) -> CheckpointError:
    """A folder that cannot be written to."""
    return CheckpointError(
        f"adapter {name!r} cannot be written to {place}: {error}; make room or check the "
        f"folder's rights. An adapter that was there is there still"
    )


def no_network(name: str) -> CheckpointError:
    """save_encoder=True for an adapter without a network."""
    return CheckpointError(
        f"save_encoder=True, but adapter {name!r} has no network that computes virtual tokens: its "
        f"two files hold all there is; leave save_encoder out, or name others in selected_adapters"
    )


def tokens_only(folder: Path) -> CheckpointError:
    """A network that was not saved, and is needed to train on."""
    return CheckpointError(
        f"{folder} has the virtual tokens and not the network that computes them, so it cannot "
        f"be trained on; save with save_pretrained(folder, save_encoder=True), or load with "
        f"is_trainable=False"
    )
