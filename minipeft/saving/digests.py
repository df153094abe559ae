"""What a weights file says of itself in its header: the config it was saved with, and its hashes.

    {"minipeft": {"config": {...}, "sha256": {"base_model.model....weight": "9f86d0...", ...}}}

The file stays one of Hugging Face peft's, which does not look there. A file of peft's own has no
such header, and nothing to prove.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checks import misfit

KEY = "minipeft"
CONFIG = "adapter_config.json"


def digest(tensor: Tensor) -> str:
    """The SHA-256 of a tensor's dtype, shape and bytes, in hexadecimal."""
    said = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    said.update(flat.numpy().tobytes())
    return said.hexdigest()


def of_config(values: Mapping[str, Any]) -> str:
    """The SHA-256 of a config, whatever the order of its options."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def header_for(values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The entry of the header, for a config and the tensors saved with it.

    The base model's name stays out: it may be a path, and a file's bytes must not depend on where
    it was written.
    """
    values = {key: value for key, value in values.items() if key != "base_model_name_or_path"}
    hashes = {key: digest(tensor) for key, tensor in sorted(tensors.items())}
    told = {"config": values, "sha256": {**hashes, CONFIG: of_config(values)}}
    return {KEY: json.dumps(told, separators=(",", ":"))}


def read(header: Mapping[str, str], weights: Path) -> dict[str, Any]:
    """The entry, as `{"config": {...}, "sha256": {...}}`; empty if there is none.

    Raises:
        CheckpointError: it is damaged.
    """
    if KEY not in header:
        return {}
    try:
        told = json.loads(header[KEY])
        whole = told["sha256"][CONFIG] == of_config(told["config"])
        whole = whole and isinstance(told["config"], dict) and isinstance(told["sha256"], dict)
    except (ValueError, KeyError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise misfit.other_header(weights)
    return dict(told)


def check(key: str, tensor: Tensor, told: Mapping[str, Any], weights: Path) -> None:
    """Refuse a tensor that is not, to the bit, the one that was saved; `told` is what `read` gave.

    Raises:
        CheckpointError: it is another; nothing is said of files without hashes.
    """
    if told and told["sha256"].get(key) != digest(tensor):
        raise misfit.other_hash(weights, key, KEY)


def settle(path: Path) -> None:
    """Sort a file's header, which safetensors writes in another order each time, in place.

    A safetensors file is eight bytes, the header's length, then the header, then the numbers.
    """
    with path.open("r+b") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= length:  # the same signs in another order, padded with spaces
            file.seek(8)
            file.write(text.ljust(length))
