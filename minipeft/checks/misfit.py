"""What is said of an adapter's files that do not fit the model, or cannot be used.

Names and shapes are handed in; nothing is read or built here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from .errors import CheckpointError, ConfigTypeError, StateError
from .say import listed

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
