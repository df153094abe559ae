"""Virtual tokens: the same idea one level up, where the frozen layer is the whole model.

    text ──► before: virtual tokens, or their keys and values ──► frozen model ──► logits

Prompt tuning and P-tuning put v vectors before the text's embeddings. Prefix tuning and P-tuning v2
put the keys and values of v tokens into the attention cache of every layer, as if the model had
read them already. Either way the text moves v positions to the right, its mask grows by v ones, and
the labels by v times -100.

The slot hangs these steps on the model with forward hooks, so that whatever calls the model gets
them: a training loop, `generate` with its cache and its beams, a loop over `past_key_values`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from ..checks.errors import StateError
from ..methods.longer_inputs import (
    Inputs,
    cached,
    lengthen,
    lengthen_encoder_mask,
    lengthen_labels,
    named,
    padding_first,
    refuse_fixed_size,
    virtual_first,
)
from ..methods.virtual_tokens import PromptMethod
from .slots import Slot

NAME = "prompt_encoder"


class PromptSlot(Slot):
    """The place of virtual tokens: around the whole model, one adapter in use at a time.

    Args:
        model: the transformers model; the slot becomes its submodule `prompt_encoder`.
    """

    kind = "prompt"

    def __init__(self, model: Any):
        super().__init__()
        self.training = self.adapters.training = model.training
        self.encodes = bool(getattr(model.config, "is_encoder_decoder", False))
        # Its head picks the last token out of as many outputs as there are ids.
        self.classifies = type(model).__name__.endswith("ForSequenceClassification")
        self.classifies = self.classifies and not self.encodes
        self.hooks: list[Any] = []
        self.readers: list[bool] = []
        model.add_module(NAME, self)

    def add(self, model: Any, name: str, method: PromptMethod[Any]) -> None:
        """Take in an adapter; the first of its kind brings the hooks that put it before the text.

        Forward hooks, since `generate` calls the model and an encoder is called by it: whoever
        calls them gets the virtual tokens.
        """
        self.adapters[name] = method
        if method.inserted in self.readers:
            return
        self.readers.append(method.inserted)
        before = partial(self.before_reader, method.inserted)
        after = partial(self.after_reader, method.inserted)
        reader = method.reader(model)
        self.hooks.append(reader.register_forward_pre_hook(before, with_kwargs=True))
        self.hooks.append(reader.register_forward_hook(after, with_kwargs=True))
        if method.inserted:
            self.hooks.append(model.register_forward_pre_hook(self.before_model, with_kwargs=True))

    def leave(self, model: nn.Module) -> None:
        """Take the hooks and the slot itself off the model."""
        for hook in self.hooks:
            hook.remove()
        delattr(model, NAME)

    def merge(self, names: tuple[str, ...], requantize: bool = False) -> None:
        """Refused: virtual tokens are input, not weights."""
        if any(name in self.adapters for name in names):
            raise StateError(
                "virtual tokens cannot be merged: they are part of the input and fold into no "
                "weight; keep the adapter beside the model, or unload() it"
            )

    def unmerge(self) -> None:
        """Nothing is ever merged here."""

    def method(self, inserted: bool) -> Any:
        """The adapter in use, if it is of this kind, or None."""
        method: Any = self.adapters[self.active[0]] if self.active and self.enabled else None
        return method if method is not None and method.inserted is inserted else None

    def before_model(self, model: Any, args: Any, kwargs: Inputs) -> Any:
        """For the model as a whole: longer labels, or a longer mask over the encoder's outputs."""
        method = self.method(True)
        if method is None:
            return None
        inputs, v = named(model, args, kwargs), method.num_virtual_tokens
        if self.encodes:
            lengthen_encoder_mask(inputs, v)
        elif not self.classifies and cached(inputs) == 0:
            lengthen_labels(inputs, v)
        return (), inputs

    def before_reader(self, inserted: bool, reader: Any, args: Any, kwargs: Inputs) -> Any:
        """The mask and the positions of every call; the virtual tokens themselves in the first."""
        method = self.method(inserted)
        if method is None:
            return None
        inputs = named(reader, args, kwargs)
        refuse_fixed_size(inputs.get("past_key_values"))
        first, v = cached(inputs) == 0, method.num_virtual_tokens
        lengthen(reader, inputs, v, inserted=inserted and first)
        if first:
            method.put_before(reader, inputs)
        if inserted and self.encodes:
            padding_first(inputs, v)
        return (), inputs

    def after_reader(
        self, inserted: bool, reader: Any, args: Any, kwargs: Inputs, output: Any
    ) -> Any:
        """What the text's own outputs are: a classifier's head must not count virtual ones."""
        method = self.method(inserted)
        if method is None:
            return output
        v = method.num_virtual_tokens
        if inserted and self.encodes:
            return replaced(output, virtual_first(output[0], kwargs["attention_mask"], v))
        if inserted and self.classifies:
            return replaced(output, output[0][:, v:])
        if not inserted and kwargs.get("use_cache") is False and not isinstance(output, tuple):
            output.past_key_values = None  # generate would take the prefix for a cache of the text
        return output


def replaced(output: Any, hidden: Tensor) -> Any:
    """The output of a reader with other hidden states; it is a tuple with return_dict=False."""
    if isinstance(output, tuple):
        return (hidden, *output[1:])
    output.last_hidden_state = hidden
    return output
