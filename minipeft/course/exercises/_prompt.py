"""What the exercises of lesson 05 test: positions, masks and labels worked by hand, and starts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from ..expect import Wrong, describe, expect, expect_close, expect_number

P = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])  # v = 2, d = 3
TEXT = torch.tensor([[[10.0, 20.0, 30.0]], [[40.0, 50.0, 60.0]]])  # b = 2, t = 1
WHOLE = torch.cat([P.expand(2, 2, 3), TEXT], dim=1)  # (2, 3, 3)


def forward(answer: Any) -> str:
    """[P; E(x)] by hand, P from virtual_tokens(), the first v rows, bfloat16, the gradient."""
    layer = answer(2, 3)
    with torch.no_grad():
        layer.soft_prompt.copy_(P)
    text = TEXT.clone()
    got = layer(text)
    expect(torch.equal(text, TEXT), "input_embeds was changed in place; return a new tensor")
    known = [
        (torch.cat([TEXT, P.expand(2, 2, 3)], dim=1), "the prompt stands behind the text"),
        (P.expand(2, 2, 3), "the text is missing: only the prompt is returned"),
        (TEXT, "the prompt is missing: the text comes back as it was"),
        (WHOLE[:1], "one row for a batch of two: every row of the batch gets the prompt"),
        (torch.cat([P.flip(0).expand(2, 2, 3), TEXT], dim=1), "the prompt's rows are reversed"),
    ]
    expect_close(got, WHOLE, "the output", diagnose=known)
    layer.zero_grad()
    expect(got.requires_grad, "no gradient reaches P: a detach, .data or no_grad")
    got.sum().backward()
    # each number of P stands in both rows of the batch
    expect_close(layer.soft_prompt.grad, torch.full((2, 3), 2.0), "the gradient of P")
    layer.num_virtual_tokens = 1
    first = torch.cat([P[:1].expand(2, 1, 3), TEXT], dim=1)
    expect_close(
        layer(TEXT),
        first,
        "with self.num_virtual_tokens = 1 the output",
        diagnose=[(WHOLE, "all rows of P are read; it is the first self.num_virtual_tokens")],
    )
    layer.num_virtual_tokens = 2
    layer.virtual_tokens = lambda: 10 * P
    expect_close(
        layer(TEXT),
        torch.cat([10 * P.expand(2, 2, 3), TEXT], dim=1),
        "with a computed P the output",
        diagnose=[(WHOLE, "self.soft_prompt is read; P-tuning computes P in virtual_tokens()")],
    )
    half = torch.bfloat16
    low = layer(TEXT.to(half))
    expect(isinstance(low, Tensor) and low.dtype == half, f"bfloat16 in, {describe(low)} out")
    return "[P; E(x)] by hand, its gradient, the first v rows, P from virtual_tokens(), bfloat16"


class _Model(nn.Module):
    """Takes the inputs of a language model, and keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(7, 3)
        self.seen: dict[str, Any] = {}
        self.output = SimpleNamespace(loss=torch.tensor(1.5), logits=torch.zeros(2, 5, 7))

    def get_input_embeddings(self) -> nn.Embedding:
        return self.words

    def forward(self, input_ids: Any = None, **given: Any) -> Any:
        if input_ids is not None:
            raise ValueError("give the model inputs_embeds alone, without input_ids")
        self.seen = given
        return self.output


IDS = torch.tensor([[1, 2, 3], [4, 0, 0]])
MASK = torch.tensor([[1, 1, 1], [1, 0, 0]])
LABELS = torch.tensor([[-100, 2, 3], [4, -100, -100]])


def _grown(given: Tensor, new: int) -> Tensor:
    return torch.cat([given.new_full((2, 2), new), given], dim=1)


def _behind(given: Tensor, new: int) -> Tensor:
    return torch.cat([given, given.new_full((2, 2), new)], dim=1)


def transformer(answer: Any) -> str:
    """What the model is given: embeddings, mask, labels; and what comes back."""
    model = _Model()
    layer = answer(model, num_prompt_tokens=2)
    out = layer(IDS, attention_mask=MASK, labels=LABELS)
    expect(model.seen, "the frozen model was not called")
    text = model.words(IDS)
    prompt = layer.prompt_tuning.virtual_tokens().expand(2, 2, 3)
    expect_close(
        model.seen.get("inputs_embeds"),
        torch.cat([prompt, text], dim=1),
        "inputs_embeds",
        diagnose=[(text, "inputs_embeds is the text alone: the prompt is missing")],
    )
    expect_close(
        model.seen.get("attention_mask"),
        _grown(MASK, 1),
        "attention_mask",
        diagnose=[
            (MASK, "attention_mask is (b, t) still, and the model reads v + t positions"),
            (_grown(MASK, 0), "attention_mask hides the prompt: 0 where 1 was asked"),
            (_behind(MASK, 1), "attention_mask grew at the end; the prompt stands in front"),
            (torch.ones(2, 5), "attention_mask is all ones: the padding is read too"),
        ],
    )
    expect_close(
        model.seen.get("labels"),
        _grown(LABELS, -100),
        "labels",
        diagnose=[
            (LABELS, "labels is (b, t) still, and the model answers at v + t positions"),
            (_grown(LABELS, 0), "labels asks the prompt to predict token 0; −100 is passed over"),
            (_behind(LABELS, -100), "labels grew at the end; the prompt stands in front"),
        ],
    )
    expect(out is model.output, f"return what the model returns; this is {describe(out)}")
    layer(IDS)
    for name in ("attention_mask", "labels"):
        given = model.seen.get(name)
        expect(given is None, f"without {name} the model is given {describe(given)}, not None")
    return "embeddings, mask and labels for v + t positions, None where nothing was given"


