"""The notes' classes on their own: five lines, tensors in, tensors out, and numbers by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import tiny
from prompt_models import padded, rows
from torch import Tensor, nn

from minipeft import (
    PrefixEncoder,
    PrefixTuningConfig,
    PromptEncoder,
    PromptTunedTransformer,
    PromptTuning,
    PromptTuningConfig,
    PTuningV2,
    get_peft_model,
)
from minipeft.checks.errors import ConfigError, ConfigTypeError


def filled(module: nn.Module, **values: Any) -> Any:
    """The module with these numbers in its parameters, named as in state_dict with _ for a dot."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.tensor(values[name.replace(".", "_")], dtype=torch.float32))
    return module


def test_prompt_tuning_by_hand():
    prompt: Any = filled(PromptTuning(2, 3), soft_prompt=[[1, 2, 3], [4, 5, 6]])
    text = torch.tensor([[[7.0, 8, 9]], [[0, 0, 1]]])  # two texts of one token
    expected = [[[1, 2, 3], [4, 5, 6], [7, 8, 9]], [[1, 2, 3], [4, 5, 6], [0, 0, 1]]]
    assert prompt(text).tolist() == expected
    assert prompt(text.half()).dtype == torch.float16
    assert prompt.soft_prompt.dtype == torch.float32
    assert prompt(torch.empty(0, 5, 3)).shape == (0, 7, 3)
    prompt(text).sum().backward()  # each row stands in both texts
    assert prompt.soft_prompt.grad.tolist() == [[2, 2, 2], [2, 2, 2]]


def test_prompt_tuning_starts_from_the_vocabulary_it_is_given():
    words = nn.Embedding(10, 4)
    prompt: Any = PromptTuning(6, 4, words)
    assert all((words.weight == row).all(dim=1).any() for row in prompt.soft_prompt)
    assert prompt.soft_prompt.data_ptr() != words.weight.data_ptr()
    with pytest.raises(ConfigTypeError, match=r"must be the model's word embedding.*True \(bool\)"):
        PromptTuning(6, 4, True)  # type: ignore[arg-type]  # the notes' own call
    with pytest.raises(ConfigError, match="token_dim=3 does not fit an embedding of width 4"):
        PromptTuning(6, 3, words)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "bloom", "opt"])
def test_the_notes_transformer_is_the_packages(name: str, side: str):
    base = tiny(name)
    model = PromptTunedTransformer(base, 4)
    assert [n for n, p in model.named_parameters() if p.requires_grad] == [
        "prompt_tuning.soft_prompt"
    ]
    other = get_peft_model(tiny(name), PromptTuningConfig(num_virtual_tokens=4))
    theirs = other.get_base_model().prompt_encoder.adapters["default"].soft_prompt
    with torch.no_grad():
        theirs.copy_(model.prompt_tuning.soft_prompt)
    ids, mask = padded(side)
    labels = ids.masked_fill(mask == 0, -100)
    for batch in (
        {"input_ids": ids, "attention_mask": mask, "labels": labels},
        {"input_ids": rows()[0]},
    ):
        mine, out = model(**batch), other(**batch)
        assert torch.equal(mine.logits, out.logits)
        assert mine.logits.shape[1] == 4 + 7
    mine, out = (m(input_ids=ids, attention_mask=mask, labels=labels) for m in (model, other))
    assert torch.equal(mine.loss, out.loss)
    mine.loss.backward()
    out.loss.backward()
    assert torch.equal(model.prompt_tuning.soft_prompt.grad, theirs.grad)
    assert all(p.grad is None for p in base.parameters())


def test_twenty_virtual_tokens_from_words_by_default():
    base = tiny("gpt2")
    prompt = PromptTunedTransformer(base).prompt_tuning.soft_prompt
    assert prompt.shape == (20, 16)
    words = base.get_input_embeddings().weight
    assert all((words == row).all(dim=1).any() for row in prompt)


def test_an_mlp_encoder_by_hand():
    # E = [[1], [-1]]; W1 = [2], b1 = 1: 3, -1 -> relu 3, 0; W2 = [1], b2 = -1: 2, -1 -> 2, 0;
    # W3 = [10], b3 = 5: 25, 5
    encoder: Any = filled(
        PromptEncoder(2, 1), embedding_weight=[[1], [-1]],
        mlp_head_0_weight=[[2]], mlp_head_0_bias=[1], mlp_head_2_weight=[[1]],
        mlp_head_2_bias=[-1], mlp_head_4_weight=[[10]], mlp_head_4_bias=[5],
    )  # fmt: skip
    assert encoder.virtual_tokens().tolist() == [[25], [5]]
    assert encoder(torch.zeros(3, 4, 1)).shape == (3, 6, 1)
    assert encoder(torch.zeros(1, 1, 1)).flatten().tolist() == [25, 5, 0]


def sigmoid(x: float) -> float:
    return float(torch.tensor(x).sigmoid())


