"""What stands in an adapter's two files beside its tensors: the config, and what proves both."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ..checks import misfit
from ..checks.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    ConfigError,
    ConfigTypeError,
    MinipeftError,
)
from ..checks.say import listed
from ..methods.config import LayerConfig
from ..methods.method import REGISTRY
from . import atomic, digests
from .digests import CONFIG as CONFIG

WEIGHTS = "adapter_model.safetensors"
ENCODER = "prompt_encoder.safetensors"
# All of one adapter; the config comes last, since without it a folder is no adapter's.
FILES = (ENCODER, WEIGHTS, CONFIG)
# What peft writes beside the options, and options of its own at the value that asks for nothing.
NOTES = {"peft_type", "peft_version", "auto_mapping", "revision"}
NEUTRAL: dict[str, Any] = {"qalora_group_size": 16}
# Options that peft lacks. It warns of a key that it does not know in the config, so these are
# kept in the header of the weights file, where it does not look.
OURS = {"fused_qkv"}
# Options that may differ from what was saved, since they say nothing of the numbers.
FREE = {"base_model_name_or_path", "inference_mode", "task_type", "fan_in_fan_out"} | NOTES


# --- finding -------------------------------------------------------------------------------------


def find_folder(
    model_id: str | os.PathLike[str],
    revision: str | None = None,
    subfolder: str | None = None,
    token: str | bool | None = None,
) -> Path:
    """The adapter's folder; a name that is no folder is looked for on the Hugging Face hub."""
    if not isinstance(model_id, (str, os.PathLike)) or not str(model_id):
        raise misfit.no_source(model_id)
    for option, value in (("revision", revision), ("subfolder", subfolder)):
        if value is not None and not isinstance(value, str):
            raise ConfigTypeError(f"{option} must be a string, got {value!r}")
    inner = Path(subfolder or "")
    if inner.is_absolute() or ".." in inner.parts:
        raise ConfigError(f"subfolder must lie in the adapter's folder, got {subfolder!r}")
    folder = Path(model_id)
    if folder.is_dir():
        if revision is not None:
            raise misfit.revision_of_folder(revision, folder)
        if not (folder / inner).is_dir():
            there = [p.name for p in folder.iterdir() if p.is_dir()]
            raise misfit.no_subfolder(folder, subfolder, there)
        return folder / inner
    if folder.exists():
        raise CheckpointNotFoundError(f"{folder} is a file; give the folder that holds {CONFIG}")
    from huggingface_hub import snapshot_download

    wanted = [(inner / name).as_posix() for name in FILES]
    try:
        place = snapshot_download(
            str(model_id), revision=revision, token=token, allow_patterns=wanted
        )
    except Exception as error:  # no network, no such name, not a name at all: one answer
        raise misfit.unreachable(str(model_id), revision, error, (CONFIG, WEIGHTS)) from error
    if not (Path(place) / inner).is_dir():
        where = f" in its folder {subfolder!r}" if subfolder else ""
        raise CheckpointNotFoundError(f"{str(model_id)!r} on the hub has no {CONFIG}{where}")
    return Path(place) / inner


def find_weights(folder: Path) -> Path:
    """The safetensors file; pickles are never loaded, since loading one runs its code."""
    weights = atomic.find(folder, WEIGHTS)
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


# --- the config ----------------------------------------------------------------------------------


def load_config(folder: Path, header: Mapping[str, str] | None = None) -> LayerConfig:
    """The config of an adapter's folder, ours or peft's.

    Args:
        folder: where it is.
        header: the weights file's, which has the config as well.

    Raises:
        CheckpointNotFoundError, CheckpointError: no file, no JSON object, an unknown `peft_type`,
            or an option that this version does not have.
    """
    file = atomic.find(folder, CONFIG)
    saved = digests.read(header or {}, folder / WEIGHTS).get("config")
    if file.is_file():
        values = read_json(file)
    elif saved is not None:
        values = saved  # the weights have all that is needed
    else:
        raise misfit.no_config(folder, CONFIG, (p.name for p in folder.iterdir()))
    kind = values.get("peft_type") if isinstance(values, dict) else None
    if not isinstance(kind, str) or kind not in REGISTRY:
        raise misfit.no_method(file, kind, REGISTRY)
    config_class = REGISTRY[kind][0]
    known = {f.name for f in fields(config_class) if f.init}
    strange = {
        key: value
        for key, value in values.items()
        if key not in known | NOTES and value and NEUTRAL.get(key) != value
    }
    if strange:
        raise misfit.strange_options(file, config_class.__name__, strange, known - values.keys())
    try:
        config: Any = config_class(**{k: v for k, v in values.items() if k in known})
    except MinipeftError as error:
        raise CheckpointError(f"{file}: {error}") from error
    if getattr(config, "fan_in_fan_out", None):
        config.fan_in_fan_out = False  # the layer's class decides
    return config  # type: ignore[no-any-return]


def read_json(file: Path) -> Any:
    """A JSON file's value; CheckpointError for what is none, and for an option given twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise CheckpointError(f"{file} gives {listed(twice)} twice; keep one of them")
        return dict(pairs)

    try:
        return json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=once)
    except CheckpointError:
        raise
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is not JSON: {error}") from error
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error


def changed(config: LayerConfig, saved: Mapping[str, Any]) -> list[str]:
    """`["lora_alpha: 16 then, 32 now"]`: where a config is not what was saved with the weights."""
    now = json.loads(json.dumps(config.to_dict()))
    names = sorted(now.keys() & saved.keys() - FREE)
    return [f"{n}: {saved[n]!r} then, {now[n]!r} now" for n in names if saved[n] != now[n]]


def with_header(config: LayerConfig, header: Mapping[str, str], weights: Path) -> LayerConfig:
    """The config with those of its options that stand in the weights file's header."""
    known = OURS & {f.name for f in fields(config)} & header.keys()
    options: dict[str, Any] = {key: header[key] for key in known}
    try:
        return replace(config, **options)
    except MinipeftError as error:
        raise CheckpointError(f"{weights}, in its header: {error}") from error


@contextmanager
def opened(folder: Path) -> Iterator[tuple[LayerConfig, Any, Path]]:
    """An adapter's config and its open weights file, of one save: writers wait until it is closed.

    Raises:
        CheckpointError: the file is damaged, as far as can be seen without its tensors.
    """
    with atomic.locked(folder, shared=True):
        if not any(atomic.find(folder, name).is_file() for name in (CONFIG, WEIGHTS)):
            load_config(folder)  # says that this is no adapter's folder
        weights = find_weights(folder)
        try:
            with safe_open(weights, framework="pt") as file:
                header = file.metadata() or {}
                yield with_header(load_config(folder, header), header, weights), file, weights
        except MinipeftError:
            raise
        except (SafetensorError, OSError) as error:
            raise misfit.cut_off(weights, error) from error
