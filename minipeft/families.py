"""What the families of models call their parts: the tables of names, by `config.model_type`.

A method is derived for "the attention's values"; GPT-2 calls them the last third of `c_attn`, Bloom
a third of every head in `query_key_value`, Llama `v_proj`. Only this room knows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

QV = ("q_proj", "v_proj")
# The attention projections that peft adapts by default, by `model.config.model_type`.
ATTENTION: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("gpt2", "gpt_bigcode"), ("c_attn",)),
    **dict.fromkeys(("bloom", "gpt_neox", "falcon", "chatglm"), ("query_key_value",)),
    **dict.fromkeys(("llama", "llama4", "mistral", "mixtral", "qwen2", "qwen3", "stablelm"), QV),
    **dict.fromkeys(("gemma", "gemma2", "gemma3_text", "opt", "gptj", "gpt_neo", "bart"), QV),
    **dict.fromkeys(("t5", "mt5"), ("q", "v")),
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "electra", "layoutlm"), ("query", "value")),
    "phi": ("q_proj", "v_proj", "fc1", "fc2"),
    "deberta-v2": ("query_proj", "value_proj"),
    "deberta": ("in_proj",),
    "codegen": ("qkv_proj",),
    "mpt": ("Wqkv",),
}

# How a fused projection's output is laid out: Q, K and V one after the other, or by head.
FUSED_QKV = {"gpt2": "blocks", "bloom": "heads", "gpt_neox": "heads"}


def model_type(model: nn.Module | None) -> str | None:
    """`model.config.model_type`, or None for a module without a transformers config."""
    kind = getattr(getattr(model, "config", None), "model_type", None)
    return kind if isinstance(kind, str) else None


def qkv_rows(model: nn.Module | None, out_features: int) -> dict[str, Tensor] | None:
    """Which output rows of a fused projection are Q, K and V; None where the layout is not known.

    Args:
        model: the model with the projection: its config names the family and the number of heads.
        out_features: the projection's width, 3·d.

    Returns:
        {"q": rows, "k": rows, "v": rows}, each (d,) and int64, in ascending order.
    """
    layout = FUSED_QKV.get(str(model_type(model)))
    if layout is None:
        return None
    rows = torch.arange(out_features)
    if layout == "blocks":  # [q₀ … q_d | k₀ … k_d | v₀ … v_d]
        parts = rows.view(3, -1)
    else:  # head by head: [q of head 0 | k of head 0 | v of head 0 | q of head 1 | …]
        config: Any = getattr(model, "config", None)
        by_head = rows.view(config.num_attention_heads, 3, -1)  # (heads, 3, head_dim)
        parts = by_head.transpose(0, 1).reshape(3, -1)
    return dict(zip("qkv", parts, strict=True))
