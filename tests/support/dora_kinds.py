"""DoRA beside a convolution and an embedding: `DoRALayer` around the LoRA that suits the layer."""

from __future__ import annotations

from typing import Any

from torch import nn

from minipeft import DoRALayer
from minipeft.methods.lora_options.conv import LoRAConv
from minipeft.methods.lora_options.embedding import LoRAEmbedding


def dora_conv(layer: nn.Module, rank: int = 16, lora_alpha: float = 32, **options: Any) -> Any:
    return DoRALayer(layer, lora=LoRAConv(layer, rank, lora_alpha, **options))


def dora_embedding(layer: nn.Module, rank: int = 16, lora_alpha: float = 32, **options: Any) -> Any:
    return DoRALayer(layer, lora=LoRAEmbedding(layer, rank, lora_alpha, **options))
