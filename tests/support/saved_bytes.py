"""What autograd keeps for the backward pass, and how much of it an adapter beside a layer costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks


class Saved:
    """`with Saved() as saved:` collects the storages that autograd keeps, each of them once.

    Attributes:
        storages: by address; held here, so that no address is given out a second time.
    """

    def __init__(self) -> None:
        self.storages: dict[int, torch.UntypedStorage] = {}
        self.hooks = saved_tensors_hooks(self.pack, lambda tensor: tensor)

    def __enter__(self) -> Saved:
        self.hooks.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.hooks.__exit__(*error)

    def pack(self, tensor: Tensor) -> Tensor:
        """Called by autograd for every tensor that it keeps."""
        storage = tensor.untyped_storage()
        self.storages[storage.data_ptr()] = storage
        return tensor


def saved_bytes(model: nn.Module, layers: Iterable[str], call: Callable[[Any], Any]) -> int:
    """Bytes kept by one forward pass, without parameters and without the inputs of `layers`.

    Args:
        model: what is called.
        layers: dotted names in it; "" is the model itself.
        call: makes the forward pass and returns its result.
    """
    inputs: dict[int, torch.UntypedStorage] = {}

    def note(_: nn.Module, args: tuple[Any, ...]) -> None:
        storage = args[0].untyped_storage()
        inputs[storage.data_ptr()] = storage

    hooks = [model.get_submodule(name).register_forward_pre_hook(note) for name in layers]
    with Saved() as saved:
        result = call(model)
    for hook in hooks:
        hook.remove()
    own = {t.untyped_storage().data_ptr() for t in chain(model.parameters(), model.buffers())}
    size = sum(s.nbytes() for at, s in saved.storages.items() if at not in own | inputs.keys())
    del result  # the graph, and with it what it keeps, lived up to here
    return size


def extra_saved(
    frozen: nn.Module, adapted: nn.Module, layers: list[str], call: Callable[[Any], Any]
) -> int:
    """Bytes that autograd keeps for the adapters beside `layers`, beyond the frozen model's own."""
    return saved_bytes(adapted, layers, call) - saved_bytes(frozen, layers, call)
