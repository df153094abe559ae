"""An adapter on disk, in Hugging Face peft's format: two files in a folder.

adapter_config.json         the config, one JSON object
adapter_model.safetensors   the tensors, named as `keys.py` says
prompt_encoder.safetensors  on request: the network of a P-tuning or a projected prefix, to resume
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from ..checks import doubts, misfit
from ..checks.errors import CheckpointError, ConfigError, TargetError
from ..checks.rules import flag
from ..methods.config import PeftConfig
from ..methods.virtual_tokens import PromptConfig
from ..tuner.plan import Choice, Plan, build, choose, counted
from ..tuner.slots import Wrapper
from . import atomic, digests, files
from .files import CONFIG, ENCODER, FILES, OURS, WEIGHTS
from .keys import (
    FROZEN,
    PROMPT,
    fill,
    finite,
    get_peft_model_state_dict,
    parts_of,
    shapes_of,
    tensors_of,
    without_frozen,
)
from .prompt_network import find_encoder, load_encoder

# --- saving --------------------------------------------------------------------------------------


def save_all(
    model: nn.Module,
    configs: Mapping[str, PeftConfig],
    directory: str | os.PathLike[str],
    save_encoder: bool = False,
) -> None:
    """Write adapters, given by name: "default" into the directory, others into subfolders."""
    if not isinstance(directory, (str, os.PathLike)) or not str(directory):
        raise misfit.no_folder(directory)
    if not configs:
        raise misfit.nothing_to_save()
    places = {name: Path(directory, "" if name == "default" else name) for name in configs}
    for name, folder in places.items():
        if name != "default" and folder.is_symlink():
            raise misfit.leads_out(folder, directory, name)
    for name in configs if save_encoder else ():  # before anything is written
        find_encoder(model, name)
    for name, config in configs.items():
        save(model, config, name, places[name], save_encoder)


def save(
    model: nn.Module,
    config: PeftConfig,
    name: str,
    folder: str | os.PathLike[str],
    save_encoder: bool = False,
) -> None:
    """Write one adapter's two files, each whole or not at all.

    Args:
        model: the base model with the adapter in it.
        config, name: the adapter's.
        folder: where to; made if it is not there.
        save_encoder: write the network that computes the virtual tokens as well.

    Raises:
        CheckpointError: the folder is a file, or the adapter has no data (it is on "meta").
    """
    place = Path(folder)
    if place.exists() and not place.is_dir():
        raise CheckpointError(f"{place} is a file; give a folder to save into")
    tensors = get_peft_model_state_dict(model, name)
    if any(tensor.is_meta for tensor in tensors.values()):
        raise CheckpointError(f"adapter {name!r} is on the meta device: it has shapes but no data")
    if bad := [key for key, tensor in tensors.items() if not finite(tensor)]:
        doubts.not_finite(name, bad)
    values = {**config.to_dict(), "inference_mode": True}
    mine = {p: m for p, m in model.named_modules() if isinstance(m, Wrapper) and name in m.adapters}
    if "fan_in_fan_out" in values:  # peft must be told how the layers store W
        into = [w for w in mine.values() if w.adapters[name].changes_matrix]
        values["fan_in_fan_out"] = all(wrapper.transposed for wrapper in into)
    plain = {key: t.detach().cpu().clone().contiguous() for key, t in tensors.items()}
    header = {"format": "pt", **{key: str(values.pop(key)) for key in OURS & values.keys()}}
    for option in config.asked():
        header |= option.header({path: wrapper.frozen() for path, wrapper in mine.items()})
    # Options by name; inside one the order stays: of two patterns the first decides.
    text = json.dumps(dict(sorted(values.items())), indent=2) + "\n"
    header |= digests.header_for(json.loads(text), plain)
    encoder = find_encoder(model, name) if save_encoder else None

    def write(stage: Path) -> None:
        if encoder is not None:
            own = {key: t.detach().cpu().contiguous() for key, t in encoder.state_dict().items()}
            save_file(own, stage / ENCODER)
        save_file(plain, stage / WEIGHTS, metadata=header)
        digests.settle(stage / WEIGHTS)
        (stage / CONFIG).write_text(text, encoding="utf-8")

    try:
        atomic.replace_files(place, FILES, write)
    except (OSError, SafetensorError) as error:
        raise misfit.not_written(name, place, error) from error


# --- loading -------------------------------------------------------------------------------------


def load(
    model: nn.Module,
    model_id: str | os.PathLike[str],
    name: str,
    is_trainable: bool,
    **where: Any,
) -> Plan:
    """Read an adapter from a folder and check that it fits; the model is not touched.

    Args:
        model: the base model; model_id: the folder, or a name on the hub.
        name: what to call it; is_trainable: whether it will be trained.
        where: `revision`, `subfolder` and `token`, as `find_folder` takes them.

    Returns:
        a `Plan` with the file's values in it.

    Raises:
        CheckpointNotFoundError: no folder, or no adapter in it.
        CheckpointError: a damaged file, or an adapter for another base.
    """
    flag("is_trainable", is_trainable)
    folder = files.find_folder(model_id, **where)
    with files.opened(folder) as (config, file, weights):
        config.inference_mode = not is_trainable
        header = file.metadata() or {}
        told = digests.read(header, weights)
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        if frozen := {key: file.get_tensor(key) for key in shapes if key.endswith(FROZEN)}:
            without_frozen(model, frozen, weights)
            shapes = {key: shape for key, shape in shapes.items() if key not in frozen}
        edited = files.changed(config, told.get("config", {}))
        planned = fit(model, config, name, shapes, folder, edited)
        for option in config.asked():
            option.loaded(header, planned.frozen(), folder)
        parts, given_tensors = parts_of(planned), {}
        for key, tensor in tensors_of(parts).items():
            given = file.get_tensor(key)
            if given.is_floating_point() != tensor.is_floating_point():
                raise misfit.other_dtype(weights, given.dtype, key, tensor.dtype)
            if not finite(given):
                raise misfit.spoilt(weights, key)
            digests.check(key, given, told, weights)
            given_tensors[key] = given.to("meta") if tensor.is_meta else given
        if planned.prompt is not None and not planned.prompt.is_stored():
            load_encoder(planned.prompt, folder, given_tensors[PROMPT])
            parts = [part for part in parts if part[1] is not planned.prompt]
        fill(parts, given_tensors)
    if edited:
        doubts.edited(folder / CONFIG, edited)
    made, here = config.base_model_name_or_path, getattr(model, "config", None)
    if made and made != getattr(here, "_name_or_path", None):
        doubts.other_base(folder, made, str(getattr(here, "_name_or_path", "") or ""))
    return planned


def fit(
    model: nn.Module,
    config: PeftConfig,
    name: str,
    shapes: dict[str, tuple[int, ...]],
    folder: Path,
    edited: list[str],
) -> Plan:
    """Plan the adapter on this model and compare its keys and shapes with the file's."""
    why = f"; {CONFIG} was changed since ({'; '.join(edited)})" if edited else ""
    try:
        choice = choose(model, config)
        asked, held = size_of(choice, shapes, folder)
        if asked > held:
            misfit.larger(asked, held, folder, CONFIG, model, config)
        planned = build(choice, name)
    except (TargetError, ConfigError) as error:
        raise misfit.does_not_fit(folder, model, config, error, why) from error
    own = shapes_of(tensors_of(parts_of(planned)))
    wrong = own != shapes and misfit.other_tensors(
        own, shapes, f"the adapter in {folder}", config, why
    )
    if wrong:
        raise wrong
    return planned


def size_of(choice: Choice, shapes: Mapping[str, tuple[int, ...]], folder: Path) -> tuple[int, int]:
    """How many numbers the config asks for in this model, and how many the files hold."""
    held = sum(map(math.prod, shapes.values()))
    if not isinstance(choice.config, PromptConfig):
        return sum(counted(choice).values()), held
    if choice.config.inference_mode:
        widths = [shape[-1] for shape in shapes.values() if shape]
        return choice.config.tokens * max(widths, default=1), held
    file = atomic.find(folder, ENCODER)  # with the network that computes them
    held += file.stat().st_size if file.is_file() else 0
    return choice.placement.count(choice.layout.model, choice.config), held
