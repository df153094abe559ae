"""Linear layers whose W is packed, ours and bitsandbytes', behind one face: look, unpack, rebuild.

bitsandbytes is never imported here: a layer of its kind can only be there if somebody else did.
Its 4-bit layer keeps W as one column of bytes with a `quant_state`; its 8-bit layer keeps int8 rows
with a scale for each row.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn

from ...checks import doubts
from .linear import QuantizedLinear


def bnb_class(name: str) -> type[Any]:
    """bitsandbytes' class, or one that nothing is an instance of."""
    module = sys.modules.get("bitsandbytes.nn")
    found: type[Any] = getattr(module, name, Never)
    return found


class Never:
    """No layer is one of these."""


def kind(layer: nn.Module) -> str:
    """What an error calls a packed layer; empty for any other."""
    if isinstance(layer, QuantizedLinear):
        return f"{layer.quant_type} QuantizedLinear"
    if isinstance(layer, bnb_class("Linear4bit")):
        packed = getattr(layer.weight, "quant_state", None) is not None
        return "bitsandbytes Linear4bit" if packed else ""
    if isinstance(layer, bnb_class("Linear8bitLt")):
        return "bitsandbytes Linear8bitLt" if layer.weight.dtype == torch.int8 else ""
    return ""


def size(layer: nn.Module) -> tuple[int, int]:
    """(numbers in W, numbers that its parameters seem to hold): what a count must put right."""
    if isinstance(layer, QuantizedLinear):
        return layer.in_features * layer.out_features, 0
    if kind(layer):
        weight: Any = layer.weight
        shape = weight.quant_state.shape if hasattr(weight, "quant_state") else weight.shape
        return shape.numel(), weight.numel()
    return 0, 0


def hidden_parameters(model: nn.Module) -> int:
    """How many numbers packed weights stand for beyond those that `model.parameters()` shows."""
    sizes = [size(module) for module in model.modules()]
    return sum(stands_for - shown for stands_for, shown in sizes)


@torch.no_grad()
def dequantized(layer: Any) -> Tensor:
    """W as the layer uses it, (out, in), a new tensor in the dtype it had before."""
    if isinstance(layer, QuantizedLinear):
        return layer.dequantized()
    functional: Any = sys.modules["bitsandbytes"].functional
    if isinstance(layer, bnb_class("Linear4bit")):
        settle(layer)
        unpacked: Tensor = functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        return unpacked
    scale = layer.state.SCB if layer.weight.SCB is None else layer.weight.SCB
    rows: Tensor = functional.int8_vectorwise_dequant(layer.weight.data, scale)
    return rows


def dense(layer: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """A layer of the class that was packed, with this W (out, in) and b, frozen.

    transformers, too, leaves the class as `source_cls`: GPT-2's Conv1D keeps W turned over.
    """
    kind = getattr(layer, "source_cls", None) or nn.Linear
    out_features, in_features = weight.shape
    new: Any
    if kind is nn.Linear:
        new = nn.Linear(in_features, out_features, False, device="meta")
    else:
        new, weight = kind(out_features, in_features), weight.T.contiguous()
    new.weight = nn.Parameter(weight, requires_grad=False)
    return with_bias(new, bias)


def requantized(layer: Any, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """A packed layer of the same kind with this W (out, in) and b, frozen."""
    if isinstance(layer, QuantizedLinear):
        q = layer.quantized()
        new: Any = QuantizedLinear.of(
            weight,
            quant_type=q.quant_type,
            blocksize=q.blocksize,
            double_quant=q.offset is not None,
            compute_dtype=layer.compute_dtype,
            compile=layer.compile_dequantize,
            source_cls=layer.source_cls,
        )
        new.weight_dtype = q.dtype
        return with_bias(new, bias)
    bnb: Any = sys.modules["bitsandbytes"]
    if isinstance(layer, bnb_class("Linear4bit")):
        old = layer.weight
        new = bnb.nn.Linear4bit(
            weight.shape[1], weight.shape[0], False, layer.compute_dtype, device="meta"
        )
        packed = bnb.nn.Params4bit(
            weight.contiguous(),
            requires_grad=False,
            blocksize=old.blocksize,
            compress_statistics=old.compress_statistics,
            quant_type=old.quant_type,
            quant_storage=old.quant_storage,
        )
        new.weight = packed.to(weight.device)
        settle(new)
    else:
        state = layer.state
        new = bnb.nn.Linear8bitLt(
            weight.shape[1],
            weight.shape[0],
            False,
            has_fp16_weights=False,
            threshold=state.threshold,
            device="meta",
        )
        packed = bnb.nn.Int8Params(weight.cpu(), requires_grad=False, has_fp16_weights=False)
        new.weight = packed.to(weight.device)
    if hasattr(layer, "source_cls"):
        new.source_cls = layer.source_cls  # or a later merge would not know Conv1D
    return with_bias(new, bias)


def with_bias(new: Any, bias: Tensor | None) -> nn.Module:
    """The layer with this bias, frozen."""
    new.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
    layer: nn.Module = new
    return layer


@torch.no_grad()
def rebuilt(layer: Any, weight: Tensor, bias: Tensor | None, requantize: bool) -> nn.Module:
    """A plain layer with another W and b in a packed one's place, or a packed one of its kind.

    The latter gets two attributes that `doubts.merged` reads: the length of what was rounded
    away, and of the change from the old W.
    """
    if not requantize:
        return dense(layer, weight, bias).train(layer.training)
    new: Any = requantized(layer, weight, bias)
    new.rounding = (dequantized(new) - weight).norm().item()
    new.change = (weight - dequantized(layer)).norm().item()
    packed: nn.Module = new.train(layer.training)
    return packed


def settle(model: nn.Module) -> None:
    """Keep bitsandbytes' 4-bit layers in the form that they can be trained in.

    On CPUs with AVX512-BF16 their first forward in eval mode without gradients repacks W for
    inference, with scales in bfloat16; from then on no gradient passes through such a layer, in
    training mode either, and none reaches the adapters below it (bitsandbytes 0.50.2). The flag
    that switches this on is taken back, and layers that were repacked already are turned round
    again.

    Args:
        model: a model, of which also the layers that no adapter stands beside matter, or a layer.
    """
    layers: list[Any] = [m for m in model.modules() if isinstance(m, bnb_class("Linear4bit"))]
    states = [(layer, getattr(layer.weight, "quant_state", None)) for layer in layers]
    turned = [layer for layer, q in states if getattr(q, "packing_format_for_cpu", False)]
    if turned:
        doubts.repacked(len(turned))
    for layer in turned:
        layer.state_dict()  # saving is what makes bitsandbytes unpack
    for layer in layers:
        layer.support_avx512bf16_for_cpu = False
