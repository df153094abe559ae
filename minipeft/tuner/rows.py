"""Different adapters for different rows of one batch: one model serves many users at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..checks.errors import StateError

BASE = "__base__"  # the name of a row that gets no adapter


def batch_size(args: Sequence[Any], kwargs: Mapping[str, Any]) -> int | None:
    """How many rows a call's inputs have; None if it has no tensor."""
    first = [kwargs.get(name) for name in ("input_ids", "inputs_embeds", "inputs", "pixel_values")]
    given = [*args, *first, *kwargs.values()]
    return next((len(x) for x in given if isinstance(x, Tensor) and x.dim() > 0), None)


class Rows:
    """Which adapter answers which row.

    Args:
        names: an adapter's name, or "__base__", for each row of the batch.
    """

    def __init__(self, names: Collection[str]):
        self.names = list(names)

    def through(
        self, adapters: nn.ModuleDict, layer: nn.Module, x: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        """x (rows, ...) once through the frozen layer, and each row through its own adapter."""
        own: list[tuple[Any, Tensor]] = [
            (adapters[name], rows) for name, rows in self.of(x, adapters).items()
        ]
        for method, rows in own:
            some = x[rows]
            changed = method.before(some)
            x = x if changed is some else x.index_copy(0, rows, changed)
        y: Tensor = layer(x, *args, **kwargs)
        for method, rows in own:
            y = y.index_copy(0, rows, method.after(x[rows], y[rows]))
        return y

    def of(self, x: Any, adapters: Iterable[str]) -> dict[str, Tensor]:
        """{name: its rows of x (rows, ...)} for those of `adapters` that have any.

        A beam search repeats each row, and a layer may see a row's tokens one by one: with n rows
        for each name, row i belongs to name i // n.

        Raises:
            StateError: x is no tensor whose rows are the batch's.
        """
        count = len(x) if isinstance(x, Tensor) and x.dim() > 0 else 1
        n, rest = divmod(count, len(self.names))
        if rest or not isinstance(x, Tensor):
            raise StateError(
                f"adapter_names has {len(self.names)} names, and a layer with adapters got "
                f"{count} rows: give one name for each row of the batch (a layer that does not "
                f"see the batch, such as position embeddings, cannot take part)"
            )
        of_row = [name for name in self.names for _ in range(n)]
        places = {
            name: [row for row, other in enumerate(of_row) if other == name] for name in adapters
        }
        return {k: torch.tensor(rows, device=x.device) for k, rows in places.items() if rows}


@contextmanager
def by_row(slots: Collection[Any], adapter_names: Sequence[str]) -> Iterator[None]:
    """Inside, row i of a batch gets the adapter adapter_names[i] at each of the slots."""
    before = [slot.rows for slot in slots]
    try:
        for slot in slots:
            slot.rows = Rows(adapter_names) if slot.enabled else None
        yield
    finally:
        for slot, rows in zip(slots, before, strict=True):
            slot.rows = rows
