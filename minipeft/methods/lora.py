"""LoRA: the change of a weight matrix during fine-tuning has low rank, so train its two factors.

    W = W₀ + ΔW,   ΔW = s · B A,   A (r, in),  B (out, r),  r ≪ min(in, out)
    h = W₀ x + s · B A x

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (arXiv 2106.09685), equation 3 with
the scale s = α/r of section 4.1. Lecture note: 003_2a78d11827cb1020.txt, lines 36-119; there A is
stored (in, r), which makes its initialisation too large (lesson 08 shows by how much).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import bases
from ..checks import check_bool, check_choice, check_int, check_number
from ..config import LayerConfig, PeftType
from ..core import Method
from ..families import ATTENTION
from . import patterns, replication
from .loftq import LoftQConfig, check_loftq
from .lora_bias import TrainedBias, only_biases
from .orthogonal import orthogonal


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
        bias: the frozen layer's bias, if it is to be trained as well.
        dtype, device: of A and B.

    Attributes:
        lora_A, lora_B, scaling: A, shape (r, in), B, shape (out, r), and s.
    """

    stands_beside = f"{Method.stands_beside}, embeddings and 1- or 2-dimensional convolutions"

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
        bias: Tensor | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        super().__init__()
        self.scaling = scaling(lora_alpha, rank, use_rslora)
        self.lora_A = nn.Parameter(torch.empty(rank, in_features, dtype=dtype, device=device))
        self.lora_B = nn.Parameter(torch.empty(out_features, rank, dtype=dtype, device=device))
        self.dropout = Dropout(dropout) if dropout > 0 else nn.Identity()
        self.trained_bias = None if bias is None else TrainedBias(bias, dtype=dtype)
        self.reset_parameters(init_lora_weights)

    def reset_parameters(self, init_lora_weights: bool | str = True) -> None:
        """Start with ΔW = 0: A random, B zero.

        True: A uniform in ±1/√in, which is Kaiming's bound with a = √5 for a matrix (r, in).
        "gaussian": A normal with standard deviation 1/r. False: B random too, in ±1/√r, so that
        ΔW ≠ 0; for tests only. "orthogonal" and "loftq" have files of their own.
        """
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
        h = self.forward(self.dropout(x), y)
        return h if self.trained_bias is None else self.trained_bias.after(x, h)

    def delta_weight(self) -> Tensor:
        """ΔW = s · B A, shape (out, in)."""
        return self.scaling * (self.lora_B.flatten(1) @ self.lora_A.flatten(1))

    def fold(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """W (out, in), b -> W + ΔW, b: one matrix that does what both do."""
        folded = weight + self.delta_weight()
        return (folded, bias) if self.trained_bias is None else self.trained_bias.fold(folded, bias)

    def extra_repr(self) -> str:
        """Shown by print(model)."""
        (r, n), out = self.lora_A.flatten(1).shape, self.lora_B.shape[0]
        return f"in_features={n}, out_features={out}, rank={r}, scaling={self.scaling:g}"

    view = staticmethod(bases.shaped)  # linear layers, embeddings, convolutions

    @classmethod
    def built_from(cls, base: bases.Base) -> dict[str, Any]:
        """What the constructor takes before the rank, by name: here the widths."""
        return {"in_features": base.in_features, "out_features": base.out_features}

    @classmethod
    def for_layer(cls, base: bases.Base, config: LoraConfig) -> Method[Any]:
        """A LoRA beside `base`, on its device, in at least float32."""
        from .lora_kinds import build  # LoRALayers all, so that file comes after this one

        return build(base, config)

    def stand_on(self, layer: nn.Module) -> None:
        """Take `layer` for the frozen one when the adapter is attached (LoftQ's quantized W)."""
        self.rebase = (layer,)

    @classmethod
    def count(cls, base: bases.Base, config: LoraConfig) -> int:
        """R · (in + out); out for DoRA's magnitudes, and out for the bias, where trained."""
        bias = 0 if config.bias == "none" or base.bias is None else base.bias.numel()
        r, _ = patterns.strength(config, base.name)
        own = lora_parameters(base.in_features, base.out_features, r)
        return bias + base.targeted * (own + config.use_dora * base.out_features)

    companions = staticmethod(only_biases)


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
        bias: the biases trained as well: "none", "all", or "lora_only" (see lora_bias.py).
        rank_pattern, alpha_pattern: another r or α for some layers, by name; layers_to_transform,
            layers_pattern: in which of the numbered layers (see patterns.py).
        layer_replication: `[(0, 4), (2, 5)]` runs layers 0 1 2 3 2 3 4 (see replication.py).
        trainable_token_indices, megatron_config, megatron_core: refused.
    """

    peft_type: ClassVar[str] = PeftType.LORA
    not_yet: ClassVar[dict[str, str]] = {
        "trainable_token_indices": "a LoRA on the embedding trains all tokens",
        "megatron_config": "it needs Megatron's parallel layers",
        "megatron_core": "it needs Megatron's parallel layers",
    }
    also_called: ClassVar[dict[str, str]] = {"rank": "r", "alpha": "lora_alpha"}
    default_targets: ClassVar[dict[str, tuple[str, ...]]] = ATTENTION

    r: int = 8
    lora_alpha: float = 8
    lora_dropout: float = 0.0
    use_rslora: bool = False
    init_lora_weights: bool | str = True
    fan_in_fan_out: bool = False
    bias: str = "none"
    layers_to_transform: int | list[int] | None = None
    layers_pattern: str | list[str] | None = None
    rank_pattern: dict[str, int] = field(default_factory=dict)
    alpha_pattern: dict[str, float] = field(default_factory=dict)
    loftq_config: LoftQConfig | dict[str, Any] | None = field(default_factory=dict)
    use_dora: bool = False
    layer_replication: list[list[int]] | None = None
    trainable_token_indices: Any = None
    megatron_config: Any = None
    megatron_core: str | None = "megatron.core"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int(self, "r", low=1)
        check_number(self, "lora_alpha", low=0, open_low=True)
        check_number(self, "lora_dropout", low=0, high=1)
        for name in ("use_rslora", "use_dora", "fan_in_fan_out"):
            check_bool(self, name)
        check_choice(self, "init_lora_weights", (True, False, "gaussian", "orthogonal", "loftq"))
        self.loftq_config = check_loftq(self.init_lora_weights, self.loftq_config)
        check_choice(self, "bias", ("none", "all", "lora_only"))
        patterns.check(self)
        replication.check(self)

    narrow = patterns.narrow
    reshaped = replication.plan
