"""One tiny model of each family: random, two layers deep and 16 wide, with the real classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import Tensor, nn

WIDTH, HEADS, VOCAB, LAYERS = 16, 2, 48, 2


class MLP(nn.Module):
    """Two linear layers with names, without a transformers config."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.norm = nn.LayerNorm(8)
        self.second = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.norm(self.first(x))))


def _gpt2() -> nn.Module:
    config = transformers.GPT2Config(
        vocab_size=VOCAB, n_embd=WIDTH, n_head=HEADS, n_layer=LAYERS, n_positions=32,
        bos_token_id=1, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config)


def _bloom() -> nn.Module:
    config = transformers.BloomConfig(
        vocab_size=VOCAB, hidden_size=WIDTH, n_head=HEADS, n_layer=LAYERS,
        bos_token_id=1, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return transformers.BloomForCausalLM(config)


def _llama() -> nn.Module:
    config = transformers.LlamaConfig(
        vocab_size=VOCAB, hidden_size=WIDTH, intermediate_size=24, num_attention_heads=HEADS,
        num_hidden_layers=LAYERS, num_key_value_heads=1, max_position_embeddings=32,
        bos_token_id=1, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


def _t5() -> nn.Module:
    config = transformers.T5Config(
        vocab_size=VOCAB, d_model=WIDTH, d_kv=8, d_ff=24, num_heads=HEADS, num_layers=LAYERS,
        decoder_start_token_id=0, eos_token_id=None,
    )  # fmt: skip
    return transformers.T5ForConditionalGeneration(config)


def _bert() -> nn.Module:
    config = transformers.BertConfig(
        vocab_size=VOCAB, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        intermediate_size=24, max_position_embeddings=32, num_labels=3,
    )  # fmt: skip
    return transformers.BertForSequenceClassification(config)


_LLAMA_LIKE: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": WIDTH, "intermediate_size": 24, "head_dim": WIDTH // HEADS,
    "num_attention_heads": HEADS, "num_hidden_layers": LAYERS, "num_key_value_heads": 1,
    "max_position_embeddings": 32, "bos_token_id": 1, "eos_token_id": None, "pad_token_id": 0,
}  # fmt: skip


def _mistral() -> nn.Module:
    return transformers.MistralForCausalLM(transformers.MistralConfig(**_LLAMA_LIKE))


def _qwen2() -> nn.Module:  # biases on q, k and v, and nowhere else
    options = {key: value for key, value in _LLAMA_LIKE.items() if key != "head_dim"}
    return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**options))


def _qwen3() -> nn.Module:
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**_LLAMA_LIKE))


def _opt() -> nn.Module:
    config = transformers.OPTConfig(
        vocab_size=VOCAB, hidden_size=WIDTH, ffn_dim=24, num_attention_heads=HEADS,
        num_hidden_layers=LAYERS, max_position_embeddings=32, word_embed_proj_dim=WIDTH,
        bos_token_id=1, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return transformers.OPTForCausalLM(config)


def _gpt_neox() -> nn.Module:
    config = transformers.GPTNeoXConfig(
        vocab_size=VOCAB, hidden_size=WIDTH, intermediate_size=24, num_attention_heads=HEADS,
        num_hidden_layers=LAYERS, max_position_embeddings=32,
        bos_token_id=1, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return transformers.GPTNeoXForCausalLM(config)


def _vit() -> nn.Module:
    config = transformers.ViTConfig(
        hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        intermediate_size=24, image_size=8, patch_size=4, num_labels=3,
    )  # fmt: skip
    return transformers.ViTForImageClassification(config)


def _bert_token() -> nn.Module:
    return transformers.BertForTokenClassification(_bert().config)


def _bert_qa() -> nn.Module:
    config = _bert().config
    config.num_labels = 2  # the start and the end of the answer
    return transformers.BertForQuestionAnswering(config)


def _gpt2_cls() -> nn.Module:
    config = _gpt2().config
    config.num_labels = 3
    return transformers.GPT2ForSequenceClassification(config)


MAKERS: dict[str, Callable[[], nn.Module]] = {
    "gpt2": _gpt2, "bloom": _bloom, "llama": _llama, "t5": _t5, "bert": _bert, "mlp": MLP,
    "mistral": _mistral, "qwen2": _qwen2, "qwen3": _qwen3, "opt": _opt, "gpt_neox": _gpt_neox,
    "vit": _vit, "bert_token": _bert_token, "bert_qa": _bert_qa, "gpt2_cls": _gpt2_cls,
}  # fmt: skip
FAMILIES = ["bert", "bloom", "gpt2", "llama", "mlp", "t5"]  # for what must hold on any model
ALL_FAMILIES = sorted(MAKERS)
CAUSAL = ["bloom", "gpt2", "gpt_neox", "llama", "mistral", "opt", "qwen2", "qwen3"]
