"""An adapter on disk, in Hugging Face peft's format: two files in a folder.

adapter_config.json         the config, one JSON object
adapter_model.safetensors   the tensors, named as `state.py` says
prompt_encoder.safetensors  on request: the network of a P-tuning or a projected prefix, to resume
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from . import proof, refuse
from .bases import is_conv1d
from .config import LayerConfig, PeftConfig
from .core import Wrapper
from .encoders import find_encoder, load_encoder
from .errors import CheckpointError, ConfigError, TargetError
from .files import (
    CONFIG,
    ENCODER,
    FILES,
    OURS,
    WEIGHTS,
    changed,
    find_folder,
    opened,
)
from .folder import replace_files
from .methods import loftq
from .misfit import (
    finite,
    made_for,
    refuse_larger,
    refuse_misfit,
    refuse_place,
    warn_of_doubts,
    warn_of_nan,
)
from .plans import Plan, plan
from .refuse import slots
from .state import (
    FROZEN,
    PROMPT,
    fill,
    get_peft_model_state_dict,
    parts_of,
    tensors_of,
    without_frozen,
)

# In the weights file's header: what LoftQ's quantized weights were.
LOFTQ = "loftq_base"

# --- saving --------------------------------------------------------------------------------------


def save_all(
    model: nn.Module,
    configs: Mapping[str, PeftConfig],
    directory: str | os.PathLike[str],
    save_encoder: bool = False,
) -> None:
    """Write adapters, given by name: "default" into the directory, others into subfolders."""
    refuse_place(directory, configs)
    for name in configs if save_encoder else ():  # before anything is written
        find_encoder(model, name)
    for name, config in configs.items():
        folder = Path(directory, "" if name == "default" else name)
        save(model, config, name, folder, save_encoder)


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
    warn_of_nan(name, tensors, 3)
    values = {**config.to_dict(), "inference_mode": True}
    if "fan_in_fan_out" in values:  # peft must be told how the layers store W; we look
        mine = [s for _, s in slots(model) if isinstance(s, Wrapper) and name in s.adapters]
        mine = [wrapper for wrapper in mine if wrapper.adapters[name].changes_matrix]
        values["fan_in_fan_out"] = all(is_conv1d(wrapper.base_layer) for wrapper in mine)
    plain = {key: t.detach().cpu().clone().contiguous() for key, t in tensors.items()}
    header = {"format": "pt", **{key: str(values.pop(key)) for key in OURS & values.keys()}}
    if values.get("init_lora_weights") == "loftq":
        mine_at = {path: s.adapters[name] for path, s in slots(model) if name in s.adapters}
        header[LOFTQ] = loftq.fingerprint(model, mine_at)
    # Options by name; inside one the order stays: of two patterns the first decides.
    text = json.dumps(dict(sorted(values.items())), indent=2) + "\n"
    header |= proof.header_for(json.loads(text), plain)
    encoder = find_encoder(model, name) if save_encoder else None

    def write(stage: Path) -> None:
        if encoder is not None:
            own = {key: t.detach().cpu().contiguous() for key, t in encoder.state_dict().items()}
            save_file(own, stage / ENCODER)
        save_file(plain, stage / WEIGHTS, metadata=header)
        proof.settle(stage / WEIGHTS)
        (stage / CONFIG).write_text(text, encoding="utf-8")

    try:
        replace_files(place, FILES, write)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"adapter {name!r} cannot be written to {place}: {error}; make room or check the "
            f"folder's rights. An adapter that was there is there still"
        ) from error


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
    refuse.non_bool("is_trainable", is_trainable)
    folder = find_folder(model_id, **where)
    with opened(folder) as (config, file, weights):
        config.inference_mode = not is_trainable
        header = file.metadata() or {}
        told = proof.read(header, weights)
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        frozen = {key: file.get_tensor(key) for key in shapes if key.endswith(FROZEN)}
        without_frozen(model, frozen, weights)
        shapes = {key: shape for key, shape in shapes.items() if key not in frozen}
        edited = changed(config, told.get("config", {}))
        planned = fit(model, config, name, shapes, folder, edited)
        with nullcontext() if planned.reshape is None else planned.reshape.tried():
            loftq.warn_of_other_base(model, planned.methods, header.get(LOFTQ), folder)
        parts, given_tensors = parts_of(planned), {}
        for key, tensor in tensors_of(parts).items():
            given = file.get_tensor(key)
            if given.is_floating_point() != tensor.is_floating_point():
                raise CheckpointError(
                    f"{weights} holds {given.dtype} for {key!r}, this model needs {tensor.dtype}"
                )
            if not finite(given):
                raise CheckpointError(
                    f"{weights}: {key!r} holds NaN or infinity; train or download it again"
                )
            proof.check(key, given, told, weights)
            given_tensors[key] = given.to("meta") if tensor.is_meta else given
        if planned.prompt is not None and not planned.prompt.is_stored():
            load_encoder(planned.prompt, folder, given_tensors[PROMPT])
            parts = [part for part in parts if part[1] is not planned.prompt]
        fill(parts, given_tensors)
    warn_of_doubts(folder / CONFIG, edited, model, config)
    return planned


def fit(
    model: nn.Module,
    config: LayerConfig,
    name: str,
    shapes: dict[str, tuple[int, ...]],
    folder: Path,
    edited: list[str],
) -> Plan:
    """Plan the adapter on this model and compare its keys and shapes with the file's."""
    why = f"; {CONFIG} was changed since ({'; '.join(edited)})" if edited else ""
    refuse_larger(model, config, shapes, folder)
    try:
        planned = plan(model, config, name, every=False)
    except (TargetError, ConfigError) as error:
        raise CheckpointError(
            f"the adapter in {folder} does not fit this {type(model).__name__}{made_for(config)}: "
            f"{error}{why}"
        ) from error
    what = f"the adapter in {folder}"
    refuse_misfit(tensors_of(parts_of(planned)), shapes, what, config, why)
    return planned
