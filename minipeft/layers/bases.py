"""What can be wrapped: every frozen layer seen as one matrix W (out, in) and one bias (out,).

GPT-2 stores its weights transposed: `Conv1D` computes x W with W (in, out), where `nn.Linear`
computes x Wᵀ with W (out, in). A method is derived once, for W (out, in); the classes here are the
only place that knows how a layer really stores it. `view(layer)` picks the class.
"""

from __future__ import annotations

import itertools
import sys
from typing import Any

import torch
from torch import Tensor, nn

from ..checks.errors import ConfigTypeError
from .quant import packed
from .quant.linear import QuantizedLinear


class Base:
    """A layer of which only the widths are known: it can be run and adapted, not merged into.

    Attributes:
        layer: the frozen layer.
        in_features, out_features: the widths of its input and output.
        axis: the axis of its output along which it adds its bias; -1: the last, or the last ones
            where the bias has several.
        name: the layer's dotted name in the model, where it was found there.
        model: the model it was found in: its config says how heads lie in a fused projection.
    """

    kind = "opaque linear layer"
    # Whether `matrix` is a view that can be written into, or a copy made from packed weights.
    mergeable = False
    packed = False

    in_features: int
    out_features: int
    axis: int = -1
    name: str = ""
    model: nn.Module | None = None

    def __init__(self, layer: Any):
        self.layer: Any = layer
        self.in_features = self.layer.in_features
        self.out_features = self.layer.out_features

    @property
    def device(self) -> torch.device:
        """Where the layer's first parameter or buffer lives."""
        tensors = itertools.chain(self.layer.parameters(), self.layer.buffers())
        return next((t.device for t in tensors), torch.device("cpu"))

    @property
    def adapter_dtype(self) -> torch.dtype:
        """The dtype an adapter beside this layer gets: the layer's own, but at least float32.

        The updates of a half-precision adapter are often smaller than the spacing of its numbers,
        and would be lost.
        """
        tensors = itertools.chain(self.layer.parameters(), self.layer.buffers())
        own = next((t.dtype for t in tensors), torch.float32)
        return own if own in (torch.float32, torch.float64) else torch.float32

    def matrix(self) -> Tensor:
        """W, shape (out, in), as a view: writing into it writes into the layer."""
        raise ConfigTypeError(f"{type(self.layer).__name__} does not show its weight as a matrix")

    def write(self, matrix: Tensor) -> None:
        """Put `matrix` (out, in) in the place of W."""
        self.matrix().copy_(matrix)

    @property
    def bias(self) -> Tensor | None:
        """b, shape (out,), or None."""
        bias = getattr(self.layer, "bias", None)
        return bias if isinstance(bias, Tensor) else None


class Linear(Base):
    """`nn.Linear`: y = x Wᵀ + b with the weight stored as W (out, in)."""

    kind = "nn.Linear"
    mergeable = True

    def matrix(self) -> Tensor:
        """The weight itself, (out, in)."""
        weight: Tensor = self.layer.weight
        return weight


class Conv1D(Base):
    """GPT-2's `Conv1D`: y = x W + b with the weight stored as W (in, out). It has no `in_features`.

    The name is historical: a convolution of width 1 over the sequence is a linear layer.
    """

    kind = "Conv1D"
    mergeable = True

    def __init__(self, layer: Any):
        self.layer: Any = layer
        self.in_features, self.out_features = self.layer.weight.shape

    def matrix(self) -> Tensor:
        """The stored (in, out) turned over: (out, in)."""
        weight: Tensor = self.layer.weight
        return weight.T


class Embedding(Base):
    """`nn.Embedding`: y = W x with a one-hot x, so it picks a column; stored as Wᵀ (vocab, dim)."""

    kind = "nn.Embedding"
    mergeable = True

    def __init__(self, layer: Any):
        self.layer: Any = layer
        self.in_features, self.out_features = self.layer.weight.shape

    def matrix(self) -> Tensor:
        """The stored (vocab, dim) turned over: (dim, vocab)."""
        weight: Tensor = self.layer.weight
        return weight.T


