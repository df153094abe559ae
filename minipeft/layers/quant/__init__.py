"""Frozen weights in four bits: the codebook, the blocks, the layer."""

from .blocks import Quantized, dequantize, dequantize_nf4, quantize, quantize_nf4
from .codebook import levels, normal_float
from .linear import QuantizedLinear

__all__ = [
    "Quantized",
    "QuantizedLinear",
    "dequantize",
    "dequantize_nf4",
    "levels",
    "normal_float",
    "quantize",
    "quantize_nf4",
]
