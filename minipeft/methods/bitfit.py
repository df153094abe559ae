"""BitFit: train the biases and nothing else; every W stays as it was.

    y = W x + b + δb,   δb (out,), zero at the start

Ben Zaken, Goldberg, Ravfogel, "BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based
Masked Language-models" (arXiv 2106.10199). Lecture note: 001_6dba3b3b8af31941.txt, lines 20-36;
there a parameter counts as a bias if "bias" is in its name, which trains nothing in Llama and, in
T5, the tables of `relative_attention_bias`, which are no biases of a layer.

The paper trains b in place. Here δb stands beside the frozen b: the gradients are the same, the
base model can always be had back, and the file holds δb alone, a few kilobytes.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..checks import unfit, unmatched
from ..checks.errors import TargetError
from ..checks.rules import one_of
from ..layers import bases
from ..layers.families import FUSED_NAME, SMALL_BIASES, model_type, qkv_rows
from ..layers.names import ALL_LINEAR, all_linear
from .config import LayerConfig, PeftType, matches, option
from .method import Layout, Method, Placement


def along(axis: int, bias: Tensor, y: Tensor) -> Tensor:
    """`bias` (n,) shaped so that it is added to y along `axis`; -1: the last axes, as it is."""
    if axis == -1:
        return bias
    shape = [1] * y.dim()
    shape[axis] = -1
    return bias.view(shape)  # such as (n, 1, 1) beside an image (batch, n, height, width)


class BitFit(Method["BitFitConfig"]):
    """y = base_output + δb.

    Args:
        shape: of the bias: out, the width of the frozen layer's output.
        axis: the axis of base_output along which the bias is added; -1: the last.
        rows: train δb in these rows only, (n,) and int64; the other rows stay zero.
        dtype, device: of δb.

    Attributes:
        delta_bias: δb, (out,), or (n,) with `rows`.
    """

    rows: Tensor | None
    changes_matrix = False

    def __init__(
        self,
        shape: int | tuple[int, ...],
        *,
        axis: int = -1,
        rows: Tensor | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        super().__init__()
        self.shape = (shape,) if isinstance(shape, int) else shape
        self.axis = axis
        start = torch.zeros(self.shape if rows is None else rows.shape, dtype=dtype, device=device)
        self.delta_bias = nn.Parameter(start)
        self.register_buffer("rows", rows, persistent=False)

    def delta(self) -> Tensor:
        """δb in the shape of the bias."""
        if self.rows is None:
            return self.delta_bias
        return self.delta_bias.new_zeros(self.shape).index_copy(0, self.rows, self.delta_bias)

    def forward(self, base_output: Tensor) -> Tensor:
        """base_output (..., out) -> base_output + δb, in base_output's dtype."""
        return (base_output + along(self.axis, self.delta(), base_output)).to(base_output.dtype)

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        """The sum; the input plays no part."""
        h: Tensor = self(y)
        return h

    def fold(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """W, b (out,) -> W, b + δb: one bias that does what both do."""
        return weight, self.delta() if bias is None else bias + self.delta()

    def extra_repr(self) -> str:
        """Shown by print(model)."""
        return f"{tuple(self.shape)}" + ("" if self.rows is None else f", rows={len(self.rows)}")


@dataclass
class BitFitConfig(LayerConfig):
    """Which biases are trained. peft has no such type: it cannot read the files.

    Args:
        biases: "all", or "small", the paper's small variant: those of the query projection (where
            it is fused with K and V, Q's rows only) and of the feed-forward's layer from d to 4d.
        target_modules: of these, only the ones in the layers it names; None for all.
    """

    peft_type: ClassVar[str] = PeftType.BITFIT
    also_called: ClassVar[dict[str, str]] = {"bias": "biases"}

    biases: str = option("all", one_of("all", "small"))


# --- which biases there are ----------------------------------------------------------------------


def with_biases(layout: Layout, config: Any, *, named: bool) -> list[str]:
    """The layers that add a bias to their output, by dotted name, but for those inside heads.

    Args:
        layout: the model; its heads, which are trained whole, are left out.
        config: a `LayerConfig`.
        named: only the layers that `config.target_modules` names, if it names any.

    Raises:
        TargetError: a bias that could not be trained beside its layer.
    """
    fix = "name in target_modules the layers whose biases you want"
    fix = fix if named else "bias='lora_only' trains those of the adapted layers"
    target = config.target_modules if named else None
    if isinstance(target, str) and target.lower() == ALL_LINEAR:
        target = all_linear(layout.model, layout.modules, config.task_type)
    # the model's own bias: nothing can stand beside it
    mine = {} if target is not None else {"": layout.model}
    for name, layer in layout.modules.items():
        outside = not any(name == head or name.startswith(f"{head}.") for head in layout.heads)
        if outside and (target is None or matches(target, name)):
            mine[name] = layer
    users: dict[int, list[str]] = {}  # one bias may stand in several modules
    for name, layer in mine.items():
        if name and bases.biased(layer) is not None:
            users.setdefault(id(layer._parameters["bias"]), []).append(name)
    for names in users.values():
        if len(names) > 1:
            raise unfit.shared_bias(names, fix)
    for name, layer in mine.items():
        refuse_unknown(name, layer, users, layout, fix)
    return [name for names in users.values() for name in names]


def refuse_unknown(
    name: str, layer: nn.Module, known: Container[int], layout: Layout, fix: str
) -> None:
    """Raise TargetError for a parameter that is called a bias and that nobody is known to add."""
    own = layout.taken.get(name, layer)
    for key, bias in own.named_parameters(recurse=own is not layer):
        last = key.rsplit(".", 1)[-1]
        if id(bias) in known or not (last.endswith("bias") or last.startswith("bias_")):
            continue
        if own is not layer:
            why = "another adapter trains that module whole (modules_to_save)"
        elif isinstance(layer, nn.modules.linear.NonDynamicallyQuantizableLinear):
            why = "nn.MultiheadAttention reads it without calling the layer"
        else:
            why = f"it is not known where {type(layer).__name__} adds it"
        path = f"{name}.{key}" if name else key
        raise TargetError(f"the bias {path!r} cannot be trained beside its layer: {why}; {fix}")


def small(model: nn.Module, names: list[str]) -> list[str]:
    """Those of `names` that compute queries, or go from d to 4d."""
    kind = model_type(model)
    if kind not in SMALL_BIASES:
        raise unmatched.no_small_biases(kind, model, SMALL_BIASES)
    return [name for name in names if matches(SMALL_BIASES[kind], name)]


def rows_of(base: bases.Base, config: BitFitConfig) -> Tensor | None:
    """Q's rows where a fused projection has them, and `config` means no others; else None."""
    fused = FUSED_NAME.get(str(model_type(base.model)))
    if config.biases == "all" or base.name.rsplit(".", 1)[-1] != fused:
        return None
    rows = qkv_rows(base.model, base.out_features)
    return None if rows is None else rows["q"]


def biased_names(layout: Layout, config: BitFitConfig) -> list[str]:
    """All layers with a bias, or those of them that `config` names."""
    names = with_biases(layout, config, named=True)
    target, layers = config.target_modules, layout.modules
    entries = [] if target is None or isinstance(target, str) else list(target)
    lost = [entry for entry in entries if not any(matches([entry], name) for name in names)]
    biased = [name for name, layer in layers.items() if bases.biased(layer)]
    if not biased:
        raise unfit.no_biases(layout.model)
    if lost or not names:
        raise unmatched.no_layer_with_bias(lost or target, biased, lost)
    return names if config.biases == "all" else small(layout.model, names)


def beside(base: bases.Base, config: BitFitConfig) -> BitFit:
    """δb = 0 beside `base`, on its device, in at least float32."""
    assert base.bias is not None  # `biased` lets no other layer through
    rows = rows_of(base, config)
    return BitFit(
        tuple(base.bias.shape),
        axis=base.axis,
        rows=None if rows is None else rows.to(base.device),
        dtype=base.adapter_dtype,
        device=base.device,
    )


def count(base: bases.Base, config: BitFitConfig) -> int:
    """The width of the bias; a third of it where only Q's rows of a fused one are trained."""
    rows = rows_of(base, config)
    return base.out_features if rows is None else len(rows)


BITFIT = Placement(build=beside, count=count, sees=bases.biased, select=biased_names)
