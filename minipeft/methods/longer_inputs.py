"""A model's inputs, made longer by v virtual tokens: the mask, the positions, the labels.

Notation: v virtual tokens, t tokens given in this call, s tokens of text read in earlier calls
(what the cache holds, without the virtual ones). With the cache, s + t is the text so far.
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import unfit
from ..checks.errors import StateError
from ..layers.families import first_position

Inputs = dict[str, Any]


def _kind(module: nn.Module) -> Any:
    return type(module)


@cache
def _names(kind: Any) -> tuple[str, ...]:
    """The names of a module's arguments, in order."""
    return tuple(inspect.signature(kind.forward).parameters)[1:]


def named(module: nn.Module, args: tuple[Any, ...], kwargs: Inputs) -> Inputs:
    """All arguments of a call by name: the positional ones take theirs from the signature."""
    return {**dict(zip(_names(_kind(module)), args, strict=False)), **kwargs}


def accepts(module: nn.Module, name: str) -> bool:
    """Whether the module's forward has an argument of this name."""
    return name in _names(_kind(module))


def cached(inputs: Inputs) -> int:
    """How many positions the attention cache holds, the virtual ones among them."""
    past = inputs.get("past_key_values")
    return 0 if past is None else int(past.get_seq_length())


def given(inputs: Inputs) -> Tensor:
    """The tokens of this call: ids (b, t), or embeddings (b, t, d).

    Raises:
        StateError: neither is there.
    """
    for name in ("input_ids", "inputs_embeds"):
        if inputs.get(name) is not None:
            tokens: Tensor = inputs[name]
            return tokens
    raise StateError("the model needs input_ids (b, t) or inputs_embeds (b, t, d); got neither")


def longer_mask(mask: Tensor | None, v: int, text: int, batch: int) -> Tensor | None:
    """The attention mask with v ones before the text: (b, s + t) -> (b, v + s + t).

    A mask that counts the virtual tokens already is left as it is; None stays None: all are read.

    Raises:
        StateError: the mask has other sizes.
    """
    if mask is None:
        return None
    shape = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
    if shape not in [(rows, t) for rows in (1, batch) for t in (text, v + text)]:
        raise unfit.other_mask(batch, text, shape)
    if mask.shape[1] == v + text:
        return mask
    return torch.cat([mask.new_ones(mask.shape[0], v), mask], dim=1)


def lengthen(model: nn.Module, inputs: Inputs, v: int, *, inserted: bool) -> None:
    """Make room for v virtual tokens in `attention_mask` and `position_ids`, in place.

    The text's first token stands at position v, whatever padding stands before it: that is what
    makes a padded batch answer as its rows would alone.

    Args:
        model: the module that reads the tokens.
        inputs: its arguments.
        v: how many virtual tokens.
        inserted: they come in as embeddings in this call, and need positions 0 … v - 1; otherwise
            the cache holds them.
    """
    tokens = given(inputs)
    batch, t = tokens.shape[:2]
    held = cached(inputs)
    text = (held - v if held else 0) + t  # s + t
    refuse_too_long(model, v, text)
    mask = inputs["attention_mask"] = longer_mask(inputs.get("attention_mask"), v, text, batch)
    positions = inputs.get("position_ids")
    if positions is not None:  # given for the text alone, as generate does
        positions = positions + v
        if inserted:
            first = torch.arange(v, device=positions.device).expand(batch, v)
            first = first + first_position(model)
            positions = torch.cat([first, positions.expand(batch, -1)], dim=1)
    elif mask is not None and accepts(model, "position_ids") and (mask.is_meta or not mask.all()):
        # 1 1 0 0 1 1 1 -> 0 1 1 1 2 3 4: padding does not count
        counted = (mask.long().cumsum(1) - 1).clamp(min=0)  # (b, v + s + t)
        positions = first_position(model) + counted[:, -(v + t if inserted else t) :]
    if positions is not None:
        inputs["position_ids"] = positions
    if inserted and inputs.get("token_type_ids") is not None:
        kinds = inputs["token_type_ids"]  # (b, t)
        inputs["token_type_ids"] = torch.cat([kinds.new_zeros(batch, v), kinds], dim=1)