def from_text(answer: Any) -> str:
    """Rows of a table, cut and repeated, and copied."""
    table = nn.Embedding(6, 2)
    with torch.no_grad():
        table.weight.copy_(torch.arange(12.0).view(6, 2))
    before = table.weight.detach().clone()

    def rows(*ids: int) -> Tensor:
        return before[list(ids)]

    expect_close(answer(table, [5, 2, 4], 3), rows(5, 2, 4), "the start for 3 tokens and v = 3")
    expect_close(
        answer(table, [5, 2, 4], 2),
        rows(5, 2),
        "the start for 3 tokens and v = 2",
        diagnose=[
            (rows(5, 2, 4), "the text is not cut: v rows are asked, and there are more"),
            (rows(2, 4), "the text is cut at the wrong end: its first v tokens are asked"),
        ],
    )
    expect_close(
        answer(table, [5, 2], 5),
        rows(5, 2, 5, 2, 5),
        "the start for 2 tokens and v = 5",
        diagnose=[
            (rows(5, 2), "the text is not repeated: v rows are asked, and there are fewer"),
            (rows(5, 2, 2, 2, 2), "the last token is repeated; it is the text, from its beginning"),
            (rows(5, 5, 5, 2, 2), "each token is repeated on its own; it is the text as a whole"),
            (torch.cat([rows(5, 2), torch.zeros(3, 2)]), "the rest is filled with zeros"),
            (rows(5, 2, 0, 0, 0), "the rest is filled with token 0"),
        ],
    )
    got = answer(table, [0, 1], 2)
    with torch.no_grad():
        got += 100
    same = torch.equal(table.weight, before)
    expect(same, "the result shares memory with the table: training P would change the words")
    return "as many tokens as rows, more, fewer; and the table is left alone"


def vocab(answer: Any) -> str:
    """A start of real rows, drawn at random; N(0, 1) without a table."""
    table = nn.Embedding(50, 8)
    with torch.no_grad():
        table.weight += 5  # unlike N(0, 1), and unlike N(0, 1) · 0.01
    before = table.weight.detach().clone()
    layer = answer(20, 8, table)
    p = layer.soft_prompt
    expect(isinstance(p, nn.Parameter) and p.requires_grad, "soft_prompt must be trainable")
    expect(p.shape == (20, 8), f"soft_prompt has shape {tuple(p.shape)}; it is (v, d) = (20, 8)")
    expect(p.abs().max() > 0.1, "the start is random numbers of size 0.01, as in the note")
    found = (p.detach()[:, None] == before).all(-1)  # (v, vocabulary)
    expect(found.any(1).all(), "the start's rows are not rows of the embedding")
    drawn = found.float().argmax(1).tolist()
    expect(drawn != list(range(20)), "the first v rows are taken; they are drawn at random")
    expect(len(set(drawn)) > 3, "all rows are the same word; each is drawn on its own")
    others = answer(20, 8, table).soft_prompt.detach()
    expect(not torch.equal(others, p), "the same rows every time; they are drawn at random")
    with torch.no_grad():
        p += 1
    same = torch.equal(table.weight, before)
    expect(same, "soft_prompt shares memory with the embedding: training would change the words")
    torch.manual_seed(0)
    plain = answer(1000, 8).soft_prompt.detach()
    spread = float(plain.std())
    expect(abs(spread - 1) < 0.05, f"without an embedding the spread is {spread:.3g}, not 1")
    expect_close(layer(torch.zeros(1, 3, 8))[0, :20], p, "what forward puts before the text")
    return "rows of the embedding, drawn at random and copied; N(0, 1) without one"


class _Config:
    """A config that knows a model's sizes."""

    def __init__(self, tokens: int, d: int, stacks: int):
        self.tokens = self.num_virtual_tokens = tokens
        self.known = {
            "token_dim": d,
            "num_transformer_submodules": stacks,
            "num_layers": 12,
            "num_attention_heads": 16,
        }

    def of_model(self, model: Any) -> dict[str, int]:
        return self.known


def count(answer: Any) -> str:
    """GPT-2, Llama-2-7B and T5-base from their sizes."""
    model = nn.Identity()
    known = [
        (7680 * 12, "a prompt in every layer is prefix tuning's; here it is in front of the first"),
        (7680 * 24, "that is keys and values of every layer, which is prefix tuning's"),
        (768, "the number of tokens is missing"),
        (10, "the width d is missing"),
        (10 + 768, "v + d: P is a matrix, (v, d), with v · d entries"),
    ]
    gpt2 = answer(model, _Config(10, 768, 1))
    expect_number(gpt2, 7680, "the count for GPT-2 and v = 10", known)
    if not isinstance(gpt2, int):
        raise Wrong(f"a count is an int; this is {describe(gpt2)}")
    expect_number(answer(model, _Config(20, 4096, 1)), 81_920, "the count for Llama-2-7B, v = 20")
    expect_number(
        answer(model, _Config(10, 768, 2)),
        15_360,
        "the count for T5-base, an encoder with a decoder, and v = 10",
        [(7680, "an encoder with a decoder has two prompts: num_transformer_submodules is 2")],
    )
    return "GPT-2 with 10 tokens: 7,680; Llama-2-7B with 20: 81,920; T5-base with 10: 15,360"
