"""What the exercises of lesson 07 test on numbers: attention by hand, rows, keys and values."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..expect import Wrong, describe, expect, expect_close

# n = 2 of the prefix, t = 3 of the text, d = 4. A key is the logarithm of a weight: with
# q = (2, 0, 0, 0) and √d = 2 the scores are the keys' first numbers, with (0, 2, 0, 0) the second.
Q = torch.tensor([[2.0, 0, 0, 0], [0, 2.0, 0, 0], [2.0, 0, 0, 0]])
WEIGHTS = torch.tensor([[3.0, 1], [1, 2], [1, 3], [2, 1], [4, 5]])  # of p0, p1, x0, x1, x2
KEYS = torch.cat([WEIGHTS.log(), torch.zeros(5, 2)], dim=1)
VALUES = torch.cat([torch.eye(4), torch.ones(1, 4)])  # p0, p1, x0, x1 one-hot; x2 all ones
# By hand: token 0 sees 3 p0 + 1 p1 + 1 x0, of 5; token 1 sees 1 p0 + 2 p1 + 3 x0 + 1 x1, of 7;
# token 2 sees 3 p0 + 1 p1 + 1 x0 + 2 x1 + 4 x2, of 11.
OUTPUT = torch.tensor(
    [
        [3 / 5, 1 / 5, 1 / 5, 0],
        [1 / 7, 2 / 7, 3 / 7, 1 / 7],
        [7 / 11, 5 / 11, 5 / 11, 6 / 11],
    ]
)


def _softmax(scores: Tensor, seen: Tensor, values: Tensor) -> Tensor:
    return scores.masked_fill(~seen, -math.inf).softmax(-1) @ values


def attend(answer: Any) -> str:
    """The output of one head by hand, random numbers by the gate, and gradients."""
    n, t = 2, 3
    given = (Q, KEYS[n:], VALUES[n:], KEYS[:n], VALUES[:n])
    scores = Q @ KEYS.T / 2
    every = torch.ones(t, n + t, dtype=torch.bool)
    text = _softmax(scores[:, n:], every[:, n:].tril(), VALUES[n:])
    own = _softmax(scores[:, :n], every[:, :n], VALUES[:n])
    got = answer(*given)
    expect_close(
        got,
        OUTPUT,
        "the output",
        diagnose=[
            (text, "the prefix is missing: this is the text's attention alone"),
            (own, "the text is missing: this is the attention to the prefix alone"),
            (
                _softmax(scores, every, VALUES),
                "the text sees what comes after it: mask the columns beyond n + i in row i",
            ),
            (
                _softmax(scores, every.tril(), VALUES),
                "the mask is shifted by n: row i sees the columns 0 … n + i, so `tril(n)`; "
                "torch's `is_causal=True` makes the shifted one as well",
            ),
            (
                _softmax(2 * scores, every.tril(n), VALUES),
                "the scores are not divided by √d",
            ),
            (
                _softmax(scores / 2, every.tril(n), VALUES),
                "the scores are divided by d; √d was asked",
            ),
            (
                text + own,
                "two softmaxes are added, so a row's weights sum to 2; take one over both",
            ),
            ((text + own) / 2, "two softmaxes are averaged; take one softmax over both"),
        ],
    )
    _by_the_gate(answer)
    return "a head worked by hand; random numbers against (1 - λ)·text + λ·prefix; gradients"


def _by_the_gate(answer: Any) -> None:
    """Softmax over both = (1 - λ) · the text's attention + λ · the prefix's."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(4, 9, generator=generator) for _ in range(3))
    pk, pv = (torch.randn(3, 9, generator=generator).requires_grad_() for _ in range(2))
    text = (q @ k.T / 3).masked_fill(torch.ones(4, 4).triu(1).bool(), -math.inf)
    prefix = q @ pk.T / 3
    gate = torch.sigmoid(prefix.logsumexp(1) - text.logsumexp(1)).unsqueeze(1)  # λ, (t, 1)
    want = (1 - gate) * (text.softmax(1) @ v) + gate * (prefix.softmax(1) @ pv)
    got = answer(q, k, v, pk, pv)
    expect_close(got, want, "with n = 3, t = 4, d = 9 the output")
    expect(got.requires_grad, "no gradient reaches the prefix: a detach, .data or no_grad")
    for name, grad in zip(
        ("prefix_k", "prefix_v"),
        torch.autograd.grad(got.square().sum(), (pk, pv), allow_unused=True),
        strict=True,
    ):
        expect(grad is not None and bool((grad != 0).any()), f"{name} receives no gradient")


