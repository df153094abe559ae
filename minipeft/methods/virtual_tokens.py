"""What a method with virtual tokens is: its config, and the two ways in which it comes in.

As embeddings before the text's (prompt tuning, P-tuning), or as keys and values in the attention
cache of every layer (prefix tuning, P-tuning v2). `prompts.py` puts them on a model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..checks import unfit
from ..checks.rules import optional, whole
from ..layers.families import Sizes, sizes
from .config import PeftConfig, option
from .longer_inputs import Inputs, accepts, given
from .method import Method

SIZES = ("token_dim", "num_transformer_submodules", "num_attention_heads", "num_layers")
P = TypeVar("P", bound="PromptConfig")


@dataclass
class PromptConfig(PeftConfig):
    """What the config of every method with virtual tokens has.

    Args:
        num_virtual_tokens: v, how many.
        token_dim, num_layers, num_attention_heads: sizes of the model, read from it when left out.
        num_transformer_submodules: 1, or 2 for an encoder with a decoder; read from the model too.
    """

    num_virtual_tokens: int | None = option(None, whole(1))
    token_dim: int | None = option(None, optional(whole(1)))
    num_transformer_submodules: int | None = option(None, optional(whole(1)))
    num_attention_heads: int | None = option(None, optional(whole(1)))
    num_layers: int | None = option(None, optional(whole(1)))

    def of_model(self, model: Any, *, keys: bool = False) -> dict[str, int]:
        """The sizes that this model gives the options left out.

        Args:
            model: a transformers model that reads tokens.
            keys: `token_dim` is the width of all keys, heads · head_dim, and not of a word.

        Raises:
            TargetError: the model does not read tokens. ConfigError: an option contradicts it.
        """
        found = text_sizes(model)
        two = bool(getattr(model.config, "is_encoder_decoder", False))
        known = {
            "token_dim": found.heads * found.head_dim if keys else found.width,
            "num_transformer_submodules": 2 if two else 1,
            "num_attention_heads": found.heads if keys else found.queries,
            "num_layers": found.layers,
        }
        for name, value in known.items():
            if getattr(self, name) not in (None, value):
                raise unfit.other_size(name, getattr(self, name), model, value)
        longest = getattr(model.config, "max_position_embeddings", None)
        if longest is not None and self.tokens >= longest:
            raise unfit.no_room_for_text(self.tokens, model, longest)
        return known

    @property
    def tokens(self) -> int:
        """V, the number of virtual tokens."""
        return int(self.num_virtual_tokens or 0)


def text_sizes(model: nn.Module) -> Sizes:
    """The model's sizes; TargetError for one that does not read tokens."""
    found = sizes(model)
    if found is None:
        raise unfit.reads_no_tokens(model)
    return found


def headless(model: Any) -> nn.Module:
    """The part of a model that reads tokens, without the head: GPT-2's transformer.

    OPT's head calls the decoder inside its model, past the model itself.
    """
    body = model.base_model
    inner = getattr(body, "decoder", None)
    return inner if isinstance(inner, nn.Module) else body


def checkpoints(reader: Any) -> bool:
    """Whether gradient checkpointing is on; transformers gave the property another name."""
    for name in ("is_activation_checkpointing", "is_gradient_checkpointing"):
        if hasattr(type(reader), name):
            return bool(getattr(reader, name))
    return False


