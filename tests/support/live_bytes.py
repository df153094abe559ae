"""How many bytes of tensors are alive, and at most were, while a piece of code ran."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """`with LiveBytes() as live:` counts storages that torch's operations make, and their ends.

    Attributes:
        now: bytes alive that were made inside.
        peak: the most there were.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation, and count what is new in its result."""
        given = {
            t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if is_tensor(t)
        }
        result = func(*args, **(kwargs or {}))
        for tensor in filter(is_tensor, tree_leaves(result)):
            storage = tensor.untyped_storage()
            place, size = storage.data_ptr(), storage.nbytes()
            if place in given or place in self.known or not size:
                continue
            self.known.add(place)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.end, place, size)
        return result

    def end(self, place: int, size: int) -> None:
        """A storage is gone."""
        self.known.discard(place)
        self.now -= size


def is_tensor(value: Any) -> bool:
    """Whether it is a tensor with memory."""
    return isinstance(value, torch.Tensor) and not value.is_meta
