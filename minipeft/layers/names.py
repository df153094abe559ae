"""A model's layers by dotted name: which are linear, and which of these is the output layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn

from .bases import is_linear

ALL_LINEAR = "all-linear"
# What transformers calls the head of a classifier of texts.
CLASSIFIERS = ("classifier", "score")


def all_linear(
    model: nn.Module, modules: Mapping[str, nn.Module], task_type: str | None = None
) -> list[str]:
    """The layers that `target_modules="all-linear"` means: all but the output layer."""
    skip = output_layers(model, modules, task_type)
    return [name for name, layer in modules.items() if is_linear(layer) and name not in skip]


def output_layers(
    model: nn.Module, modules: Mapping[str, nn.Module], task_type: str | None = None
) -> list[str]:
    """The names of the language-model head, or of a classifier's."""
    get = getattr(model, "get_output_embeddings", None)
    head = get() if callable(get) else None
    if head is None and task_type == "SEQ_CLS":
        heads = [getattr(model, name, None) for name in CLASSIFIERS]
        head = next((h for h in heads if h is not None), None)
    inner = getattr(head, "base_layer", head)  # inside a wrapper
    return [name for name, module in modules.items() if head is not None and module is inner]


def endings(names: Iterable[str]) -> list[str]:
    """The distinct last parts of dotted names."""
    return list(dict.fromkeys(name.rsplit(".", 1)[-1] for name in names))


def linear_endings(modules: Mapping[str, nn.Module]) -> list[str]:
    """The distinct last parts of the linear layers' names."""
    return endings(name for name, layer in modules.items() if name and is_linear(layer))
