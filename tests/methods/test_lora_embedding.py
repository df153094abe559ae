"""LoRA and DoRA beside nn.Embedding: row i of W is the vector of token i, so ΔW = (s B A)ᵀ.

A (r, vocab) starts as zeros and B (dim, r) as N(0, 1), the reverse of a linear layer's: looking a
token up takes a column of A, and a zero B would leave A without a gradient as a zero A leaves B.

The oracle: the embedding with the changed W, in float64, and Hugging Face peft. The tolerance in
float64 is fifty times its spacing at the size of the entries.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from conftest import VOCAB, inputs, tiny
from dora_kinds import dora_embedding
from hypothesis import given, settings
from hypothesis import strategies as st
from peft_pairs import BOUNDS, adapters_of, answer, both_ways, compare, factors, pair
from torch import Tensor, nn

from minipeft import LoraConfig, get_peft_model
from minipeft.methods.lora_options.embedding import LoRAEmbedding

WIDTH = 16


def gemma3() -> Any:
    """A tiny Gemma 3, whose embedding multiplies what it looks up by √width."""
    config = transformers.Gemma3TextConfig(
        vocab_size=VOCAB, hidden_size=WIDTH, intermediate_size=24, num_attention_heads=2,
        num_hidden_layers=2, num_key_value_heads=1, head_dim=8, max_position_embeddings=32,
        bos_token_id=1, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.Gemma3ForCausalLM(config)
        for parameter in model.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
    return model.eval()


MAKERS: dict[str, Any] = {
    **{name: lambda name=name: tiny(name) for name in ("gpt2", "bloom", "llama", "bert", "t5")},
    "gemma3": gemma3,
}
TARGETS = {
    "gpt2": ["wte"], "bloom": ["word_embeddings"], "llama": ["embed_tokens"],
    "bert": ["word_embeddings", "query"], "t5": ["embed_tokens"], "gemma3": ["embed_tokens"],
}  # fmt: skip
CASES: list[tuple[str, dict[str, Any]]] = [
    *[(name, {"lora_alpha": 8}) for name in MAKERS],
    *[(name, {"lora_alpha": 7, "r": 3, "use_dora": True}) for name in MAKERS],
    ("gpt2", {"lora_alpha": 5, "r": 3, "use_rslora": True, "target_modules": ["wte", "wpe"]}),
    ("llama", {"target_modules": ["embed_tokens", "q_proj", "lm_head"], "r": 1}),
    ("bloom", {"rank_pattern": {"word_embeddings": 2}, "lora_dropout": 0.5}),
]


def batch_of(name: str) -> dict[str, Tensor]:
    """A small batch, in which the first token of the first row is the padding token."""
    batch = inputs("llama" if name == "gemma3" else name)
    batch["input_ids"][0, 0] = 0
    return batch


# --- against peft --------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_outputs_gradients_and_counts_are_pefts(peft: Any, name: str, options: dict[str, Any]):
    ours, theirs = pair(peft, MAKERS[name], **{"target_modules": TARGETS[name], **options})
    compare(ours, theirs, batch_of(name))


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_files_travel_both_ways(peft: Any, tmp_path: Path, name: str, options: dict[str, Any]):
    make = MAKERS[name]
    ours, theirs = pair(peft, make, **{"target_modules": TARGETS[name], **options})
    both_ways(peft, tmp_path, make, batch_of(name), ours, theirs)


@pytest.mark.parametrize("use_dora", [False, True])
def test_the_weight_merged_by_peft_is_ours(peft: Any, use_dora: bool):
    ours, theirs = pair(peft, MAKERS["llama"], target_modules=["embed_tokens"], use_dora=use_dora)
    a = ours.merge_and_unload().model.embed_tokens.weight
    b = theirs.merge_and_unload().model.embed_tokens.weight
    assert not torch.allclose(a, tiny("llama").model.embed_tokens.weight)
    assert torch.allclose(a, b, atol=2e-6)  # entries below 4, one product of 4 terms


# --- the formula ---------------------------------------------------------------------------------


def test_a_token_looked_up_by_hand():
    base = nn.Embedding(3, 2)
    base.weight.data = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    layer = LoRAEmbedding(base, rank=1, lora_alpha=2)
    a, b = factors(layer)
    assert (a.shape, b.shape) == ((1, 3), (2, 1))
    a.data, b.data = torch.tensor([[1.0, 10.0, 100.0]]), torch.tensor([[1.0], [-1.0]])
    x = torch.tensor([[2, 0], [1, 1]])
    # row i gets 2 · A[0, i] · (1, -1)
    expected = [[[205.0, -194.0], [3.0, 0.0]], [[23.0, -16.0], [23.0, -16.0]]]
    assert layer(x, base(x)).tolist() == expected


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(
    st.integers(1, 9), st.integers(1, 7), st.integers(1, 5), st.sampled_from([0.5, 1, 3]),
    st.sampled_from([(), (4,), (2, 3), (1, 2, 2)]), st.booleans(), st.booleans(),
    st.integers(0, 99),
)  # fmt: skip
def test_beside_the_layer_is_looking_up_the_changed_weight(
    vocab: int, dim: int, r: int, alpha: float, shape: Any, padded: bool, use_dora: bool, seed: int
):
    torch.manual_seed(seed)
    base = nn.Embedding(vocab, dim, padding_idx=0 if padded else None).double()
    nn.init.normal_(base.weight)
    kind: Any = dora_embedding if use_dora else LoRAEmbedding
    layer = kind(base, r, alpha, dtype=torch.float64)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    a, b = factors(layer)
    w = base.weight.detach() + alpha / r * (b @ a).T
    if use_dora:  # one length per coordinate: along the vocabulary
        w = w * layer.lora_magnitude_vector / w.norm(dim=0).detach()
    x = torch.randint(0, vocab, shape)
    found, expected = layer(x, base(x)), F.embedding(x, w, padding_idx=base.padding_idx)
    assert torch.allclose(found, expected, rtol=1e-11, atol=1e-12)
    weight = torch.randn_like(expected)
    mine = torch.autograd.grad((found * weight).sum(), (a, b))
    if padded:  # the padding token trains neither factor
        weight = weight * (x != 0).unsqueeze(-1)
    theirs = torch.autograd.grad((w[x] * weight).sum(), (a, b))
    assert torch.allclose(mine[0], theirs[0], rtol=1e-10, atol=1e-11)
    if not padded:  # as in peft, B gets what the column of the padding token gives
        assert torch.allclose(mine[1], theirs[1], rtol=1e-10, atol=1e-11)


def test_the_start():
    torch.manual_seed(0)
    base = nn.Embedding(5, 4000)
    a, b = factors(LoRAEmbedding(base, rank=6, lora_alpha=6))
    assert a.count_nonzero() == 0
    n = b.numel()  # the mean and the variance of n normal numbers, five standard errors wide
    assert abs(b.mean().item()) < 5 / math.sqrt(n)
    assert abs(b.var().item() - 1) < 5 * math.sqrt(2 / n)
    x = torch.arange(5)
    for kind in (LoRAEmbedding, dora_embedding):
        assert torch.allclose(kind(base, rank=6, lora_alpha=6)(x, base(x)), base(x), atol=1e-6)
    assert dora_embedding(base, rank=6).lora_magnitude_vector.shape == (4000,)


@pytest.mark.parametrize("use_dora", [False, True])
@pytest.mark.parametrize("name", list(MAKERS))
def test_at_the_start_the_model_is_what_it_was(name: str, use_dora: bool):
    base = MAKERS[name]()
    config = LoraConfig(r=4, use_dora=use_dora, target_modules=TARGETS[name])
    model = get_peft_model(base, config)
    bound = BOUNDS[0] * answer(MAKERS[name](), batch_of(name)).abs().max()
    assert (answer(model, batch_of(name)) - answer(MAKERS[name](), batch_of(name))).abs().max() <= (
        bound if use_dora else 0
    )


def test_the_formula_counts():
    for use_dora in (False, True):
        config = LoraConfig(r=4, use_dora=use_dora, target_modules=["wte", "wpe"])
        model = get_peft_model(tiny("gpt2"), config)
        expected = sum(4 * (n + WIDTH) + use_dora * WIDTH for n in (VOCAB, 32))
        assert model.get_nb_trainable_parameters()[0] == expected


def test_all_linear_means_no_embedding():
    model = get_peft_model(tiny("gpt2"), LoraConfig(target_modules="all-linear"))
    assert not any("wte" in name or "wpe" in name for name in adapters_of(model))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_looked_up_in_float32_and_rounded_once(dtype: torch.dtype):
    base = nn.Embedding(7, 5, dtype=dtype)
    layer = LoRAEmbedding(base, rank=2, lora_alpha=4)
    for parameter in layer.parameters():
        assert parameter.dtype == torch.float32
        nn.init.normal_(parameter)
    a, b = factors(layer)
    x = torch.arange(7)
    exact = base.weight.float() + 2 * (b @ a).T
    found = layer(x, base(x))
    assert found.dtype == dtype
    assert torch.allclose(found.float(), exact, rtol=torch.finfo(dtype).eps, atol=1e-6)
