"""A module trained whole: the new head of a classifier, or what `modules_to_save` names."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..checks.errors import StateError
from .slots import Slot


class SavedModule(Slot):
    """A module trained whole, on a copy per adapter; the original stays frozen beside the copies.

    Attributes:
        original_module: the module that stood in the model.
    """

    kind = "whole"

    def __init__(self, original: nn.Module):
        super().__init__()
        self.original_module = original

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The active adapter's copy, or the original."""
        if self.rows is not None:
            return self.by_row(*args, **kwargs)
        return self.current()(*args, **kwargs)

    def by_row(self, *args: Any, **kwargs: Any) -> Tensor:
        """The original for all rows of the one input, and over it each row's own copy."""
        x = args[0] if len(args) == 1 and not kwargs else None
        y = self.original_module(*args, **kwargs)
        if not isinstance(y, Tensor) or self.rows is None:
            raise StateError(
                f"adapter_names needs modules that give one tensor, and a "
                f"{type(self.original_module).__name__} trained whole gives a {type(y).__name__}"
            )
        for name, i in self.rows.of(x, self.adapters).items():
            y = y.index_copy(0, i, self.adapters[name](args[0][i]))
        return y

    def current(self) -> nn.Module:
        """The copy in use, or the original; the last of several active adapters wins."""
        names = self.merged or (self.active if self.enabled else ())
        return self.adapters[names[-1]] if names else self.original_module

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "original_module":
                raise
            return getattr(self.current(), name)

    def merge(self, names: tuple[str, ...], requantize: bool = False) -> None:
        """Let the copy stand for the module."""
        self.merged = tuple(name for name in names if name in self.adapters)

    def unmerge(self) -> None:
        """Let the original be the original again."""
        self.merged = ()

    def released(self) -> nn.Module:
        """The merged copy if there is one, else the original."""
        return self.current() if self.merged else self.original_module
