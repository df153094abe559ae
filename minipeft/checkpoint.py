"""An adapter on disk, in Hugging Face peft's format: the only room that knows its key names.

adapter_config.json         the config, one JSON object
adapter_model.safetensors   base_model.model.<path>.lora_A.weight   (r, in)
base_model.model.<path>.lora_B.weight   (out, r)
base_model.model.<head>.weight          a module trained whole
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .bases import is_conv1d
from .config import LayerConfig, PeftConfig
from .core import Wrapper
from .errors import AdapterNameError, CheckpointError, TargetError, listed
from .files import (
    CONFIG,
    OURS,
    WEIGHTS,
    find_folder,
    find_weights,
    load_config,
    replace_file,
    with_header,
)
from .refuse import slots
from .tuner import LayerModel, Plan, plan

PREFIX = "base_model.model."
# Our parameter's name -> its name on disk, where they differ.
ON_DISK = {"lora_A": "lora_A.weight", "lora_B": "lora_B.weight"}


def keys_of(path: str, adapter: nn.Module, in_wrapper: bool) -> dict[str, str]:
    """{name on disk: name in the module} for the module of one layer."""
    return {
        f"{PREFIX}{path}.{ON_DISK.get(name, name) if in_wrapper else name}": name
        for name in adapter.state_dict()
    }


# One module of an adapter: its layer's dotted name, the module, and whether a wrapper holds it.
Part = tuple[str, nn.Module, bool]


def parts_in(model: nn.Module, adapter_name: str) -> list[Part]:
    """The modules of one adapter in a model."""
    root: nn.Module = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    root = root.model if isinstance(root, LayerModel) else root
    there = [(path, slot) for path, slot in slots(root) if adapter_name in slot.adapters]
    if not there:
        raise AdapterNameError(
            f"there is no adapter {adapter_name!r} in this {type(root).__name__}"
        )
    return [(path, slot.adapters[adapter_name], isinstance(slot, Wrapper)) for path, slot in there]


def parts_of(planned: Plan) -> list[Part]:
    """The modules of an adapter that is not attached yet."""
    methods = [(path, module, True) for path, module in planned.methods.items()]
    return methods + [(path, module, False) for path, module in planned.copies.items()]


def tensors_of(parts: list[Part]) -> dict[str, Tensor]:
    """An adapter's tensors under their names on disk, as its modules show them."""
    tensors: dict[str, Tensor] = {}
    for path, module, in_wrapper in parts:
        state = module.state_dict()
        tensors.update({k: state[n] for k, n in keys_of(path, module, in_wrapper).items()})
    return tensors


def fill(parts: list[Part], tensors: Mapping[str, Tensor]) -> None:
    """Give the modules of an adapter their tensors: the other direction of `tensors_of`."""
    for path, module, in_wrapper in parts:
        names = keys_of(path, module, in_wrapper)
        module.load_state_dict({name: tensors[key] for key, name in names.items()})


def get_peft_model_state_dict(model: nn.Module, adapter_name: str = "default") -> dict[str, Tensor]:
    """One adapter's tensors under their names on disk, as `save_pretrained` writes them."""
    return tensors_of(parts_in(model, adapter_name))


def set_peft_model_state_dict(
    model: nn.Module, state_dict: Mapping[str, Tensor], adapter_name: str = "default"
) -> None:
    """Copy tensors, named as on disk, into an adapter; all must be there, and fit.

    Raises:
        CheckpointError: keys, shapes or values do not fit; nothing was copied.
    """
    parts = parts_in(model, adapter_name)
    own = {key: tensor.clone() for key, tensor in tensors_of(parts).items()}
    shapes = {key: tuple(tensor.shape) for key, tensor in state_dict.items()}
    refuse_misfit(own, shapes, f"the tensors for {adapter_name!r}", None)
    try:
        fill(parts, state_dict)
    except CheckpointError:  # a module refused a value: put back what the others took
        fill(parts, own)
        raise


# --- saving --------------------------------------------------------------------------------------


def save(model: nn.Module, config: PeftConfig, name: str, folder: str | os.PathLike[str]) -> None:
    """Write one adapter's two files, each whole or not at all.

    Args:
        model: the base model with the adapter in it.
        config: the adapter's config.
        name: the adapter's name.
        folder: where to; made if it is not there.

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
        values["fan_in_fan_out"] = all(is_conv1d(wrapper.base_layer) for wrapper in mine)
    plain = {key: t.detach().cpu().clone().contiguous() for key, t in tensors.items()}
    header = {"format": "pt", **{key: str(values.pop(key)) for key in OURS & values.keys()}}
    text = json.dumps(values, indent=2, sort_keys=True) + "\n"
    place.mkdir(parents=True, exist_ok=True)
    replace_file(place / WEIGHTS, lambda path: save_file(plain, path, metadata=header))
    replace_file(place / CONFIG, lambda path: Path(path).write_text(text, encoding="utf-8"))


# --- loading -------------------------------------------------------------------------------------


def load(model: nn.Module, model_id: str | os.PathLike[str], name: str, is_trainable: bool) -> Plan:
    """Read an adapter from a folder and check that it fits; the model is not touched.

    Returns:
        a `Plan` with the file's values in it.

    Raises:
        CheckpointNotFoundError: no folder, or no adapter in it.
        CheckpointError: a damaged file, or an adapter for another base.
    """
    folder = find_folder(model_id)
    config = load_config(folder)
    config.inference_mode = not is_trainable
    weights = find_weights(folder)
    try:
        with safe_open(weights, framework="pt") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
            config = with_header(config, file.metadata() or {}, weights)
            planned = fit(model, config, name, shapes, folder)
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
            fill(parts, given_tensors)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{weights} is damaged or cut off ({error}); save or download the adapter again"
        ) from error
    return planned


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
    except TargetError as error:
        raise CheckpointError(
            f"the adapter in {folder} does not fit this {type(model).__name__}{made_for(config)}: "
            f"{error}"
        ) from error
    refuse_misfit(tensors_of(parts_of(planned)), shapes, f"the adapter in {folder}", config)
    return planned


def refuse_misfit(
    own: Mapping[str, Tensor], given: Mapping[str, tuple[int, ...]], what: str, config: Any
) -> None:
    """Raise CheckpointError unless both have the same keys and shapes."""
    said = []
    if lost := [key for key in own if key not in given]:
        said.append(f"lacks {len(lost)} tensors that this model needs: {listed(lost, 3)}")
    if extra := [key for key in given if key not in own]:
        said.append(
            f"has {len(extra)} tensors that have no place in this model: {listed(extra, 3)}"
        )
    for key in own:
        need = tuple(own[key].shape)
        if given.get(key, need) != need:
            said.append(f"has {key!r} of shape {given[key]}, this model needs {need}")
            break
    if said:
        raise CheckpointError(f"{what} {'; '.join(said)}{made_for(config)}")


def made_for(config: Any) -> str:
    """` (it was made for "gpt2")`, if the config says for what."""
    base = getattr(config, "base_model_name_or_path", None)
    return f" (it was made for {base!r})" if base else ""
