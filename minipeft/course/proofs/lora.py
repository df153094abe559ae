"""The proofs of lesson 08: counts from published dimensions, and the notes' class as it is written.

The counts of the frozen models are worked out here from their dimensions, so that they do not
depend on the code they check.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...methods.lora import LoRALayer, lora_parameters
from ..claims import hold, proves

GPT2 = 124_439_808  # wte 50257·768, wpe 1024·768, 12 · 7,087,872, ln_f 2·768; the head is tied
C_ATTN = (12, 768, 2304)  # layers, in, out
# 2 embeddings of 32000·4096, 32 layers of 4·4096² + 3·4096·11008 + 2·4096, and a norm.
LLAMA = 2 * 32000 * 4096 + 32 * (4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096) + 4096


class NotesLoRALayer(nn.Module):
    """003:L71-96, comments left out."""

    def __init__(self, in_features: int, out_features: int, rank: int = 16, lora_alpha: float = 32):
        super().__init__()
        self.scaling = lora_alpha / rank
        self.lora_A = nn.Parameter(torch.zeros(in_features, rank))
        self.lora_B = nn.Parameter(torch.zeros(rank, out_features))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        nn.init.zeros_(self.lora_B)

    def forward(self, x: Tensor, base_output: Tensor) -> Tensor:
        """base_output + s · x A B."""
        return base_output + (x @ self.lora_A @ self.lora_B) * self.scaling


class NotesLoRALinear(nn.Module):
    """003:L99-121, comments left out."""

    def __init__(self, base_layer: nn.Module, rank: int = 16, lora_alpha: float = 32):
        super().__init__()
        self.base_layer = base_layer
        for param in self.base_layer.parameters():
            param.requires_grad = False
        in_features = int(base_layer.in_features)  # type: ignore[arg-type]
        out_features = int(base_layer.out_features)  # type: ignore[arg-type]
        self.lora = NotesLoRALayer(in_features, out_features, rank, lora_alpha)

    def forward(self, x: Tensor) -> Tensor:
        """The frozen output and the update."""
        return self.lora(x, self.base_layer(x))  # type: ignore[no-any-return]


def llama_qkvo(r: int) -> int:
    """LoRA on q, k, v, o of 32 layers, each 4096 to 4096."""
    return 32 * 4 * lora_parameters(4096, 4096, r)


def share(trained: int, frozen: int) -> float:
    """Trained parameters in percent of all, the adapter's own included."""
    return 100 * trained / (trained + frozen)


@proves("lora-formula")
def formula() -> str:
    """Counted on the parameters themselves."""
    layer = LoRALayer(768, 2304, rank=8)
    counted = sum(p.numel() for p in layer.parameters())
    hold(counted == 8 * (768 + 2304), f"768 -> 2304 with r = 8 has {counted:,}")
    return f"768 -> 2304, r = 8: {counted:,} = 8 · 3,072"


@proves("lora-saving")
def saving() -> str:
    """4096² against 16 · 8192."""
    full, lora = 4096 * 4096, lora_parameters(4096, 4096, 16)
    saved = 100 * (1 - lora / full)
    hold((full, lora) == (16_777_216, 131_072) and round(saved, 1) == 99.2, f"{saved}")
    return f"{full:,} against {lora:,}, {saved:.3f} % saved"


@proves("lora-gpt2-count")
def gpt2_count() -> str:
    """12 layers of c_attn, 768 to 2304, r = 8."""
    layers, inn, out = C_ATTN
    block = 4 * 768 + 768 * 2304 + 2304 + 768 * 768 + 768 + 8 * 768 * 768 + 3072 + 768
    hold((50257 + 1024) * 768 + 12 * block + 2 * 768 == GPT2, "GPT-2's own count")
    n = layers * lora_parameters(inn, out, 8)
    hold((n, n + GPT2) == (294_912, 124_734_720), f"{n:,} of {n + GPT2:,}")
    hold(share(n, GPT2) == 0.23643136409814364, f"{share(n, GPT2)}")
    return f"{n:,} of {n + GPT2:,}, {share(n, GPT2)} %"


@proves("lora-7b-count")
def seven_b_count() -> str:
    """The note's number is that of twice the rank."""
    n = llama_qkvo(16)
    hold(n == 16_777_216 and llama_qkvo(32) == 33_554_432, f"counted {n:,}")
    return f"{n:,} (note: 33,554,432)"


@proves("lora-7b-share")
def seven_b_share() -> str:
    """The printed total is the base with r = 32."""
    n = llama_qkvo(16)
    hold(LLAMA == 6_738_415_616, f"the base has {LLAMA:,}")
    hold(n + LLAMA == 6_755_192_832, f"{n + LLAMA:,}")
    hold(llama_qkvo(32) + LLAMA == 6_771_970_048, "the printed total is r = 32")
    hold(f"{share(llama_qkvo(32), LLAMA):.4f}" == "0.4955", "the share of r = 32")
    return f"{n + LLAMA:,}, {share(n, LLAMA):.4f} % (note: 6,771,970,048, 0.4956 %)"


@proves("lora-rank-table")
def rank_table() -> str:
    """GPT-2's c_attn fits four of the five rows."""
    layers, inn, out = C_ATTN
    ranks = (4, 8, 16, 32, 64)
    gpt2 = [share(layers * lora_parameters(inn, out, r), GPT2) for r in ranks]
    llama = [share(llama_qkvo(r), LLAMA) for r in ranks]
    hold([f"{s:.2f}" for s in gpt2] == ["0.12", "0.24", "0.47", "0.94", "1.86"], f"{gpt2}")
    hold([f"{s:.2f}" for s in llama] == ["0.06", "0.12", "0.25", "0.50", "0.99"], f"{llama}")
    shown = [", ".join(f"{s:.3f}" for s in one) for one in (gpt2, llama)]
    return f"GPT-2 c_attn {shown[0]} %; Llama-2-7B {shown[1]} %"


@proves("lora-share")
def lora_share() -> str:
    """All seven linear layers of a Llama block: q, k, v, o and three of the feed-forward."""
    every = llama_qkvo(16) + 32 * 3 * lora_parameters(4096, 11008, 16)
    small, large = share(llama_qkvo(16), LLAMA), share(every, LLAMA)
    hold(f"{small:.3f}" == "0.248" and f"{large:.2f}" == "0.59", f"{small}, {large}")
    return f"q, k, v, o: {small:.3f} %; all linear layers: {large:.3f} %"


@proves("lora-embedding")
def embedding() -> str:
    """A (r, vocabulary) and B (width, r)."""
    whole, lora = 32000 * 4096, lora_parameters(32000, 4096, 16)
    hold((whole, lora) == (131_072_000, 577_536), f"{whole:,} and {lora:,}")
    return f"whole {whole:,}; LoRA r = 16 {lora:,}"
