"""What is said of an adapter's tensors that do not fit the model, or cannot be used."""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from .core import method_of
from .errors import (
    CheckpointError,
    ConfigTypeError,
    DamagedWarning,
    MinipeftError,
    StateError,
    listed,
)
from .files import CONFIG, ENCODER
from .folder import find
from .targets import find_targets
from .virtual import PromptConfig


def refuse_misfit(
    own: Mapping[str, Tensor],
    given: Mapping[str, tuple[int, ...]],
    what: str,
    config: Any,
    why: str = "",
) -> None:
    """Raise CheckpointError unless both have the same keys and shapes."""
    said = []
    if lost := [key for key in own if key not in given]:
        said.append(f"lacks {len(lost)} tensors that this model needs: {listed(lost, 3)}")
    if extra := [key for key in given if key not in own and repeated(key) not in own]:
        said.append(
            f"has {len(extra)} tensors that have no place in this model: {listed(extra, 3)}"
        )
    for key in own:
        need = tuple(own[key].shape)
        if given.get(key, need) != need:
            said.append(f"has {key!r} of shape {given[key]}, this model needs {need}")
            other = [wanted for has, wanted in zip(given[key], need, strict=False) if has != wanted]
            if config is not None and other and getattr(config, "r", None) not in other:
                said.append("it was made for a model of other widths")
            break
    if said:
        said.extend(other_base(own, given))
        raise CheckpointError(f"{what} {'; '.join(said)}{made_for(config)}{why}")


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


def refuse_place(directory: Any, configs: Mapping[str, Any]) -> None:
    """Refuse to save nothing, or into what is no folder, or through a link out of it.

    Raises:
        ConfigTypeError, StateError, CheckpointError: which.
    """
    if not isinstance(directory, (str, os.PathLike)) or not str(directory):
        raise ConfigTypeError(
            f"an adapter is saved into a folder (a string or a Path), got {directory!r}"
        )
    if not configs:
        raise StateError("there is no adapter to save: all were deleted, or unloaded")
    for name in configs.keys() - {"default"}:
        folder = Path(directory, name)
        if folder.is_symlink():
            raise CheckpointError(
                f"{folder} is a link to {folder.resolve()}, outside of {directory}; take it away, "
                f"or save adapter {name!r} somewhere else"
            )


def refuse_larger(
    model: nn.Module, config: Any, shapes: Mapping[str, tuple[int, ...]], folder: Path
) -> None:
    """Refuse a config that asks for far more numbers than the files hold, before memory is taken.

    A little more is left to `refuse_misfit`, which says it better.

    Raises:
        CheckpointError: r=1000000000 for a file of a few kilobytes, say.
    """
    held = sum(map(math.prod, shapes.values()))
    method: Any = method_of(config)
    try:
        if isinstance(config, PromptConfig):
            asked = config.tokens * max(
                (shape[-1] for shape in shapes.values() if shape), default=1
            )
            if not config.inference_mode:  # with the network that computes them
                file = find(folder, ENCODER)
                held += file.stat().st_size if file.is_file() else 0
                asked = method.count_for(model, config)
        else:
            found = find_targets(model, config, every=False)
            asked = sum(method.count(base, config) for base in found.values())
    except MinipeftError:  # planning refuses it for its own reason
        return
    if asked > 16 * held + 1_000_000:
        raise CheckpointError(
            f"the adapter in {folder} holds {held:,} numbers, and its {CONFIG} asks for {asked:,} "
            f"in this {type(model).__name__}{made_for(config)}; the config is another adapter's, "
            f"or was changed"
        )


def finite(tensor: Tensor) -> bool:
    """Whether a tensor holds neither NaN nor infinity; whole numbers do not."""
    wide = tensor.float() if tensor.dtype.itemsize == 1 else tensor  # isfinite knows no float8
    return bool(wide.isfinite().all())


def warn_of_nan(name: str, tensors: Mapping[str, Tensor], calls: int) -> None:
    """Say which of an adapter's tensors hold NaN or infinity: such a file will not load."""
    bad = [key for key, tensor in tensors.items() if not finite(tensor)]
    if bad:
        warnings.warn(
            f"adapter {name!r} holds NaN or infinity in {len(bad)} tensors ({listed(bad, 3)}): its "
            f"training diverged (a smaller learning rate?), and what is saved of it will not load",
            DamagedWarning,
            stacklevel=2 + calls,  # where the verb was called, so many calls above
        )


def warn_of_doubts(file: Path, edited: list[str], model: nn.Module, config: Any) -> None:
    """Say where a config is not the one that was saved, and if it names another base model.

    A base is known by its name on the hub; of one in a folder the name says nothing.
    """
    said = []
    if edited:
        said.append(
            f"{file} is not what was saved with the weights beside it: {'; '.join(edited)}. It is "
            f"used as it is now; check that both files belong together"
        )
    made, here = config.base_model_name_or_path, name_of(model)
    on_the_hub = made and here and not Path(made).exists() and not Path(here).exists()
    if on_the_hub and made.rsplit("/", 1)[-1].lower() != here.rsplit("/", 1)[-1].lower():
        said.append(
            f"the adapter in {file.parent} was made for {made!r}, and this model is {here!r}: it "
            f"fits in its shapes, and means what it was trained to mean beside {made!r} only"
        )
    for text in said:
        warnings.warn(text, DamagedWarning, stacklevel=4)  # where from_pretrained was called


def name_of(model: nn.Module) -> str:
    """What transformers loaded the model by; empty if it made it."""
    return str(getattr(getattr(model, "config", None), "_name_or_path", "") or "")
