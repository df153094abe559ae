"""An adapter's folder: finding it, reading its config, and replacing a file whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from .config import LayerConfig
from .core import REGISTRY
from .errors import (
    CheckpointError,
    CheckpointNotFoundError,
    ConfigTypeError,
    MinipeftError,
    listed,
)

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
ENCODER = "prompt_encoder.safetensors"
# What peft writes beside the options, and options of its own at the value that asks for nothing.
NOTES = {"peft_type", "peft_version", "auto_mapping", "revision"}
NEUTRAL: dict[str, Any] = {"qalora_group_size": 16}
# Options that peft lacks. It warns of a key that it does not know in the config, so these are
# kept in the header of the weights file, where it does not look.
OURS = {"fused_qkv"}


def replace_file(target: Path, write: Callable[[str], Any]) -> None:
    """Write beside the target, then rename over it: a reader sees the old file or the new one."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.close(handle)
    try:
        write(name)
        os.chmod(name, 0o644)  # mkstemp makes files that only their owner may read
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def find_folder(model_id: str | os.PathLike[str]) -> Path:
    """The adapter's folder; a name that is no folder is looked for on the Hugging Face hub."""
    if not isinstance(model_id, (str, os.PathLike)) or not str(model_id):
        raise ConfigTypeError(
            f"an adapter is loaded from a folder (a string or a Path), got {model_id!r}"
        )
    folder = Path(model_id)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise CheckpointNotFoundError(f"{folder} is a file; give the folder that holds {CONFIG}")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(model_id), allow_patterns=[CONFIG, WEIGHTS, ENCODER]))
    except Exception as error:  # no network, no such name, not a name at all: one answer
        raise CheckpointNotFoundError(
            f"there is no folder {str(model_id)!r}, and it could not be fetched from the Hugging "
            f"Face hub ({type(error).__name__}); give the folder that holds {CONFIG} and {WEIGHTS}"
        ) from error


def find_weights(folder: Path) -> Path:
    """The safetensors file; pickles are never loaded, since loading one runs its code."""
    weights = folder / WEIGHTS
    if weights.is_file():
        return weights
    pickle = folder / "adapter_model.bin"
    why = (
        f"; {pickle.name} is a pickle, which can run code when loaded, so minipeft does not; "
        f"load and save it with Hugging Face peft, which writes {WEIGHTS}"
        if pickle.is_file()
        else f"; there are {listed(sorted(p.name for p in folder.iterdir()))}"
    )
    raise CheckpointNotFoundError(f"{folder} has no {WEIGHTS}{why}")


def load_config(folder: Path) -> LayerConfig:
    """The config of an adapter's folder, ours or peft's.

    Raises:
        CheckpointNotFoundError, CheckpointError: no file, no JSON object, an unknown `peft_type`,
            or an option that this version does not have.
    """
    file = folder / CONFIG
    if not file.is_file():
        inside = listed(sorted(p.name for p in folder.iterdir()))
        raise CheckpointNotFoundError(
            f"{folder} has no {CONFIG}, so it is no adapter's folder; there are {inside}"
        )
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is not JSON: {error}") from error
    kind = values.get("peft_type") if isinstance(values, dict) else None
    if not isinstance(kind, str) or kind not in REGISTRY:
        raise CheckpointError(
            f"{file} must name its method as peft_type, one of {listed(REGISTRY)}; got {kind!r}"
        )
    config_class = REGISTRY[kind][0]
    known = {f.name for f in fields(config_class) if f.init}
    strange = {
        key: value
        for key, value in values.items()
        if key not in known | NOTES and value and NEUTRAL.get(key) != value
    }
    if strange:
        raise CheckpointError(
            f"{file} asks for what minipeft's {config_class.__name__} does not have: "
            + ", ".join(f"{key}={value!r}" for key, value in sorted(strange.items()))
        )
    try:
        config: Any = config_class(**{k: v for k, v in values.items() if k in known})
    except MinipeftError as error:
        raise CheckpointError(f"{file}: {error}") from error
    if getattr(config, "fan_in_fan_out", None):
        config.fan_in_fan_out = False  # the layer's class decides
    return config  # type: ignore[no-any-return]


def with_header(config: LayerConfig, header: Mapping[str, str], weights: Path) -> LayerConfig:
    """The config with those of its options that stand in the weights file's header."""
    known = OURS & {f.name for f in fields(config)} & header.keys()
    options: dict[str, Any] = {key: header[key] for key in known}
    try:
        return replace(config, **options)
    except MinipeftError as error:
        raise CheckpointError(f"{weights}, in its header: {error}") from error
