"""What the families of models call their parts: the tables of names, by `config.model_type`.

A method is derived for "the attention's values"; GPT-2 calls them the last third of `c_attn`, Bloom
a third of every head in `query_key_value`, Llama `v_proj`. Only this room knows.
"""

from __future__ import annotations

from dataclasses import dataclass
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
# What that projection is called.
FUSED_NAME = {"gpt2": "c_attn", "bloom": "query_key_value", "gpt_neox": "query_key_value"}

# What peft's IA³ scales by default: on the output (keys and values, by the paper; peft's table
# takes q_proj for many families), and on the input (the feed-forward's last layer).
IA3_OUTPUT: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("gpt2", "gpt_bigcode"), ("c_attn",)),
    **dict.fromkeys(("bloom", "gpt_neox", "falcon"), ("query_key_value",)),
    **dict.fromkeys(("llama", "mistral", "mixtral"), ("k_proj", "v_proj")),
    **dict.fromkeys(("llama4", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi"), QV),
    **dict.fromkeys(("gptj", "gpt_neo", "bart"), QV),
    **dict.fromkeys(("bert", "roberta"), ("key", "value")),
    "opt": ("q_proj", "k_proj"),
    "t5": ("k", "v"),
    "mt5": ("k", "v", "wi_1"),
    "deberta-v2": ("key_proj", "value_proj"),
    "deberta": ("in_proj",),
}
IA3_FEEDFORWARD: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("gpt2", "gpt_bigcode"), ("mlp.c_proj",)),
    **dict.fromkeys(("gpt_neox", "falcon"), ("dense_4h_to_h",)),
    **dict.fromkeys(("llama", "llama4", "mistral", "qwen2", "qwen3"), ("down_proj",)),
    **dict.fromkeys(("gemma", "gemma2", "gemma3_text"), ("down_proj",)),
    **dict.fromkeys(("bert", "roberta", "deberta", "deberta-v2"), ("output.dense",)),
    **dict.fromkeys(("opt", "bart", "phi"), ("fc2",)),
    "bloom": ("mlp.dense_4h_to_h",),
    "mixtral": ("w2",),
    "gptj": ("fc_out",),
    "gpt_neo": ("c_proj",),
    "t5": ("wo",),
    "mt5": (),
}
IA3_TARGETS = {kind: (*names, *IA3_FEEDFORWARD[kind]) for kind, names in IA3_OUTPUT.items()}

# BitFit's small variant: the query projection and the layer from d to 4d, where they have biases.
_Q_UP = dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma"), ("q_proj", "up_proj"))
_BERT_Q_UP = ("query", "intermediate.dense")
SMALL_BIASES: dict[str, tuple[str, ...]] = {
    **_Q_UP,
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "electra"), _BERT_Q_UP),
    **dict.fromkeys(("bloom", "gpt_neox"), ("query_key_value", "dense_h_to_4h")),
    **dict.fromkeys(("opt", "bart", "phi", "vit"), ("q_proj", "fc1")),
    "gpt2": ("attn.c_attn", "q_attn", "c_fc"),  # crossattention.c_attn is K and V
}

# The layers whose output is added to the residual stream, as ends of their dotted names (regular
# expressions: "output.dense" alone would also mean BERT's attention.output.dense).
_LLAMA_LIKE = {"attention": r"self_attn\.o_proj", "mlp": r"mlp\.down_proj"}
_BERT_LIKE = {"attention": r"attention\.output\.dense", "mlp": r"layer\.\d+\.output\.dense"}
_T5_LIKE = {"attention": r"(Self|EncDec)Attention\.o", "mlp": r"DenseReluDense\.wo"}
SUBLAYERS: dict[str, dict[str, str]] = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma"), _LLAMA_LIKE),
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "electra"), _BERT_LIKE),
    **dict.fromkeys(("t5", "mt5"), _T5_LIKE),
    "gpt2": {"attention": r"(attn|crossattention)\.c_proj", "mlp": r"mlp\.c_proj"},
    "bloom": {"attention": r"self_attention\.dense", "mlp": r"mlp\.dense_4h_to_h"},
    "gpt_neox": {"attention": r"attention\.dense", "mlp": r"mlp\.dense_4h_to_h"},
    "opt": {"attention": r"self_attn\.out_proj", "mlp": r"fc2"},
    "bart": {"attention": r"(self|encoder)_attn\.out_proj", "mlp": r"fc2"},
    "vit": {"attention": r"attention\.o_proj", "mlp": r"mlp\.fc2"},
}


def model_type(model: nn.Module | None) -> str | None:
    """`model.config.model_type`, or None for a module without a transformers config."""
    kind = getattr(getattr(model, "config", None), "model_type", None)
    return kind if isinstance(kind, str) else None


# Families that count positions from pad_token_id + 1 on, where others count from 0.
_AFTER_PAD = {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "roberta-prelayernorm"}


def first_position(model: nn.Module) -> int:
    """The position of the first token of a text."""
    config: Any = getattr(model, "config", None)
    return int(config.pad_token_id) + 1 if model_type(model) in _AFTER_PAD else 0


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


@dataclass(frozen=True)
class Sizes:
    """What virtual tokens must fit: the widths of a transformer, read from its config.

    Attributes:
        layers: how many layers keep keys and values (the decoder's, with an encoder before it).
        width: d, the width of a word embedding.
        queries: heads of queries.
        heads: heads of keys and values: fewer under grouped-query attention.
        head_dim: the width of one head.
    """

    layers: int
    width: int
    queries: int
    heads: int
    head_dim: int


def sizes(model: nn.Module) -> Sizes | None:
    """The model's `Sizes`, or None for a model that does not read tokens."""
    config: Any = getattr(model, "config", None)
    get: Any = getattr(model, "get_input_embeddings", None)
    words = get() if callable(get) else None
    if config is None or not isinstance(words, nn.Embedding):
        return None
    config = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    queries = config.num_attention_heads
    # T5 says d_kv; some give head_dim; for the rest the heads share the hidden width
    head_dim = getattr(config, "d_kv", None) or getattr(config, "head_dim", None)
    layers = getattr(config, "num_decoder_layers", None) or config.num_hidden_layers
    return Sizes(
        layers=layers,
        width=words.embedding_dim,
        queries=queries,
        heads=getattr(config, "num_key_value_heads", None) or queries,
        head_dim=head_dim or config.hidden_size // queries,
    )
