"""The third file of an adapter: the network that computes its virtual tokens, to train it on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..checks import misfit
from ..checks.errors import CheckpointError
from ..methods.virtual_tokens import PromptMethod
from .atomic import find
from .files import ENCODER, WEIGHTS
from .keys import parts_in


def encoder_of(model: nn.Module, name: str) -> PromptMethod[Any] | None:
    """The module that computes an adapter's virtual tokens, if there is one."""
    modules = (module for _, module, _ in parts_in(model, name))
    return next((m for m in modules if isinstance(m, PromptMethod) and not m.is_stored()), None)


def find_encoder(model: nn.Module, name: str) -> PromptMethod[Any]:
    """That module; CheckpointError if there is none."""
    encoder = encoder_of(model, name)
    if encoder is not None:
        return encoder
    raise misfit.no_network(name)


def load_encoder(encoder: PromptMethod[Any], folder: Path, tokens: Tensor) -> None:
    """Fill the network that computed these virtual tokens, to train it on.

    Raises:
        CheckpointError: it was not saved, or it computes others.
    """
    file = find(folder, ENCODER)
    if not file.is_file():
        raise misfit.tokens_only(folder)
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
