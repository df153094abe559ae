"""LoRA: the change of a weight matrix during fine-tuning has low rank, so train its two factors.

    W = W₀ + ΔW,   ΔW = s · B A,   A (r, in),  B (out, r),  r ≪ min(in, out)
    h = W₀ x + s · B A x

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (arXiv 2106.09685), equation 3 with
the scale s = α/r of section 4.1. Lecture note: 003_2a78d11827cb1020.txt, lines 36-119; there A is
stored (in, r), which makes its initialisation too large (lesson 08 shows by how much).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import unfit
from ..checks.rules import flag, one_of, optional, patterns_to, real, unavailable, whole
from ..layers import bases
from ..layers.families import ATTENTION
from .config import LayerConfig, PeftType, anything, option
from .lora_options.orthogonal import orthogonal
from .lora_options.patterns import layer_numbers, list_names
from .lora_options.replication import pairs
from .method import LINEAR, Method, Placement


def scaling(lora_alpha: float, r: int, use_rslora: bool = False) -> float:
    """How strongly the update counts: α/r, or α/√r for rank-stabilised LoRA (arXiv 2312.03732).

    Args:
        lora_alpha: α, the strength at r = 1.
        r: the rank.
        use_rslora: True for α/√r.
    """
    return lora_alpha / math.sqrt(r) if use_rslora else lora_alpha / r


def lora_parameters(in_features: int, out_features: int, r: int) -> int:
    """How many numbers A (r, in) and B (out, r) of one LoRA hold together (002:L105)."""
    return r * (in_features + out_features)


class Dropout(nn.Module):
    """Each entry is 0 with probability p, and the others are divided by 1 - p.

    `nn.Dropout` draws 53 random bits for each entry on a CPU, which costs more than the LoRA. Here
    four entries share one 64-bit integer, so p is exact to 2⁻¹⁷.
    """

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """x, any shape; in eval mode as it is."""
        if not self.training or x.device.type != "cpu":
            return F.dropout(x, self.p, self.training)
        draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        draws = draws.view(torch.int16)[: x.numel()].view(x.shape)  # uniform in -2¹⁵ … 2¹⁵ - 1
        kept = torch.empty_like(x)  # 0 or 1, in x's dtype at once
        torch.ge(draws, round(self.p * 2**16) - 2**15, out=kept)
        return x * kept.mul_(1 / (1 - self.p))


class LoRALayer(Method["LoraConfig"]):
    """h = base_output + s · B A x, with s = lora_alpha / rank.

    Args:
        in_features, out_features: the widths of the frozen layer.
        rank: r, the inner width of the product B A.
        lora_alpha: α; the update is scaled by α/r, so that changing r keeps its size.
        dropout: probability of dropping an entry of x on the LoRA path; the frozen path keeps all.
        use_rslora, init_lora_weights: see `scaling` and `reset_parameters`.
        dtype, device: of A and B.

    Attributes:
        lora_A, lora_B, scaling: A, shape (r, in), B, shape (out, r), and s.
    """

    on_disk = {"lora_A": "lora_A.weight", "lora_B": "lora_B.weight"}

    def __init__(
        self,
        in_features: int,
        out_features: int,
        rank: int = 16,
        lora_alpha: float = 32,
        *,
        dropout: float = 0.0,
        use_rslora: bool = False,
        init_lora_weights: bool | str = True,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        super().__init__()
        self.scaling = scaling(lora_alpha, rank, use_rslora)
        self.ranks = rank, min(in_features, out_features)
        self.lora_A = nn.Parameter(torch.empty(rank, in_features, dtype=dtype, device=device))
        self.lora_B = nn.Parameter(torch.empty(out_features, rank, dtype=dtype, device=device))
        self.dropout = Dropout(dropout) if dropout > 0 else nn.Identity()
        self.reset_parameters(init_lora_weights)

    def reset_parameters(self, init_lora_weights: bool | str = True) -> None:
        """Start with ΔW = 0: A random, B zero.

        True: A uniform in ±1/√in, which is Kaiming's bound with a = √5 for a matrix (r, in).
        "gaussian": A normal with standard deviation 1/r. False: B random too, in ±1/√r, so that
        ΔW ≠ 0; for tests only. "orthogonal": neither is zero, and B A is (see its file).
        """
        if init_lora_weights not in (True, False, "gaussian", "orthogonal"):
            raise unfit.lora_start(init_lora_weights)
        if init_lora_weights == "gaussian":
            nn.init.normal_(self.lora_A, std=1 / self.lora_A.shape[0])
        else:
            nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        if init_lora_weights is False:
            nn.init.kaiming_uniform_(self.lora_B, a=math.sqrt(5))
        else:
            nn.init.zeros_(self.lora_B)
        if init_lora_weights == "orthogonal":
            orthogonal(self.lora_A, self.lora_B)

    def forward(self, x: Tensor, base_output: Tensor) -> Tensor:
        """x (..., in), base_output (..., out) -> base_output + s · B A x, (..., out).

        Half-precision inputs are multiplied in A's dtype and the sum is rounded once, to
        base_output's dtype.
        """
        a, b = self.lora_A, self.lora_B
        ax = x.to(a.dtype).reshape(-1, a.shape[1]) @ a.T  # (tokens, r)
        y = base_output.to(ax.dtype).reshape(-1, b.shape[0])  # (tokens, out)
        h = torch.addmm(y, ax, b.T, alpha=self.scaling)  # y + s · (A x) Bᵀ in one pass over y
        return h.view(base_output.shape).to(base_output.dtype)

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        """The update with dropout on its input only."""
        return self.forward(self.dropout(x), y)

    def delta_weight(self) -> Tensor:
        """ΔW = s · B A, shape (out, in)."""
        return self.scaling * (self.lora_B.flatten(1) @ self.lora_A.flatten(1))

    def fold(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """W (out, in), b -> W + ΔW, b: one matrix that does what both do."""
        return weight + self.delta_weight(), bias

    def extra_repr(self) -> str:
        """Shown by print(model)."""
        (r, n), out = self.lora_A.flatten(1).shape, self.lora_B.shape[0]
        return f"in_features={n}, out_features={out}, rank={r}, scaling={self.scaling:g}"


@dataclass
class LoraConfig(LayerConfig):
    """What a LoRA is: peft's names, defaults and meanings.

    Args:
        r: the rank.
        lora_alpha: α; the update is scaled by α/r.
        lora_dropout: dropout on the LoRA path's input, in [0, 1).
        use_rslora: scale by α/√r.
        use_dora: train the rows' lengths apart from their directions (see dora.py).
        init_lora_weights: True, "gaussian", "orthogonal", False (see `reset_parameters`), or
            "loftq": quantize the layers, and start at what that lost (see loftq.py).
        loftq_config: a `LoftQConfig`, or its options as a dict; only with "loftq".
        fan_in_fan_out: weights are stored (in, out); True is refused on an `nn.Linear`.
        bias: the biases trained as well: "none", "all", or "lora_only" (lora_options/bias.py).
        rank_pattern, alpha_pattern: another r or α for some layers, by name; layers_to_transform,
            layers_pattern: in which of the numbered layers (lora_options/patterns.py).
        layer_replication: `[(0, 4), (2, 5)]` runs layers 0 1 2 3 2 3 4 (see its file there).
        trainable_token_indices, megatron_config, megatron_core: refused.
    """

    peft_type: ClassVar[str] = PeftType.LORA
    also_called: ClassVar[dict[str, str]] = {"rank": "r", "alpha": "lora_alpha"}

    r: int = option(8, whole(1))
    lora_alpha: float = option(8, real(0, open_low=True))
    lora_dropout: float = option(0.0, real(0, 1))
    use_rslora: bool = option(False, flag)
    init_lora_weights: bool | str = option(
        True, one_of(True, False, "gaussian", "orthogonal", "loftq")
    )
    fan_in_fan_out: bool = option(False, flag)
    bias: str = option("none", one_of("none", "all", "lora_only"))
    layers_to_transform: int | list[int] | None = option(None, optional(layer_numbers))
    layers_pattern: str | list[str] | None = option(None, optional(list_names))
    rank_pattern: dict[str, int] = option({}, patterns_to(whole(1), "{'c_proj': 4}"))
    alpha_pattern: dict[str, float] = option(
        {}, patterns_to(real(0, open_low=True), "{'c_proj': 4}")
    )
    loftq_config: Any = option({}, optional(anything))
    use_dora: bool = option(False, flag)
    layer_replication: list[list[int]] | None = option(None, optional(pairs))
    trainable_token_indices: Any = option(
        None, unavailable("a LoRA on the embedding trains all tokens")
    )
    megatron_config: Any = option(None, unavailable("it needs Megatron's parallel layers"))
    megatron_core: str | None = option(
        "megatron.core", unavailable("it needs Megatron's parallel layers", "megatron.core")
    )


def beside(base: bases.Base, config: LoraConfig) -> LoRALayer:
    """A LoRA beside one layer, on its device, in at least float32."""
    return LoRALayer(base.in_features, base.out_features, **settings(base, config))


def settings(base: bases.Base, config: LoraConfig) -> dict[str, Any]:
    """What the module of one layer gets beside the layer's widths, by name."""
    return {
        "rank": config.r,
        "lora_alpha": config.lora_alpha,
        "dropout": config.lora_dropout,
        "use_rslora": config.use_rslora,
        "init_lora_weights": config.init_lora_weights,
        "dtype": base.adapter_dtype,
        "device": base.device,
    }


def count(base: bases.Base, config: LoraConfig) -> int:
    """R · (in + out)."""
    return lora_parameters(base.in_features, base.out_features, config.r)


LORA = Placement(
    build=beside,
    count=count,
    sees=bases.shaped,  # linear layers, embeddings, convolutions
    beside=f"{LINEAR}, embeddings and 1- or 2-dimensional convolutions",
    defaults=ATTENTION,
)
