"""What W and b of a layer are with adapters folded in; the wrapper puts them in place."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..checks import refuse
from ..layers import bases


class Loss(NamedTuple):
    """What the weight's dtype took from a merge: lengths of what was rounded off, and of ΔW."""

    rounded: float
    change: float


NONE = Loss(0.0, 0.0)


def fold(
    base: bases.Base | None, methods: list[Any], layer: str, names: list[str]
) -> tuple[Tensor | None, Tensor | None, Loss]:
    """One method after the other changes W and b, in at least float32, rounded once at the end.

    Args:
        base: the layer as it stands, or None if there is nothing known of it.
        methods: what is folded in, in order.
        layer: what an error calls the layer; names: the adapters' names.

    Returns:
        W (out, in) and b (out,) in the layer's dtype, None for what stays as it is; and the loss.

    Raises:
        StateError: the layer has no matrix to merge into, or no bias where the result needs one,
            or the result is not finite.
    """
    into_matrix = any(method.changes_matrix for method in methods)
    if base is None or (into_matrix and not (base.mergeable or base.packed)):
        raise refuse.no_matrix(layer)
    weight = base.matrix() if into_matrix else torch.empty(0)  # (0,): nobody asks for W
    bias = base.bias
    folded = weight.to(base.adapter_dtype)
    folded_bias = None if bias is None else bias.to(base.adapter_dtype)
    for method in methods:
        folded, folded_bias = method.fold(folded, folded_bias)
    if (bias is None) != (folded_bias is None):
        raise refuse.other_bias(names, layer, bias is None)
    new = folded.to(weight.dtype) if into_matrix else None
    new_bias = None if bias is None or folded_bias is None else folded_bias.to(bias.dtype)
    if not all(t is None or t.is_meta or t.isfinite().all() for t in (new, new_bias)):
        raise refuse.not_finite(names)
    if new is None or new.is_meta or new.dtype == folded.dtype:
        return new, new_bias, NONE
    lost, change = (new - folded).norm().item(), (folded - weight).norm().item()
    return new, new_bias, Loss(lost, change)