class Conv(Base):
    """`nn.Conv1d` or `nn.Conv2d`: W has a row for each output channel, and its kernel flat in it.

    A patch of the input, as long as a row, meets W as x meets a linear layer's. With g groups a row
    meets in/g of the channels.
    """

    kind = "convolution"
    mergeable = True

    def __init__(self, layer: Any):
        self.layer: Any = layer
        self.out_features = self.layer.out_channels
        self.in_features = self.layer.weight[0].numel()
        self.axis = -1 - len(self.layer.kernel_size)

    def matrix(self) -> Tensor:
        """The kernels (out, in/g, *k) as rows: (out, in/g · k); a copy where they lie otherwise."""
        weight: Tensor = self.layer.weight
        return weight.flatten(1)

    def write(self, matrix: Tensor) -> None:
        """Rows become kernels again, in any memory format."""
        self.layer.weight.copy_(matrix.view(self.layer.weight.shape))


class Packed(Base):
    """A layer whose W is packed in few bits: `QuantizedLinear`, or bitsandbytes' 4 and 8 bits."""

    packed = True

    def __init__(self, layer: Any):
        super().__init__(layer)
        self.kind = packed.kind(layer)

    def matrix(self) -> Tensor:
        """W as the layer uses it, (out, in): a new tensor."""
        return packed.dequantized(self.layer)


class Biased(Base):
    """A layer with a bias that is no linear layer, such as a norm; it adds b along `axis`."""

    kind = "layer with a bias"

    def __init__(self, layer: Any, axis: int):
        self.layer: Any = layer
        self.axis = axis
        self.out_features = layer.bias.numel()
        self.in_features = getattr(layer, "in_channels", self.out_features)


def is_conv1d(layer: nn.Module) -> bool:
    """Whether `layer` is transformers' Conv1D; false if transformers was never imported."""
    module = sys.modules.get("transformers.pytorch_utils")
    return module is not None and isinstance(layer, module.Conv1D)


def view(layer: nn.Module) -> Base | None:
    """The layer as a `Base`, or None if a method on matrices cannot work on it.

    `nn.MultiheadAttention` reads its projection's weight without calling the projection, so what
    stands beside it would never run: None as well.
    """
    if isinstance(layer, nn.modules.linear.NonDynamicallyQuantizableLinear):
        return None
    if is_conv1d(layer):
        return Conv1D(layer)
    if packed.kind(layer):
        return Packed(layer)
    sizes = getattr(layer, "in_features", None), getattr(layer, "out_features", None)
    if not all(isinstance(size, int) for size in sizes):
        return None
    weight = getattr(layer, "weight", None)
    shape = tuple(weight.shape) if isinstance(weight, Tensor) else ()
    # weight_norm and the like compute the weight anew: it is no parameter of the layer
    stored = "weight" in layer._parameters and shape == sizes[::-1]
    if isinstance(layer, nn.Linear) and stored and layer.weight.is_floating_point():
        return Linear(layer)
    return Base(layer)  # packed, quantized or computed weights: a forward, and no matrix


def shaped(layer: nn.Module) -> Base | None:
    """As `view`, and the layers that are no linear layers and have one matrix all the same."""
    weight = layer._parameters.get("weight")
    if weight is None or not weight.is_floating_point():
        return view(layer)
    # a subclass with another forward may do more than look up; Gemma's scales, which is linear
    looks_up = type(layer).forward is nn.Embedding.forward or hasattr(layer, "embed_scale")
    if isinstance(layer, nn.Embedding) and looks_up and layer.max_norm is None:
        return Embedding(layer)
    if isinstance(layer, (nn.Conv1d, nn.Conv2d)):
        return Conv(layer)
    return view(layer)


def biased(layer: nn.Module) -> Base | None:
    """The layer as a `Base`, if it is known to add its parameter "bias" to its output, and where.

    A linear layer and LayerNorm add it along the last axes, BatchNorm and GroupNorm along axis 1,
    a convolution in n dimensions along the axis before its n last ones.
    """
    if layer._parameters.get("bias") is None:
        return None
    if isinstance(layer, nn.LayerNorm):
        return Biased(layer, -1)
    if isinstance(layer, (nn.modules.batchnorm._BatchNorm, nn.GroupNorm)):
        return Biased(layer, 1)
    if isinstance(layer, nn.modules.conv._ConvNd):
        return Biased(layer, -1 - len(layer.kernel_size))
    return view(layer)


def is_linear(layer: nn.Module) -> bool:
    """Whether "all-linear" means it: nn.Linear and subclasses, Conv1D, and what is quantized."""
    return isinstance(layer, (nn.Linear, QuantizedLinear)) or is_conv1d(layer)