def test_an_lstm_encoder_reads_in_both_directions():
    encoder = PromptEncoder(5, 4, 3, "LSTM", num_layers=2)
    assert encoder.lstm_head is not None
    assert encoder.mlp_head is not None
    assert [tuple(p.shape) for p in encoder.mlp_head.parameters()] == [(6, 6), (6,), (4, 6), (4,)]
    assert encoder.virtual_tokens().shape == (5, 4)
    first = encoder.virtual_tokens()
    with torch.no_grad():
        encoder.embedding.weight[4] += 1  # the last token changes the first, and the reverse
    assert not torch.equal(encoder.virtual_tokens()[0], first[0])
    # one cell of width 1 by hand: c = σ(i)·tanh(g), h = σ(o)·tanh(c), on the one token x = 2
    weights = {f"lstm_head_weight_{kind}_l0{way}": [[0.0]] * 4
               for kind in ("hh",) for way in ("", "_reverse")}  # fmt: skip
    weights |= {f"lstm_head_weight_ih_l0{way}": [[0.5]] * 4 for way in ("", "_reverse")}
    weights |= {f"lstm_head_bias_{kind}_l0{way}": [0.0] * 4
                for kind in ("ih", "hh") for way in ("", "_reverse")}  # fmt: skip
    weights |= {"mlp_head_0_weight": [[1.0, 0.0], [0.0, 1.0]], "mlp_head_0_bias": [0.0, 0.0]}
    one: Any = filled(
        PromptEncoder(1, 1, 1, "LSTM", num_layers=1), embedding_weight=[[2]], **weights,
        mlp_head_2_weight=[[1.0, 10.0]], mlp_head_2_bias=[0.25],
    )  # fmt: skip
    c = sigmoid(1) * float(torch.tensor(1.0).tanh())
    h = sigmoid(1) * float(torch.tensor(c).tanh())
    assert one.virtual_tokens().item() == pytest.approx(11 * h + 0.25, rel=1e-6)  # float32


def pairs_by_hand(made: list[tuple[Tensor, Tensor]]) -> list[list[Any]]:
    return [[key.tolist(), value.tolist()] for key, value in made]


def test_a_prefix_by_hand():
    # one token, two layers, width 2 in two heads of 1: key 0 | value 0 | key 1 | value 1
    prefix: Any = filled(PrefixEncoder(2, 1, 2, 2), embedding_weight=[[1, 2, 3, 4, 5, 6, 7, 8]])
    assert prefix().shape == (4, 2, 1, 1)
    assert pairs_by_hand(prefix.keys_and_values()) == [
        [[[[1]], [[2]]], [[[3]], [[4]]]],
        [[[[5]], [[6]]], [[[7]], [[8]]]],
    ]
    # beside an encoder peft steps by four: with two layers the second begins anew
    crossed: Any = PrefixEncoder(2, 1, 2, 2, cross_attention=True)
    crossed.load_state_dict(prefix.state_dict())
    assert pairs_by_hand(crossed.keys_and_values()) == 2 * [[[[[1]], [[2]]], [[[3]], [[4]]]]]


def test_a_projected_prefix_by_hand():
    # one layer, d = 1, h = 1: W2 tanh(W1 e + b1) + b2 with e = 0, b1 = 0 is b2
    options: dict[str, Any] = {"prefix_projection": True, "projection_size": 1}
    prefix: Any = filled(
        PrefixEncoder(1, 2, 1, **options), embedding_weight=[[0], [2]],
        transform_0_weight=[[0.5]], transform_0_bias=[0], transform_2_weight=[[1], [10]],
        transform_2_bias=[3, 4],
    )  # fmt: skip
    t = float(torch.tensor(1.0).tanh())
    expected = torch.tensor([[3, 4], [3 + t, 4 + 10 * t]])
    assert torch.allclose(prefix.virtual_tokens(), expected)
    zero = PrefixEncoder(1, 2, 1, init_weights="zero", **options)
    assert zero.virtual_tokens().eq(0).all()
    assert PrefixEncoder(1, 2, 1, init_weights="zero").virtual_tokens().eq(0).all()


def test_p_tuning_v2_starts_near_zero():
    torch.manual_seed(0)
    deep = PTuningV2(12, 20, 64, 4)
    assert deep.virtual_tokens().shape == (20, 2 * 12 * 64)
    assert [tuple(key.shape) for key, _ in deep.keys_and_values()] == 12 * [(4, 20, 16)]
    # 30,720 numbers of spread 0.01: the standard error of their spread is 0.00004
    assert deep.virtual_tokens().std().item() == pytest.approx(0.01, abs=0.0002)
    assert PTuningV2(2, 3, 4, init_weights="zero").virtual_tokens().eq(0).all()
    assert sum(p.numel() for p in deep.parameters()) == 20 * 2 * 12 * 64


def test_a_prefix_of_the_texts_own_keys_and_values_is_that_text():
    """The oracle is the attention itself: a prefix that holds a text's K and V is that text."""
    base, text = tiny("gpt2"), rows()[0]
    first, rest = text[:, :3], text[:, 3:]
    with torch.no_grad():
        expected = base(text).logits[:, 3:]
        read = base(first, use_cache=True).past_key_values.layers
        columns = [x[0].transpose(0, 1).reshape(3, 16) for y in read for x in (y.keys, y.values)]
        model = get_peft_model(base, PrefixTuningConfig(num_virtual_tokens=3))
        prefix: Any = model.get_base_model().prompt_encoder.adapters["default"]
        prefix.embedding.weight.copy_(torch.cat(columns, dim=1))  # (3, 2·L·d)
        # the same sums in two parts: float32, logits of size 10
        assert torch.allclose(model(rest).logits, expected, rtol=1e-5, atol=1e-5)


def test_a_prompt_of_a_texts_own_embeddings_is_that_text():
    base, text = tiny("gpt2"), rows()[0]
    with torch.no_grad():
        expected = base(text).logits
        model = get_peft_model(base, PromptTuningConfig(num_virtual_tokens=3))
        prompt: Any = model.get_base_model().prompt_encoder.adapters["default"]
        prompt.soft_prompt.copy_(base.get_input_embeddings()(text[0, :3]))
        assert torch.equal(model(text[:, 3:]).logits, expected)