def lengthen_labels(inputs: Inputs, v: int) -> None:
    """Labels for v more positions, which the loss passes over: -100; answers' places move by v.

    Raises:
        StateError: there is not a label for each token.
    """
    tokens, labels = given(inputs), inputs.get("labels")
    if labels is not None and labels.dim() == 2 and labels.shape != tokens.shape[:2]:
        raise unfit.other_labels(tokens.shape[:2], labels.shape)
    if labels is not None and labels.shape == tokens.shape[:2]:  # a label for each token
        ignored = labels.new_full((labels.shape[0], v), -100)
        inputs["labels"] = torch.cat([ignored, labels], dim=1)  # (b, v + t)
    for name in ("start_positions", "end_positions"):
        if inputs.get(name) is not None:
            inputs[name] = inputs[name] + v


def places(mask: Tensor, v: int, padding: Tensor) -> Tensor:
    """Where v virtual tokens and t of text stand when padding comes first: columns (b, v + t).

    With p tokens of padding before the text, the virtual ones go to p … p + v - 1, and the text
    behind them: v v p p t t t -> p p v v t t t. T5 looks at distances between columns, and padding
    between the virtual tokens and the text would change them.

    Args:
        mask: any of the batch's masks, (b, v + t).
        v: how many virtual tokens.
        padding: p, (b, 1).
    """
    columns = torch.arange(mask.shape[1], device=mask.device)
    virtual, text = columns[:v], columns[:-v]
    return torch.cat([padding + virtual, text + v * (text >= padding)], dim=1)


def padding_first(inputs: Inputs, v: int) -> None:
    """Move the virtual tokens behind the padding before the text: embeddings and mask."""
    mask = inputs["attention_mask"]
    if mask is not None:
        padding = leading_zeros(mask[:, v:])
        order = places(mask, v, padding).argsort(dim=1)
        inputs["attention_mask"] = mask.gather(1, order)
        inputs["inputs_embeds"] = reordered(inputs["inputs_embeds"], order)


def virtual_first(hidden: Tensor, mask: Tensor | None, v: int) -> Tensor:
    """The other direction, for what comes out: hidden (b, v + t, d), the mask of padding_first."""
    return hidden if mask is None else reordered(hidden, places(mask, v, leading_zeros(mask)))


def reordered(x: Tensor, order: Tensor) -> Tensor:
    """The columns of x (b, v + t, d) in the order (b, v + t)."""
    return x[torch.arange(len(x), device=x.device)[:, None], order]


def leading_zeros(mask: Tensor) -> Tensor:
    """How many zeros each row begins with, (b, 1)."""
    return (mask.cumsum(1) == 0).sum(1, keepdim=True)


def lengthen_encoder_mask(inputs: Inputs, v: int) -> None:
    """The mask through which a decoder looks at the encoder's v + t outputs."""
    outputs = inputs.get("encoder_outputs")
    text = given(inputs).shape[1] if outputs is None else outputs[0].shape[1] - v
    batch = (given(inputs) if outputs is None else outputs[0]).shape[0]
    inputs["attention_mask"] = longer_mask(inputs.get("attention_mask"), v, text, batch)


# --- what has no room ----------------------------------------------------------------------------


def refuse_too_long(model: nn.Module, v: int, text: int) -> None:
    """Refuse a text that is too long after v virtual tokens.

    Where positions are not learned, a text may be longer than what the model was trained on.

    Raises:
        StateError: with the numbers.
    """
    longest = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    longest = None if longest is None else longest - first_position(model)
    if longest is not None and longest < v + text and (text <= longest or learned(model)):
        raise unfit.too_long(v, text, model, longest)


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
        raise unfit.fixed_size(past)
