"""Calls that can have no effect: a training forward that teaches nothing, a model given back."""

from __future__ import annotations

import warnings
from typing import Any

from . import refuse
from .core import Slot
from .errors import CannotLearnWarning, MinipeftWarning, StateError, listed
from .tuner import LayerModel


def why_not(model: Any) -> str:
    """What keeps a `PeftModel` from learning, the first of its reasons; empty if there is none."""
    layers, active = model.base_model, model.active_adapters
    if merged := layers.merged:
        return (
            f"{listed(merged)} is merged into the weights, which are frozen: call "
            f"unmerge_adapter() first"
        )
    if not all(slot.enabled for _, slot in refuse.slots(layers)):
        return (
            "the adapters are switched off by disable_adapter(): train outside of it, or say that "
            "nothing shall be learned with torch.no_grad()"
        )
    if not active:
        known = listed(model.peft_config)
        return f"no adapter is active: call set_adapter(name); the adapters are {known}"
    if not any(parameter.requires_grad for parameter in model.parameters()):
        if all(model.peft_config[name].inference_mode for name in active):
            return (
                f"{listed(active)} was loaded or made for inference: load it with "
                f"is_trainable=True, or call set_adapter({active[0]!r}, inference_mode=False)"
            )
        return (
            f"all parameters are frozen, those of {listed(active)} too: call "
            f"set_adapter({active[0]!r}) to train it"
        )
    return (
        f"no gradient comes back to {listed(active)}: either it has no part in this forward, or "
        f"checkpointing with use_reentrant=True stops it, since the layers' input has no gradient "
        f"of its own; take use_reentrant=False, or call model.enable_input_require_grads()"
    )


def warn(model: Any, said: str | None) -> str | None:
    """Warn of a training forward that teaches nothing; once, as long as the reason is the same.

    Args:
        model: the `PeftModel`.
        said: what was said of it last.

    Returns:
        what is said now, for the next call.
    """
    why = why_not(model)
    if why and why != said:
        warnings.warn(
            f"this training forward teaches the adapters nothing: {why} (for a forward that is not "
            f"for training: model.eval() or torch.no_grad())",
            CannotLearnWarning,
            stacklevel=5,  # where the model was called, above two calls of nn.Module's
        )
    return why


class Unloaded:
    """What a `PeftModel` has instead of its model once that has been given back."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # copy and pickle ask
        self()

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Refuse.

        Raises:
            StateError: always.
        """
        raise StateError(
            "this PeftModel was unloaded: its model has no adapters any more. Use the model that "
            "unload() or merge_and_unload() returned; get_peft_model(model, config) adapts it anew"
        )


class Disabled:
    """What `with model.disable_adapter():` enters; called without `with`, it says so.

    Args:
        layers: the `LayerModel` whose adapters are switched off inside.
    """

    def __init__(self, layers: LayerModel):
        self.layers, self.entered = layers, False
        self.states: dict[Slot, bool] = {}
        self.merged: tuple[str, ...] = ()

    def __enter__(self) -> None:
        self.entered = True
        self.states = {slot: slot.enabled for _, slot in refuse.slots(self.layers)}
        self.merged = self.layers.merged
        self.layers.unmerge()
        self.layers.enable(False)

    def __exit__(self, *_: Any) -> None:
        for slot, enabled in self.states.items():
            slot.enabled = enabled
        if self.merged:
            self.layers.merge(self.merged, self.layers.requantized)

    def __del__(self) -> None:
        if not vars(self).get("entered", True):
            warnings.warn(
                "disable_adapter() was called and not entered, so it did nothing: write "
                "`with model.disable_adapter():` around the calls that the base model shall answer",
                MinipeftWarning,
                stacklevel=2,  # where it was thrown away
            )
