"""LoRA beside an embedding and beside a convolution: each is one matrix W, so ΔW = s · B A again.

An embedding is W (dim, vocab) on a one-hot x: A x is a column of A, looked up and not multiplied.

A convolution is W (out, in · k²) on each patch of the image: A is a convolution to r channels with
the layer's own stride, padding and dilation, and B mixes the r numbers at each place (a 1 × 1
convolution). Lecture note: 004_ef2477f8fdb3fa89.txt, lines 98-122, where the class is unfinished.
With g groups of channels W is (out, in/g · k²): the same A reads each group, and each row of B the
r numbers of its own group, so that W + s · B A is still a kernel of the layer. (Hugging Face peft
drops dilation and the padding mode, and what it does with groups fits into no kernel.)
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from .. import bases
from ..core import Method
from ..errors import TargetError
from .loftq import start
from .lora import Dropout, LoraConfig, LoRALayer
from .lora_bias import TrainedBias
from .patterns import strength


class LoRAEmbedding(LoRALayer):
    """h = base_output + s · B A x for a one-hot x: the token's column of A, through B.

    Args:
        layer: the frozen `nn.Embedding`.
        rank, lora_alpha, options: as in `LoRALayer`; dropout drops whole tokens, the ones in x.

    Attributes:
        lora_A: A, shape (r, vocab), zero at the start: then only the columns in use get gradients.
        lora_B: B, shape (dim, r), standard normal.
    """

    def __init__(
        self, layer: nn.Module, rank: int = 16, lora_alpha: float = 32, **options: Any
    ) -> None:
        self.layer = (layer,)  # in a tuple: the wrapper has the layer among its own
        widths = LoRALayer.built_from(bases.Embedding(layer))
        super().__init__(**widths, rank=rank, lora_alpha=lora_alpha, **options)

    def reset_parameters(self, init_lora_weights: bool | str = True) -> None:
        """A zero, B standard normal, the reverse of a linear layer's; False: both random."""
        nn.init.normal_(self.lora_B)
        if init_lora_weights is False:
            nn.init.normal_(self.lora_A)
        else:
            nn.init.zeros_(self.lora_A)

    def forward(self, x: Tensor, base_output: Tensor) -> Tensor:
        """Ids x (...), base_output (..., dim) -> base_output + s · B A x, (..., dim)."""
        layer: Any = self.layer[0]
        # (..., r); no gradient reaches the column of the padding token
        ax = F.embedding(x, self.lora_A.T, layer.padding_idx)
        if isinstance(self.dropout, Dropout):
            ax = ax * self.dropout(ax.new_ones(x.shape))[..., None]
        update = F.linear(ax * self.scaling, self.lora_B)  # (..., dim)
        scale = getattr(layer, "embed_scale", None)  # Gemma multiplies its rows
        update = update if scale is None else update * scale
        return (base_output + update).to(base_output.dtype)

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        """The update; `forward` does the dropout, since ids have no zero to drop to."""
        return self.forward(x, y)

    @classmethod
    def built_from(cls, base: bases.Base) -> dict[str, Any]:
        """The layer."""
        return {"layer": base.layer}


class LoRAConv(LoRALayer):
    """h = base_output + s · B A x, A a convolution to r channels and B one of size 1.

    Args:
        layer: the frozen `nn.Conv1d` or `nn.Conv2d`.
        rank, lora_alpha, options: as in `LoRALayer`.

    Attributes:
        lora_A: A, shape (r, in/g, *k).
        lora_B: B, shape (out, r, *1).
    """

    def __init__(
        self, layer: nn.Module, rank: int = 16, lora_alpha: float = 32, **options: Any
    ) -> None:
        widths = LoRALayer.built_from(bases.Conv(layer))
        super().__init__(**widths, rank=rank, lora_alpha=lora_alpha, **options)
        kernel: Any = layer.weight
        self.layer = (layer,)
        self.lora_A = nn.Parameter(self.lora_A.detach().view(rank, *kernel.shape[1:]))
        ones = (1,) * (kernel.dim() - 2)
        self.lora_B = nn.Parameter(self.lora_B.detach().view(-1, rank, *ones))
        if self.trained_bias is not None:
            self.trained_bias.axis = 1 - kernel.dim()

    def forward(self, x: Tensor, base_output: Tensor) -> Tensor:
        """x (n, in, *size), base_output (n, out, *size') -> base_output + s · B A x, its shape."""
        layer: Any = self.layer[0]
        conv = F.conv1d if self.lora_B.dim() == 3 else F.conv2d
        each = self.lora_A.repeat(layer.groups, *(1,) * (self.lora_A.dim() - 1))
        # the layer's own convolution with other kernels: stride, padding, dilation, padding mode
        ax = layer._conv_forward(x.to(each.dtype), each, None)  # (n, g · r, *size')
        update = conv(ax * self.scaling, self.lora_B, groups=layer.groups)  # (n, out, *size')
        return (base_output + update).to(base_output.dtype)

    @classmethod
    def built_from(cls, base: bases.Base) -> dict[str, Any]:
        """The layer."""
        return {"layer": base.layer}


def kind_of(base: bases.Base, use_dora: bool) -> type[LoRALayer]:
    """The class that adapts a layer like this one."""
    from .dora import DoRAConv, DoRAEmbedding, DoRALayer

    if isinstance(base, bases.Embedding):
        return DoRAEmbedding if use_dora else LoRAEmbedding
    if isinstance(base, bases.Conv):
        return DoRAConv if use_dora else LoRAConv
    return DoRALayer if use_dora else LoRALayer


def build(base: bases.Base, config: LoraConfig) -> Method[Any]:
    """The method's module for one layer: `LoRALayer.for_layer`.

    Raises:
        TargetError: the layer cannot take what `config` asks for.
    """
    if not base.targeted:
        return TrainedBias.for_layer(base, config)
    if config.fan_in_fan_out and not isinstance(base, bases.Conv1D):
        raise TargetError(
            f"fan_in_fan_out=True says that weights are stored (in, out), but "
            f"{base.kind} stores (out, in); leave fan_in_fan_out out, the layer's class decides"
        )
    kind = kind_of(base, config.use_dora)
    r, lora_alpha = strength(config, base.name)
    method = kind(
        **kind.built_from(base),
        rank=r,
        lora_alpha=lora_alpha,
        dropout=config.lora_dropout,
        use_rslora=config.use_rslora,
        init_lora_weights=config.init_lora_weights,
        bias=None if config.bias == "none" else base.bias,
        dtype=base.adapter_dtype,
        device=base.device,
    )
    if config.init_lora_weights == "loftq":
        start(method, base, config.loftq_config)
    return method
