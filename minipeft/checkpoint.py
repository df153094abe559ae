"""An adapter on disk, in Hugging Face peft's format: two files in a folder.

adapter_config.json         the config, one JSON object
adapter_model.safetensors   the tensors, named as `state.py` says
prompt_encoder.safetensors  on request: the network of a P-tuning or a projected prefix, to resume
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from . import refuse
from .bases import is_conv1d
from .config import LayerConfig, PeftConfig
from .core import Wrapper
from .errors import CheckpointError, ConfigError, TargetError
from .files import (
    CONFIG,
    ENCODER,
    OURS,
    WEIGHTS,
    find_folder,
    find_weights,
    load_config,
    replace_file,
    with_header,
)
from .methods import loftq
from .plans import Plan, plan
from .refuse import slots
from .state import (
    FROZEN,
    PROMPT,
    fill,
    get_peft_model_state_dict,
    made_for,
    parts_in,
    parts_of,
    refuse_misfit,
    tensors_of,
    without_frozen,
)
from .virtual import PromptMethod

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
    if save_encoder:
        for name in configs:  # before anything is written
            find_encoder(model, name)
    for name, config in configs.items():
        folder = os.path.join(directory, "" if name == "default" else name)
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
    encoder = find_encoder(model, name) if save_encoder else None
    place.mkdir(parents=True, exist_ok=True)
    (place / ENCODER).unlink(missing_ok=True)  # an older one would not belong to the new tokens
    if encoder is not None:
        own = {key: t.detach().cpu().contiguous() for key, t in encoder.state_dict().items()}
        replace_file(place / ENCODER, lambda path: save_file(own, path))
    replace_file(place / WEIGHTS, lambda path: save_file(plain, path, metadata=header))
    replace_file(place / CONFIG, lambda path: Path(path).write_text(text, encoding="utf-8"))


def find_encoder(model: nn.Module, name: str) -> PromptMethod[Any]:
    """The module that computes an adapter's virtual tokens; CheckpointError if there is none."""
    for _, module, _ in parts_in(model, name):
        if isinstance(module, PromptMethod) and not module.is_stored():
            return module
    raise CheckpointError(
        f"save_encoder=True, but adapter {name!r} has no network that computes virtual tokens: its "
        f"two files hold all there is; leave save_encoder out, or name others in selected_adapters"
    )


# --- loading -------------------------------------------------------------------------------------


def load(model: nn.Module, model_id: str | os.PathLike[str], name: str, is_trainable: bool) -> Plan:
    """Read an adapter from a folder and check that it fits; the model is not touched.

    Returns:
        a `Plan` with the file's values in it.

    Raises:
        CheckpointNotFoundError: no folder, or no adapter in it.
        CheckpointError: a damaged file, or an adapter for another base.
    """
    refuse.non_bool("is_trainable", is_trainable)
    folder = find_folder(model_id)
    config = load_config(folder)
    config.inference_mode = not is_trainable
    weights = find_weights(folder)
    try:
        with safe_open(weights, framework="pt") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
            config = with_header(config, file.metadata() or {}, weights)
            frozen = {key: file.get_tensor(key) for key in shapes if key.endswith(FROZEN)}
            without_frozen(model, frozen, weights)
            shapes = {key: shape for key, shape in shapes.items() if key not in frozen}
            planned = fit(model, config, name, shapes, folder)
            known = (file.metadata() or {}).get(LOFTQ)
            loftq.warn_of_other_base(model, planned.methods, known, folder)
            parts, given_tensors = parts_of(planned), {}
            for key, tensor in tensors_of(parts).items():
                given = file.get_tensor(key)
                if given.is_floating_point() != tensor.is_floating_point():
                    raise CheckpointError(
                        f"{weights} holds {given.dtype} for {key!r}, "
                        f"this model needs {tensor.dtype}"
                    )
                if given.is_floating_point() and not given.isfinite().all():
                    raise CheckpointError(
                        f"{weights}: {key!r} holds NaN or infinity; train or download it again"
                    )
                given_tensors[key] = given.to("meta") if tensor.is_meta else given
            if planned.prompt is not None and not planned.prompt.is_stored():
                load_encoder(planned.prompt, folder, given_tensors[PROMPT])
                parts = [part for part in parts if part[1] is not planned.prompt]
            fill(parts, given_tensors)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{weights} is damaged or cut off ({error}); save or download the adapter again"
        ) from error
    return planned


def load_encoder(encoder: PromptMethod[Any], folder: Path, tokens: Tensor) -> None:
    """Fill the network that computed these virtual tokens, to train it on.

    Raises:
        CheckpointError: it was not saved, or it computes others.
    """
    file = folder / ENCODER
    if not file.is_file():
        raise CheckpointError(
            f"{folder} has the virtual tokens and not the network that computes them, so it cannot "
            f"be trained on; save with save_pretrained(folder, save_encoder=True), or load with "
            f"is_trainable=False"
        )
    try:
        saved = load_file(file)
        if tokens.is_meta:
            saved = {key: tensor.to("meta") for key, tensor in saved.items()}
        encoder.load_state_dict(saved)
    except (RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{file} does not fit the config beside it: {error}") from error
    if tokens.is_meta:  # there are shapes only, and they fit
        return
    training = encoder.training
    computed = encoder.eval().virtual_tokens().detach().cpu()  # without dropout
    encoder.train(training)
    # The same network gives the same numbers up to the order of sums, which a device may choose,
    # and up to the rounding of 16-bit weights, in which it computed, if it was saved in them.
    allowed = max(1e-3, 16 * torch.finfo(tokens.dtype).eps) * computed.abs().max()
    if not (computed - tokens).abs().max() <= allowed:  # NaN fails as well
        raise CheckpointError(f"{file} computes other virtual tokens than {folder / WEIGHTS} holds")


def fit(
    model: nn.Module,
    config: LayerConfig,
    name: str,
    shapes: dict[str, tuple[int, ...]],
    folder: Path,
) -> Plan:
    """Plan the adapter on this model and compare its keys and shapes with the file's."""
    try:
        planned = plan(model, config, name, every=False)
    except (TargetError, ConfigError) as error:
        raise CheckpointError(
            f"the adapter in {folder} does not fit this {type(model).__name__}{made_for(config)}: "
            f"{error}"
        ) from error
    refuse_misfit(tensors_of(parts_of(planned)), shapes, f"the adapter in {folder}", config)
    return planned
