"""Which modules an adapter trains whole: those asked for, and the new head of a task."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from .config import HEADS, PeftConfig, TaskType
from .errors import TargetError, did_you_mean, listed
from .names import matches, named_layers
from .quant.packed import hidden_parameters

# What transformers calls a model with that head.
CLASSES = {
    TaskType.SEQ_CLS: "SequenceClassification",
    TaskType.TOKEN_CLS: "TokenClassification",
    TaskType.QUESTION_ANS: "QuestionAnswering",
}


def find_heads(model: nn.Module, config: PeftConfig, *, every: bool = True) -> dict[str, nn.Module]:
    """The modules trained whole, by dotted name.

    Args:
        model, config: see `find_targets`.
        every: demand that the task fits the model (a saved adapter may stand on any).

    Raises:
        TargetError: an entry of `modules_to_save` matches no module; or the task's head is not
            there, and nobody would notice that none is trained.
    """
    layers = {name: module for name, module in named_layers(model) if name}
    # A task has several names for its head, of which a model has one.
    own = HEADS[TaskType(config.task_type)] if config.task_type in HEADS else ()
    for entry in [entry for entry in config.modules_to_save or () if entry not in own]:
        if not any(matches([entry], name) for name in layers):
            known = [*layers, *(name.rsplit(".", 1)[-1] for name in layers)]
            raise TargetError(
                f"modules_to_save: {entry!r} matches no module{did_you_mean(entry, known)}"
            )
    heads = config.heads()
    found = {n: m for n, m in layers.items() if heads and matches(heads, n)}
    transformers_own = hasattr(model, "config")  # a plain module may call its head as it likes
    if own and not found and every and transformers_own and not config.modules_to_save:
        parts = listed(name for name, _ in model.named_children())
        raise TargetError(
            f"task_type={TaskType(config.task_type).value} trains the model's new head "
            f"({' or '.join(own)}), and {type(model).__name__} has none; name it in "
            f"modules_to_save, if it has another name (the model's parts are {parts}); or load the "
            f"base by AutoModelFor{CLASSES[TaskType(config.task_type)]}; or leave task_type out"
        )
    outer = tuple(f"{name}." for name in found)  # what stands inside a head is copied with it
    return {n: m for n, m in found.items() if not n.startswith(outer)}


def refuse_packed(heads: Mapping[str, nn.Module]) -> None:
    """Refuse to train quantized layers whole: their numbers are packed, and take no gradient."""
    for path, head in heads.items():
        if hidden_parameters(head):
            raise TargetError(
                f"modules_to_save: {path!r} is, or holds, a quantized layer, whose packed numbers "
                f"cannot be trained; name it in quantize_model(skip_modules=[...]), or adapt it"
            )
