"""What the exercises of lesson 06 test: a network by hand, an LSTM's sequence, the counts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..expect import Wrong, describe, expect, expect_close, expect_number

E = torch.tensor([[1.0, -2.0], [3.0, 4.0]])  # v = 2, d = 2


def tokens(answer: Any) -> str:
    """The MLP by hand, the LSTM over the tokens in order, and no network at all."""
    _mlp(answer)
    lstm = answer(3, 4, 5, "LSTM", 2)
    table = lstm.embedding.weight
    states = lstm.lstm_head(table)[0]  # one sequence without a batch dimension: (v, 2h)
    apart = torch.cat([lstm.lstm_head(row[None])[0] for row in table])
    expect_close(
        lstm.virtual_tokens(),
        lstm.mlp_head(states),
        "the tokens of kind LSTM",
        diagnose=[
            (states, "the states of the LSTM are returned: the linear layers come after it"),
            (lstm.mlp_head(apart), "each token is a sequence of its own: one sequence of v tokens"),
            (lstm.mlp_head(states.flip(0)), "the tokens come out in the reverse order"),
            (table, "E comes back as it is: neither LSTM nor linear layers"),
        ],
    )
    plain = answer(3, 4, reparameterization=None)
    expect_close(plain.virtual_tokens(), plain.embedding.weight, "the tokens without a network")
    for layer in (lstm, plain):
        layer.virtual_tokens().sum().backward()
        grad = layer.embedding.weight.grad
        expect(grad is not None and grad.abs().sum() > 0, "no gradient reaches E")
    return (
        "an MLP by hand, the LSTM over the tokens in order, E itself without a network, gradients"
    )


def _mlp(answer: Any) -> None:
    layer = answer(2, 2)
    linear = [m for m in layer.mlp_head if isinstance(m, nn.Linear)]
    with torch.no_grad():
        layer.embedding.weight.copy_(E)
        for m, scale in zip(linear, (1.0, 10.0, 1.0), strict=True):
            m.weight.copy_(scale * torch.eye(2))
            m.bias.copy_(torch.tensor([0.0, 1.0]))
    # relu(E + b) = (1, 0), (3, 5);  relu(10 · that + b) = (10, 1), (30, 51);  + b
    want = torch.tensor([[10.0, 2.0], [30.0, 52.0]])
    got = layer.virtual_tokens()
    one = isinstance(got, Tensor) and got.shape == (1, 2, 2)
    expect(not one, "the tokens have shape (1, v, d); asked for is (v, d)")
    known = [
        (E, "E comes back as it is: the network is missing"),
        (torch.tensor([[1.0, 0.0], [3.0, 5.0]]), "that is the first layer alone"),
        (torch.tensor([[10.0, 1.0], [30.0, 51.0]]), "the last linear layer is missing"),
        (E + want, "E is added to the network's output; P is the output alone"),
    ]
    expect_close(got, want, "the tokens of kind MLP", diagnose=known)


class _Config:
    """What `count` reads of a config."""

    def __init__(
        self,
        d: int,
        h: int | None = None,
        kind: str = "MLP",
        layers: int = 2,
        stacks: int = 1,
    ):
        self.tokens = self.num_virtual_tokens = 10
        self.encoder_hidden_size = h
        self.encoder_reparameterization_type = kind
        self.encoder_num_layers = layers
        self.encoder_dropout = 0.0
        self.known = {"token_dim": d, "num_transformer_submodules": stacks}

    def of_model(self, model: Any) -> dict[str, int]:
        return self.known


def count(answer: Any) -> str:
    """GPT-2 and bloom-1b4-zh, both kinds, several depths."""

    def counted(*given: Any, **options: Any) -> Any:
        return answer(nn.Identity(), _Config(*given, **options))

    mlp = counted(768)
    known = [
        (7_680, "that is E alone; the network is trained too"),
        (1_771_776, "that is the network alone; E is trained too"),
        (1_777_152, "the biases are missing"),
        (1_188_864, "two linear layers; there are three, d → h → h → d"),
    ]
    expect_number(mlp, 1_779_456, "the count of the MLP on GPT-2", known)
    expect(isinstance(mlp, int), f"a count is an int; this is {describe(mlp)}")
    expect_number(
        counted(2048, 1024),
        5_267_456,
        "the count of the MLP with h = 1024 on bloom-1b4-zh",
        [(12_609_536, "encoder_hidden_size is not used: that is h = d")],
    )
    expect_number(
        counted(768, 1024, "LSTM"),
        45_656_320,
        "the count of the LSTM with h = 1024 on GPT-2",
        [
            (39_886_336, "the two linear layers after the LSTM are missing"),
            (39_886_336 - 7_680, "that is the LSTM alone"),
            (45_656_320 - 7_680, "E is missing"),
            (45_639_936, "an LSTM has two biases for each gate, of the input and of the state"),
            (37_267_712, "the second layer reads both directions: its input is 2h wide"),
        ],
    )
    for layers in (1, 3):
        want = 7_680 + 8 * 1024 * (1794 + (layers - 1) * 3074) + 4_196_352 + 1_573_632
        expect_number(
            counted(768, 1024, "LSTM", layers),
            want,
            f"the count of the LSTM with {layers} layers",
            [(45_656_320, "encoder_num_layers is not used: that is 2 layers")],
        )
    expect_number(
        counted(768, stacks=2), 1_787_136, "the count of the MLP for an encoder with a decoder"
    )
    return "MLP on GPT-2 1,779,456; LSTM with h = 1024 45,656,320; depths, widths, two stacks"


def keep(answer: Any) -> str:
    """The same tokens without a network, and on their own."""
    from ...methods.p_tuning import PromptEncoder
    from ...methods.prompt_tuning import PromptTuning

    encoder = PromptEncoder(5, 8, 16, "LSTM")
    p, x = encoder.virtual_tokens().detach().clone(), torch.randn(2, 3, 8)
    want = torch.cat([p.expand(2, 5, 8), x], dim=1)
    kept = answer(encoder)
    expect(kept is not encoder, "that is the encoder itself, with its network")
    alike = isinstance(kept, PromptTuning) and not isinstance(kept, PromptEncoder)
    expect(alike, f"asked for is a PromptTuning; this is {describe(kept)}"[:200])
    size = sum(q.numel() for q in kept.parameters())
    expect(size == 40, f"it has {size:,} parameters; a prompt of 5 tokens and d = 8 has 40")
    expect_close(
        kept.virtual_tokens(),
        p,
        "P",
        diagnose=[(encoder.embedding.weight, "that is E, which the network has not seen")],
    )
    expect_close(kept(x), want, "what it puts before the text")
    with torch.no_grad():
        kept.soft_prompt += 1
    same = torch.equal(encoder.virtual_tokens(), p)
    expect(same, "soft_prompt shares memory with the encoder: training one changes the other")
    trained = kept.soft_prompt
    expect(trained.requires_grad and trained.is_leaf, "soft_prompt must be trainable on its own")
    return "the same vectors before the text, 40 parameters and no network, trainable on its own"


def predict(answer: Any) -> str:
    """1,779,456 and 7,680."""
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise Wrong(f"the answer is the pair (trained, stored); this is {describe(answer)}")
    known = [
        (7_680, "7,680 is what is stored: the network is trained too"),
        (1_771_776, "E is missing: that is the network alone"),
        (1_777_152, "the biases of the three linear layers are missing"),
        (1_188_864, "that is two linear layers; there are three"),
        (598_272, "that is one linear layer; there are three"),
    ]
    expect_number(answer[0], 1_779_456, "the number trained", known)
    stored = [
        (1_779_456, "the network is not stored: the model needs only what it computed"),
        (1_771_776, "that is the network, which is not stored"),
        (15_360, "E is not stored beside P: P is all that the model reads"),
    ]
    expect_number(answer[1], 7_680, "the number stored", stored)
    return "trained 7,680 + 3 · (768² + 768) = 1,779,456; stored 10 · 768 = 7,680"
