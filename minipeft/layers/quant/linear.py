"""The 4-bit layer: a frozen linear layer whose W exists only while it is used.

    y = x dq(Q)ᵀ + b        dx = dy dq(Q)        dq(Q): W dequantized, used once and forgotten

Autograd keeps the packed codes: the backward pass dequantizes them again. That costs time and saves
the memory that quantization was for. W is frozen, so it gets no gradient, but the gradient of the
input still passes through it.

QLoRA (arXiv 2305.14314), equations 5 and 6. Lecture note: 001_6dba3b3b8af31941.txt, lines 162-170.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from .blocks import Quantized, dequantize, expand, quantize


@cache
def compiled_expand() -> Callable[..., Tensor]:
    """`expand` as one loop, made by torch's compiler on first use (it needs a C++ compiler)."""
    return torch.compile(expand)


class Packed(torch.autograd.Function):
    """y = x dq(Q)ᵀ, keeping only what W is packed in."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: QuantizedLinear) -> Tensor:
        """x (..., in) -> (..., out), in x's dtype."""
        ctx.layer, ctx.dtype = layer, x.dtype
        return F.linear(x, layer.dequantized(x.dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """Dy (..., out) -> dx (..., in)."""
        (dy,) = grads
        return (dy @ ctx.layer.dequantized(dy.dtype)).to(ctx.dtype), None


class QuantizedLinear(nn.Module):
    """y = x dq(Q)ᵀ + b, with W frozen in k bits.

    Args:
        weight: W, (out, in), quantized.
        bias: b, (out,), or None; kept as it is.
        compute_dtype: what is multiplied in; None: the input's dtype. The result has the input's.
        compile: dequantize in a loop made by `torch.compile`, as fast as bitsandbytes' own.
        source_cls: the class of the layer that it stands for: `nn.Linear` or GPT-2's `Conv1D`.

    Attributes:
        codes, absmax, offset, absmax_scale: what W is packed in (see `Quantized`), as buffers, so
            that they move, save, load and copy with the model. `.half()` and `.to(dtype)` leave
            them as they are.
    """

    SCALES = ("absmax", "offset", "absmax_scale")
    bias: nn.Parameter | None

    def __init__(
        self,
        weight: Quantized,
        bias: nn.Parameter | None = None,
        *,
        compute_dtype: torch.dtype | None = None,
        compile: bool = False,
        source_cls: type[nn.Module] = nn.Linear,
    ):
        super().__init__()
        self.source_cls = source_cls
        self.out_features, self.in_features = weight.shape
        self.blocksize, self.quant_type = weight.blocksize, weight.quant_type
        self.weight_dtype = weight.dtype
        self.compute_dtype, self.compile_dequantize = compute_dtype, compile
        for name in ("codes", *self.SCALES):
            self.register_buffer(name, getattr(weight, name))
        self.register_parameter("bias", bias)

    @classmethod
    def of(cls, weight: Tensor, bias: nn.Parameter | None = None, **options: Any) -> Self:
        """The layer for W (out, in); `options` of `quantize` and of the class."""
        names = ("compute_dtype", "compile", "source_cls")
        own = {key: options.pop(key) for key in names if key in options}
        return cls(quantize(weight, **options), bias, **own)

    def quantized(self) -> Quantized:
        """W as it is held."""
        shape = torch.Size((self.out_features, self.in_features))
        buffers: dict[str, Any] = {name: getattr(self, name) for name in ("codes", *self.SCALES)}
        return Quantized(
            shape=shape,
            dtype=self.weight_dtype,
            blocksize=self.blocksize,
            quant_type=self.quant_type,
            **buffers,
        )

    def dequantized(self, dtype: torch.dtype | None = None) -> Tensor:
        """W as it is used, (out, in): a new tensor, in `dtype` or W's own."""
        loop = compiled_expand() if self.compile_dequantize else None
        return dequantize(self.quantized(), dtype, loop)

    @property
    def weight(self) -> Tensor:
        """W as it is used, for code that asks a linear layer for its weight: a copy each time."""
        return self.dequantized()

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in) -> (..., out), in x's dtype, or autocast's."""
        given, dtype, kind = x.dtype, self.compute_dtype or x.dtype, x.device.type
        cast = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
        if cast and given != torch.float64:  # as for a dense layer
            given = dtype = torch.get_autocast_dtype(kind)
        y: Tensor = Packed.apply(x.to(dtype), self)  # type: ignore[no-untyped-call]
        if self.bias is not None:
            y = y + self.bias.to(dtype)
        return y.to(given)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> QuantizedLinear:
        # model.half() converts every floating buffer; a scale in half precision is another scale
        kept = {name: buffer.dtype for name, buffer in self.named_buffers(recurse=False)}
        old = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, dtype in kept.items():
            new = self._buffers[name]
            if new is not None and new.dtype != dtype:
                self._buffers[name] = old[name].to(new.device)
        return self

    def extra_repr(self) -> str:
        """Shown by print(model)."""
        bits = self.quantized().bits_per_weight
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}, {self.quant_type} in blocks of {self.blocksize}, "
            f"{bits:.3f} bits per weight"
        )
