"""What has no room for an adapter: too long a text, a cache of a fixed size, a nested tensor."""

from __future__ import annotations

from typing import Any

from torch import nn

from .errors import StateError
from .families import first_position


def refuse_too_long(model: nn.Module, v: int, text: int) -> None:
    """Refuse a text that is too long after v virtual tokens.

    Where positions are not learned, a text may be longer than what the model was trained on.

    Raises:
        StateError: with the numbers.
    """
    longest = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    longest = None if longest is None else longest - first_position(model)
    if longest is not None and longest < v + text and (text <= longest or learned(model)):
        raise StateError(
            f"{v} virtual tokens and {text} tokens of text are {v + text} positions, and "
            f"{type(model).__name__} reads at most {longest}: shorten the text to {longest - v}"
        )


def learned(model: Any) -> bool:
    """Whether each position has a vector of its own, as in GPT-2, BERT and OPT."""
    longest, words = model.config.max_position_embeddings, model.get_input_embeddings()
    tables = [m for m in model.modules() if isinstance(m, nn.Embedding) and m is not words]
    return any(longest <= table.num_embeddings <= longest + 2 for table in tables)


def refuse_fixed_size(past: Any) -> None:
    """Refuse a cache that was made for the text alone.

    Raises:
        StateError: with the fix.
    """
    if getattr(past, "is_compileable", False):  # transformers' word for tensors of fixed size
        raise StateError(
            f"{type(past).__name__} has a fixed size, and no room for virtual tokens in it; "
            f"leave cache_implementation out, or give a DynamicCache"
        )


def unnested(slot: nn.Module, args: Any) -> None:
    """A hook that is there, and refuses nested tensors, which adapters cannot add to."""
    if args and getattr(args[0], "is_nested", False):
        raise StateError(
            "this nn.TransformerEncoder packs a padded batch into a nested tensor, to which no "
            "adapter can add: set use_nested_tensor = False on it"
        )


def hold_encoder_layers(model: nn.Module, slots: set[nn.Module]) -> None:
    """Let PyTorch's own encoder layers call their parts, of which some are `slots` now.

    In eval mode `nn.TransformerEncoderLayer` computes from its parts' weights, past what stands
    beside them, unless one of the parts has a hook.
    """
    for layer in model.modules():
        if isinstance(layer, nn.TransformerEncoderLayer):
            for part in slots.intersection(layer.children()):
                part.register_forward_pre_hook(unnested)