def virtual_tokens(answer: Any) -> str:
    """The rows themselves, and the MLP of the rows by hand."""
    plain = answer(1, 3, 2)
    rows = torch.arange(12.0).view(3, 4)  # v = 3, 2·L·d = 4
    with torch.no_grad():
        plain.embedding.weight.copy_(rows)
    got = plain.virtual_tokens()
    if isinstance(got, nn.Embedding):
        raise Wrong("that is the layer `self.embedding`; its rows are `self.embedding.weight`")
    expect_close(got, rows, "without the MLP the result")
    _reaches(plain, got, ["embedding.weight"])

    # By hand, v = 2, d = 1, h = 2, 2·L·d = 2: W₁ E + b₁ is atanh(½) and atanh(-½) in each row.
    made = answer(1, 2, 1, prefix_projection=True, projection_size=2)
    half = math.atanh(0.5)
    with torch.no_grad():
        made.embedding.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        for layer, weight, bias in (
            (made.transform[0], [[half], [0.0]], [0.0, half]),
            (made.transform[-1], [[2.0, 4.0], [0.0, 6.0]], [10.0, 20.0]),
        ):
            layer.weight.copy_(torch.tensor(weight))
            layer.bias.copy_(torch.tensor(bias))
    # tanh gives (½, ½) and (-½, ½)
    want = torch.tensor([[13.0, 23.0], [11.0, 23.0]])
    e = made.embedding.weight.detach()
    inner = e @ made.transform[0].weight.detach().T + made.transform[0].bias.detach()
    last = made.transform[-1]
    got = made.virtual_tokens()
    expect_close(
        got,
        want,
        "with the MLP the result",
        diagnose=[
            (e, "the MLP is left out: the rows E (v, d) come back, not P (v, 2·L·d)"),
            (
                inner @ last.weight.detach().T + last.bias.detach(),
                "tanh is missing: call `self.transform` as a whole",
            ),
            (torch.tanh(inner), "W₂ and b₂ are missing: call `self.transform` as a whole"),
            (want - last.bias.detach(), "b₂ is missing: call `self.transform` as a whole"),
        ],
    )
    _reaches(made, got, [name for name, _ in made.named_parameters()])
    return "the rows themselves; W₂ tanh(W₁ E + b₁) + b₂ by hand; gradients reach all of them"


def _reaches(layer: nn.Module, got: Tensor, names: list[str]) -> None:
    expect(got.requires_grad, "no gradient reaches the prefix: a detach, .data or no_grad")
    layer.zero_grad()
    got.sum().backward()  # type: ignore[no-untyped-call]
    for name, parameter in layer.named_parameters():
        if name in names:
            expect(parameter.grad is not None, f"{name} receives no gradient")


def forward(answer: Any) -> str:
    """Every number in its place, told by its value."""
    v, layers, heads, width = 4, 3, 2, 5  # all different: no two dimensions can be confused
    encoder = answer(layers, v, heads * width, heads)
    row = torch.arange(2.0 * layers * heads * width)  # (60,): the place in the row
    with torch.no_grad():
        encoder.embedding.weight.copy_(100 * torch.arange(v).unsqueeze(1) + row)
    rows = encoder.embedding.weight.detach()
    want = torch.empty(2 * layers, heads, v, width)
    for i in range(2 * layers):
        for h in range(heads):
            for token in range(v):
                start = 100 * token + (i * heads + h) * width
                want[i, h, token] = torch.arange(start, start + width)
    split = rows.view(v, 2 * layers, heads, width)
    turned = rows.view(v, 2, layers, heads, width).transpose(1, 2)
    got = encoder()
    expect_close(
        got,
        want,
        "the result",
        diagnose=[
            (rows, "the rows come back as they were, (v, 2·L·d); split and turn them"),
            (split, "split right, (v, 2·L, heads, head_dim), and not turned: `permute` is missing"),
            (
                rows.view(2 * layers, heads, v, width),
                "`view` straight to the wanted shape mixes tokens and layers: `view` keeps the "
                "order of the numbers, so split first and `permute` then",
            ),
            (
                split.permute(1, 0, 2, 3),
                "this is (2·L, v, heads, head_dim): heads come before tokens",
            ),
            (
                rows.view(v, heads, 2 * layers, width).permute(2, 1, 0, 3),
                "a row is split into heads first; in it stand the layers, and in each its heads",
            ),
            (
                turned.reshape(v, 2 * layers, heads, width).permute(1, 2, 0, 3),
                "a row is split as all keys, then all values; each layer's value follows its key",
            ),
            (
                rows.view(v, 2 * layers, width, heads).permute(1, 3, 0, 2),
                "a key is split as (head_dim, heads); its heads stand one after the other",
            ),
            (want[::2], "only the keys are there; each layer has a value too"),
        ],
    )
    expect(got.requires_grad, "no gradient reaches the prefix: a detach, .data or no_grad")
    made = answer(layers, v, heads * width, heads, prefix_projection=True)
    try:
        computed = made()
    except RuntimeError as error:
        raise Wrong(
            "with prefix_projection your forward raises: " + str(error).splitlines()[0] + "\n"
            "take the numbers from `self.virtual_tokens()`, which calls the MLP"
        ) from None
    expect(
        isinstance(computed, Tensor) and computed.shape == want.shape,
        f"with prefix_projection the result is {describe(computed)}",
    )
    return "each number in its place, (2·L, heads, v, head_dim); gradients; the MLP's numbers too"
