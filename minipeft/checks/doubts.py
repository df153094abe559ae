"""All warnings: what is allowed, and hardly what was meant. Each points to the caller's line."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .errors import (
    CannotLearnWarning,
    DamagedWarning,
    MinipeftWarning,
    RankWarning,
    RoundingWarning,
)
from .say import listed

# Frames that are not the caller's: this package, and the calls of nn.Module between it and him.
INSIDE = str(Path(__file__).parents[1])
BETWEEN = ("torch/nn/modules/module.py", "torch/utils/_contextlib.py", "/contextlib.py")


def warn(text: str, kind: type[Warning] = MinipeftWarning) -> None:
    """Warn at the first line outside of the package that led here."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and (
        frame.f_code.co_filename.startswith(INSIDE)
        or frame.f_code.co_filename.endswith(BETWEEN)
        or (frame.f_code.co_filename, frame.f_code.co_name) == ("<string>", "__init__")
    ):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, kind, stacklevel=level)


# --- configs and models --------------------------------------------------------------------------


def ranks(found: Mapping[str, tuple[int, int]]) -> None:
    """B A has a higher rank than a matrix of the layer's size can have: (r, the most) by layer."""
    high = [f"{path!r} takes ranks up to {m}, not {r}" for path, (r, m) in found.items() if r > m]
    warn(
        f"r is above what {len(high)} of the {len(found)} layers can use: "
        f"{'; '.join(high[:3])}. What lies above trains to no effect; take a "
        f"smaller r, or rank_pattern for these layers",
        RankWarning,
    )


def no_effect_on_the_mlp(name: str, value: Any) -> None:
    """An option of P-tuning's LSTM beside its MLP."""
    warn(
        f"{name}={value} has no effect on the MLP, which always has three linear layers and no "
        f"dropout; encoder_reparameterization_type='LSTM' has both"
    )


def repacked(count: int) -> None:
    """bitsandbytes' layers had lost bits before they came."""
    warn(
        f"{count} Linear4bit layers of bitsandbytes had been used in eval mode and had "
        f"repacked their weights for inference, with scales rounded to bfloat16; they are "
        f"unpacked again, without the bits that were lost: to have them, load the model again "
        f"and add the adapter first"
    )


# --- merging -------------------------------------------------------------------------------------


def merged(losses: Iterable[Any], packed_again: Iterable[Any]) -> None:
    """How much of the merged ΔW was rounded off, where it is more than a hundredth.

    Args:
        losses: (length of what was rounded off, length of ΔW) for each layer.
        packed_again: quantized layers in whose place others were made, with `rounding` and
            `change`.
    """
    layers, losses = list(packed_again), list(losses)
    if layers:
        lost = sum(layer.rounding**2 for layer in layers) ** 0.5
        change = sum(layer.change**2 for layer in layers) ** 0.5
        warn(
            f"merged {len(layers)} layers and packed them again: the rounding that this adds has "
            f"{100 * lost / max(change, 1e-38):.0f} % of the length of what the adapter had "
            f"changed; requantize=False merges into plain layers instead, which round no more than "
            f"their dtype"
        )
    rounded = sum(loss.rounded**2 for loss in losses) ** 0.5
    change = sum(loss.change**2 for loss in losses) ** 0.5
    if rounded > 0.01 * change:
        warn(
            f"merging rounds W + ΔW to the weights' 16 bits, and the rounding has "
            f"{100 * rounded / max(change, 1e-38):.0f} % of the length of ΔW; kept beside the "
            f"layers the adapter loses nothing, nor merged into a float32 model",
            RoundingWarning,
        )


# --- files ---------------------------------------------------------------------------------------


def not_finite(name: str, bad: list[str]) -> None:
    """An adapter's tensors hold NaN or infinity: such a file will not load."""
    warn(
        f"adapter {name!r} holds NaN or infinity in {len(bad)} tensors ({listed(bad, 3)}): its "
        f"training diverged (a smaller learning rate?), and what is saved of it will not load",
        DamagedWarning,
    )


def edited(file: Path, changes: list[str]) -> None:
    """A config that is not the one that was saved with the weights."""
    warn(
        f"{file} is not what was saved with the weights beside it: {'; '.join(changes)}. It is "
        f"used as it is now; check that both files belong together",
        DamagedWarning,
    )


def other_base(folder: Path, made: str | None, here: str) -> None:
    """An adapter of another base model, if that can be told.

    A base is known by its name on the hub; of one in a folder the name says nothing.
    """
    on_the_hub = made and here and not Path(made).exists() and not Path(here).exists()
    if made and on_the_hub and made.rsplit("/", 1)[-1].lower() != here.rsplit("/", 1)[-1].lower():
        warn(
            f"the adapter in {folder} was made for {made!r}, and this model is {here!r}: it "
            f"fits in its shapes, and means what it was trained to mean beside {made!r} only",
            DamagedWarning,
        )


def other_quantized_base(folder: Any) -> None:
    """An adapter made by LoftQ beside other quantized weights than its own."""
    warn(
        f"the adapter in {folder} was made by LoftQ beside quantized weights that this model "
        f"does not have: another base, or one quantized without LoftQ; load it on the model "
        f"that it was made from, before quantization, and it is quantized again as it was"
    )


# --- calls without an effect ---------------------------------------------------------------------


def none_active(name: str, known: Iterable[str]) -> None:
    """The adapter in use was deleted."""
    warn(
        f"{name!r} was the adapter in use; none is now: set_adapter one of {listed(known)}, or the "
        f"base model answers"
    )


def not_entered() -> None:
    """disable_adapter() without `with`."""
    warn(
        "disable_adapter() was called and not entered, so it did nothing: write "
        "`with model.disable_adapter():` around the calls that the base model shall answer"
    )


def why_not(model: Any) -> str:
    """What keeps a `PeftModel` from learning, the first of its reasons; empty if there is none."""
    layers, active = model.base_model, model.active_adapters
    if there := layers.merged:
        return (
            f"{listed(there)} is merged into the weights, which are frozen: call "
            f"unmerge_adapter() first"
        )
    if not all(slot.enabled for slot in layers.slots().values()):
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


def teaches_nothing(model: Any, said: str) -> str:
    """Warn of a training forward that teaches nothing; once, as long as the reason is the same.

    Args:
        model: the `PeftModel`.
        said: what was said of it last.

    Returns:
        what is said now, for the next call.
    """
    why = why_not(model)
    if why and why != said:
        warn(
            f"this training forward teaches the adapters nothing: {why} (for a forward that is not "
            f"for training: model.eval() or torch.no_grad())",
            CannotLearnWarning,
        )
    return why