class PromptMethod(Method[P]):
    """Virtual tokens before the text. A subclass says what they are; see the two kinds below.

    A `PromptPlacement` at the end of the method's file says how it is built and counted.

    Attributes:
        num_virtual_tokens: v.
    """

    num_virtual_tokens: int
    # Whether the virtual tokens come in as embeddings, so that the text gets longer.
    inserted = True

    @staticmethod
    def reader(model: Any) -> nn.Module:
        """The part of the model that reads the virtual tokens."""
        raise NotImplementedError

    def virtual_tokens(self) -> Tensor:
        """What is saved as `prompt_embeddings`: one row for each virtual token."""
        raise NotImplementedError(f"{type(self).__name__} must say what it saves: virtual_tokens")

    def is_stored(self) -> bool:
        """Whether `virtual_tokens()` is a parameter itself, and not computed from others."""
        return True

    @torch.no_grad()
    def take(self, tokens: Tensor) -> None:
        """The other direction: `virtual_tokens()` becomes `tokens`.

        Raises:
            CheckpointError: they are computed by a network, which they do not determine.
        """
        if not self.is_stored():
            raise unfit.computed_tokens(self)
        self.virtual_tokens().copy_(tokens)

    def put_before(self, reader: Any, inputs: Inputs) -> None:
        """Put the virtual tokens into the inputs of the first call, in place."""
        raise NotImplementedError


class EmbeddingPrompt(PromptMethod[P]):
    """Virtual tokens as embeddings: forward(input_embeds) puts them before the text's.

    With an encoder and a decoder the encoder reads them. peft keeps 2·v rows for such a model and
    uses the first v; so do we, since the file has them.
    """

    @staticmethod
    def reader(model: Any) -> nn.Module:
        """The encoder, if there is one beside a decoder, or the model without its head."""
        both = bool(getattr(model.config, "is_encoder_decoder", False))
        return model.get_encoder() if both else headless(model)

    def put_before(self, reader: Any, inputs: Inputs) -> None:
        """Ids (b, t) -> embeddings (b, t, d) -> with the prompt (b, v + t, d)."""
        embeds = inputs.get("inputs_embeds")
        if embeds is None:
            embeds = reader.get_input_embeddings()(inputs["input_ids"])  # (b, t, d)
        inputs.update(input_ids=None, inputs_embeds=self(embeds))


class CachePrompt(PromptMethod[P]):
    """Virtual tokens as the keys and values of every layer, held by the attention cache."""

    inserted = False

    @staticmethod
    def reader(model: Any) -> nn.Module:
        """The decoder, if there is one beside an encoder, or the model without its head."""
        both = bool(getattr(model.config, "is_encoder_decoder", False))
        reader = model.get_decoder() if both else headless(model)
        if not accepts(reader, "past_key_values"):
            raise unfit.no_cache(reader)
        return reader

    def keys_and_values(self) -> list[tuple[Tensor, Tensor]]:
        """K and V of each layer, (heads, v, head_dim)."""
        raise NotImplementedError

    def put_before(self, reader: Any, inputs: Inputs) -> None:
        """Fill the empty cache, or a new one, with the prefix of each layer."""
        from transformers import DynamicCache, EncoderDecoderCache

        if reader.training and checkpoints(reader):
            raise unfit.cache_dropped()
        past = inputs.get("past_key_values")
        if past is None:
            past = DynamicCache(config=reader.config)
            if getattr(reader.config, "is_encoder_decoder", False):
                past = EncoderDecoderCache(past, DynamicCache(config=reader.config))
        own = getattr(past, "self_attention_cache", past)
        batch, dtype = given(inputs).shape[0], reader.dtype
        for layer, pair in enumerate(self.keys_and_values()):
            # (heads, v, head_dim) -> (b, heads, v, head_dim)
            key, value = (x.to(dtype).expand(batch, *x.shape) for x in pair)
            own.update(key, value, layer)
        inputs["past_key_values"] = past


@dataclass(frozen=True)
class PromptPlacement:
    """How a method with virtual tokens is built: what a `Placement` is for one beside layers.

    Attributes:
        kind: the method's class.
        build: (model, config) -> the module for one model.
        count: (model, config) -> how many parameters are trained beside this model: the formula.
        start: (module, model, config) gives it its first values, unless they come from a file.
        demand: (config) refuses options that exclude each other, unless they come from a file.
    """

    kind: type[PromptMethod[Any]]
    build: Callable[[Any, Any], PromptMethod[Any]]
    count: Callable[[Any, Any], int]
    start: Callable[[Any, Any, Any], None] | None = None
    demand: Callable[[Any], None] | None = None
