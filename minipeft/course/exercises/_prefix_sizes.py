"""What the exercises of lesson 07 test on sizes: counts, and a sequence that must not grow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..expect import Wrong, describe, expect, expect_close, expect_number


@dataclass
class _Config:
    """What `count` asks of a config, for a model given by its sizes."""

    tokens: int
    prefix_projection: bool
    encoder_hidden_size: int | None
    layers: int
    keys: int
    word: int

    def of_model(self, model: Any, *, keys: bool = False) -> dict[str, int]:
        """The sizes, as `PromptConfig.of_model` gives them."""
        return {"token_dim": self.keys if keys else self.word, "num_layers": self.layers}


def count(answer: Any) -> str:
    """GPT-2 and Llama-2-70B, with the MLP and without."""
    v, layers, d = 10, 12, 768
    gpt2 = _Config(v, False, None, layers, d, d)
    number = v * 2 * layers * d
    known = [
        (number // 2, "half of it: each layer has a key and a value, 2·L·v·d"),
        (2 * v * d, "that is one layer; each of the L layers has its own"),
        (v * d, "that is prompt tuning's count, v·d; here each layer has keys and values"),
        (2 * layers * d, "v is missing"),
        (number + v * d, "without the MLP there is no E: the numbers themselves are trained"),
    ]
    got = answer(None, gpt2)
    expect_number(got, number, "the count for GPT-2, v = 10,", known)
    expect(isinstance(got, int), f"a count is an int; this is {describe(got)}")
    llama = _Config(10, False, None, 80, 1024, 8192)
    known = [(13_107_200, "for Llama-2-70B d is the width of the keys: `keys=True` is missing")]
    expect_number(answer(None, llama), 1_638_400, "the count for Llama-2-70B", known)

    width = 2 * layers * d
    made, h = _Config(v, True, None, layers, d, d), d
    parts = v * d + (d * h + h) + (h * width + width)
    known = [
        (number, "with the MLP it is the MLP and E that are trained, not its result"),
        (parts - v * d, "E (v, d) is missing"),
        (parts - h - width, "the biases b₁ (h,) and b₂ (2·L·d,) are missing"),
        (parts - width, "the bias b₂ (2·L·d,) is missing"),
        (parts - h, "the bias b₁ (h,) is missing"),
        (parts + v * (width - d), "E is (v, d) with the MLP, not (v, 2·L·d)"),
        (parts - v * d + number, "E is (v, d) with the MLP, not (v, 2·L·d)"),
        (parts + number, "the MLP's result is computed, not trained: it does not count"),
    ]
    expect_number(answer(None, made), parts, "the count with the MLP, h = d,", known)
    small = _Config(v, True, 100, layers, d, d)
    want = v * d + (d * 100 + 100) + (100 * width + width)
    known = [(parts, "encoder_hidden_size=100 is ignored: h is d only when it is None")]
    expect_number(answer(None, small), want, "the count with the MLP, h = 100,", known)
    return "GPT-2: 184,320, with the MLP 14,772,480; Llama-2-70B: 1,638,400"


def notes(answer: Any) -> str:
    """Three layers: the length, each layer's own prompts, and the text left alone."""
    torch.manual_seed(0)
    n, t, d = 2, 3, 4
    layer = answer(3, n, d)
    with torch.no_grad():
        for i, prompts in enumerate(layer.prompt_embeddings):
            prompts.copy_(torch.arange(8.0).view(n, d) / 8 + i)
    hidden = torch.randn(2, t, d)
    for i in range(3):
        text = hidden[:, -t:].clone()
        given = hidden.clone()
        got = layer(hidden, i)
        own = _prompts(layer, i).expand(2, -1, -1)
        if not isinstance(got, Tensor):
            raise Wrong(f"layer {i} should get a tensor, but it is {describe(got)}")
        if i > 0:
            grown = got.shape[1] == 2 * n + t
            expect(not grown, f"before layer {i} the sequence grows again: {n + t} -> {2 * n + t}")
        expect(got.shape[1] != t or i > 0, "layer 0 puts n prompts before the t tokens of text")
        expect_close(
            got,
            torch.cat([own, text], dim=1),
            f"what layer {i} gets",
            diagnose=[
                (given, f"layer {i} gets what came in; its own prompts are missing"),
                (
                    torch.cat([_prompts(layer, 0).expand(2, -1, -1), text], dim=1),
                    f"layer {i} gets the prompts of layer 0; each layer has its own",
                ),
                (
                    torch.cat([given[:, :n] + own, text], dim=1) if i else text,
                    f"layer {i}'s prompts are added to the last layer's; they take their place",
                ),
                (
                    torch.cat([given[:, :-n], own], dim=1) if i else text,
                    f"before layer {i} the end of the text is replaced, not the old prompts",
                ),
                (
                    torch.cat([own, given[:, :-n]], dim=1) if i else text,
                    f"before layer {i} the text's end is cut off, and the old prompts are kept",
                ),
                (torch.cat([text, own], dim=1), "the prompts stand after the text, not before it"),
            ],
        )
        expect(torch.equal(hidden, given), "hidden_states was changed in place; return a new one")
        got.sum().backward()  # type: ignore[no-untyped-call]
        reached = layer.prompt_embeddings[i].grad is not None
        expect(reached, f"no gradient reaches the prompts of layer {i}")
        hidden = got.detach() + 1.0  # what a layer would do to them
    return "n + t positions in each of three layers, each with its own prompts; the text is kept"


def _prompts(layer: nn.Module, i: int) -> Tensor:
    """The prompts of one layer, by the class's own MLP, if it still has one: (1, n, d)."""
    prompts: Tensor = layer.prompt_embeddings[i]  # type: ignore[index]
    encode = getattr(layer, "prompt_encoder", None)
    return (prompts if encode is None else encode(prompts)).detach().unsqueeze(0)


def predict_70b(answer: Any) -> str:
    """2 · 80 · 10 · 1024."""
    known = [
        (13_107_200, "that is with d = 8,192; only 8 of the 64 heads have keys, so d = 1,024"),
        (819_200, "half of it: each layer has a key and a value"),
        (6_553_600, "half of it, and d = 8,192: a key and a value, each 8 · 128 wide"),
        (20_480, "that is one layer; there are 80"),
        (163_840, "that is for v = 1; here v = 10"),
        (81_920, "that is prompt tuning's v · 8,192; here each layer has keys and values"),
        (204_800, "that is with d = 128, one head; 8 heads have keys of their own"),
    ]
    expect_number(answer, 1_638_400, "the prediction", known)
    return "2 · 80 · 10 · (8 · 128) = 1,638,400, fewer than for Llama-2-7B (2,621,440)"
