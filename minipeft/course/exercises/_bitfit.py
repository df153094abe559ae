"""What the exercises of lesson 03 test: numbers worked by hand, algebra, autograd.

δb is set before an output is looked at: at δb = 0 every shift looks right.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..expect import Wrong, describe, expect, expect_close, expect_number

Y = torch.tensor([[1.0, 2.0], [30.0, 40.0]])
SHIFT = torch.tensor([10.0, -5.0])
SUM = torch.tensor([[11.0, -3.0], [40.0, 35.0]])


def _set(layer: Any, values: Tensor) -> Any:
    """Puts known numbers into δb."""
    with torch.no_grad():
        layer.delta_bias.copy_(values)
    return layer


def forward(answer: Any) -> str:
    """The sum by hand, channels, rows, gradients, and one rounding."""
    layer, y = _set(answer(2), SHIFT), Y.clone()
    got = layer(y)
    expect(torch.equal(y, Y), "base_output was changed in place; return a new tensor")
    known = [
        (Y - SHIFT, "δb is subtracted; it is added"),
        (Y, "δb is missing: the base output comes back as it was"),
        (SHIFT.expand(2, 2), "the base output is missing: only δb is returned"),
        (SHIFT, "the base output is missing: only δb is returned"),
        (Y * SHIFT, "δb multiplies the output; BitFit adds it"),
    ]
    expect_close(got, SUM, "the output", diagnose=known)
    expect(got.requires_grad, "no gradient reaches δb: a detach, .data or no_grad")
    got.sum().backward()
    expect_close(layer.delta_bias.grad, torch.full((2,), 2.0), "the gradient of δb, for two rows,")
    image = torch.zeros(1, 2, 1, 2)  # (batch, channels, height, width)
    layer = _set(answer(2, axis=1), SHIFT)
    channels = SHIFT.view(2, 1, 1).expand(1, 2, 1, 2)
    known = [(SHIFT.expand(1, 2, 1, 2), "with axis = 1 δb lies along the last axis: use `along`")]
    expect_close(layer(image), channels, "for an image (1, 2, 1, 2) the output", diagnose=known)
    layer = _set(answer(3, rows=torch.tensor([0, 2])), SHIFT)
    expect_close(
        layer(torch.zeros(3)), torch.tensor([10.0, 0.0, -5.0]), "with rows [0, 2] of 3 the output"
    )
    half = torch.bfloat16  # after 1 its next number is 1.0078125, and 1.00391 lies nearer to that
    low = _set(answer(1), torch.tensor([0.00391]))(torch.ones(1, dtype=half))
    expect(isinstance(low, Tensor) and low.dtype == half, f"bfloat16 in, {describe(low)} out")
    expect(low.item() != 1, "δb was rounded to bfloat16 before the sum; round the sum, once")
    return "the sum by hand, along channels, in some rows; the gradient; one rounding in bfloat16"


def delta(answer: Any) -> str:
    """δb in its rows, zero elsewhere, whatever their order."""
    layer = _set(answer(5, rows=torch.tensor([0, 3])), SHIFT)
    want = torch.tensor([10.0, 0.0, 0.0, -5.0, 0.0])
    known = [
        (SHIFT, "δb has one number for each row only; asked for is the shape of the bias"),
        (torch.tensor([10.0, -5.0, 0.0, 0.0, 0.0]), "δb stands in the first rows, not in `rows`"),
        (torch.zeros(5), "δb is zero everywhere: `index_copy` returns its result"),
        (torch.where(want == 0, 1.0, want), "the other rows are one; adding nothing means zero"),
    ]
    got = layer.delta()
    expect_close(got, want, "δb with rows [0, 3] of 5", diagnose=known)
    expect(got.requires_grad, "no gradient reaches delta_bias: a detach, .data or no_grad")
    (got * torch.arange(5.0)).sum().backward()
    expect_close(layer.delta_bias.grad, torch.tensor([0.0, 3.0]), "the gradient of delta_bias")
    layer = _set(answer(3, rows=torch.tensor([2, 1])), SHIFT)
    expect_close(layer.delta(), torch.tensor([0.0, -5.0, 10.0]), "δb with rows [2, 1] of 3")
    layer = _set(answer(2), SHIFT)
    try:
        whole = layer.delta()
    except (RuntimeError, TypeError, IndexError) as error:
        said = f"yours raises: {str(error).splitlines()[0]}"
        raise Wrong(f"with rows = None, delta_bias is whole already; {said}") from None
    expect_close(whole, SHIFT, "with rows = None, δb")
    return "δb in rows [0, 3] of 5 and [2, 1] of 3, zero elsewhere; whole without rows; gradients"


def fold(answer: Any) -> str:
    """Folded equals beside, and the old tensors are left alone."""
    layer = _set(answer(2), SHIFT)
    w, b = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), torch.tensor([100.0, 200.0])
    kept_w, kept_b = w.clone(), b.clone()
    pair = layer.fold(w, b)
    expect(torch.equal(w, kept_w), "the weight was changed in place; BitFit leaves it")
    expect(torch.equal(b, kept_b), "the bias was changed in place; return a new tensor")
    if not (isinstance(pair, tuple | list) and len(pair) == 2):
        raise Wrong(f"return the pair (weight, bias); this is {describe(pair)}")
    known_w = [(w + SHIFT[:, None], "δb was added to the weight; it belongs to the bias")]
    expect_close(pair[0], w, "the folded weight", diagnose=known_w)
    known = [
        (SHIFT, "b is missing: only δb is returned"),
        (b - SHIFT, "δb is subtracted; it is added"),
        (b, "b comes back as it was: δb is missing"),
        (b * SHIFT, "δb multiplies b; it is added"),
    ]
    expect_close(pair[1], b + SHIFT, "the folded bias", diagnose=known)
    try:
        _, alone = layer.fold(w, None)
    except (TypeError, AttributeError) as error:
        raise Wrong(f"with bias = None, δb is the bias; yours raises: {error}") from None
    expect(alone is not None, "with bias = None the shift is lost; δb is the bias then")
    expect_close(alone, SHIFT, "with bias = None, the folded bias")
    rows = _set(answer(3, rows=torch.tensor([0, 2])), SHIFT)
    _, some = rows.fold(torch.zeros(3, 1), torch.ones(3))
    expect_close(some, torch.tensor([11.0, 1.0, -4.0]), "with rows [0, 2] of 3, the folded bias")
    return "W kept, b + δb by hand, δb alone without b, some rows only; the old tensors untouched"


def count(answer: Any) -> str:
    """The numbers of GPT-2 and bloom-1b4-zh."""
    d, n = 768, 12
    known = [
        (n * 9 * d, "the norms are missing: two in each block, and one after the last"),
        (n * 9 * d + d, "2d a block are missing: its two norms, or K and V in the bias of 3d"),
        (n * 11 * d, "the norm after the last block is missing"),
        (n * 10 * d + d, "one of the two norms of each block is missing"),
        (n * 11 * d + 2 * d, "GPT-2 has no norm after its embedding"),
        (n * (12 * d * d + 13 * d) + 2 * d, "these are all parameters of the blocks"),
        (n * 13 * d + 2 * d, "the norms' scales are counted too; only their shifts are biases"),
        (11 * d + d, "that is one block; there are `layers`"),
    ]
    expect_number(answer(d, n), 102_144, "the count of GPT-2 (d = 768, 12 layers)", known)
    d, n = 2048, 24
    known = [
        (n * 11 * d + d, "with embedding_norm=True there is one norm more"),
        (n * 12 * d + d, "the norm after the embedding is there once, not in every block"),
    ]
    what = "the count of bloom-1b4-zh (d = 2048, 24 layers, embedding_norm=True)"
    expect_number(answer(d, n, embedding_norm=True), 544_768, what, known)
    value = answer(768, 12)
    expect(isinstance(value, int), f"a count is an int; this is {describe(value)}")
    return "GPT-2: 102,144; bloom-1b4-zh: 544,768"


class _Like(nn.Module):
    """Names as they occur: T5's table, a layer called debias, a norm, a layer without bias."""

    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(3, 4, bias=False)
        self.relative_attention_bias = nn.Embedding(5, 2)
        self.debias = nn.Linear(3, 6)
        self.ln = nn.LayerNorm(3)


class _Bare(nn.Module):
    """Llama: no biases."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(3, 4, bias=False)


def filter_(answer: Any) -> str:
    """What is trained, what is frozen, what is returned; and a model without biases."""
    model = _Like()
    n = answer(model)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    table = "relative_attention_bias.weight"
    expect(table not in trained, f"{table!r} is trained: its own name is 'weight'")
    expect("debias.weight" not in trained, "'debias.weight' is trained; 'debias' is a layer's name")
    expect("ln.bias" in trained, "'ln.bias' is frozen; the norms' biases are trained too")
    expect("debias.bias" in trained, "'debias.bias' is frozen; it is the bias of a linear layer")
    extra = sorted(trained - {"ln.bias", "debias.bias"})
    expect(not extra, f"{extra} should be frozen")
    known = [(2, "that is the number of tensors; asked for is the number of numbers in them")]
    expect_number(n, 9, "the number of trained numbers, 6 + 3,", known)
    bare = _Bare()
    try:
        silent = answer(bare)
    except ValueError:
        left = all(p.requires_grad for p in bare.parameters())
        expect(left, "ValueError is raised, but the model is frozen: look before you freeze")
        return "the biases of layers and norms, no other names; ValueError where there are none"
    said = f"returns {silent!r}" if silent is not None else "returns None"
    raise Wrong(f"for a model without biases it {said} and says nothing; raise ValueError")


def dead(answer: Any) -> str:
    """K, with numbers: softmax after a shift of all keys, of all queries."""
    expect(isinstance(answer, str), f'answer "q", "k" or "v"; this is {describe(answer)}')
    letter = answer.strip().lower().removesuffix("s").removesuffix(" bias")
    letter = {"querie": "q", "query": "q", "key": "k", "value": "v"}.get(letter, letter)
    messages = {
        "q": "(q + δ) · k_t = q · k_t + δ · k_t, which differs from key to key: it matters",
        "v": "the weights sum to one, so values shifted by δ shift the output by δ: it matters",
    }
    expect(letter in ("q", "k", "v"), f'answer "q", "k" or "v"; this is {describe(answer)}')
    expect(letter == "k", messages.get(letter, ""))
    return "softmax(q · (k_t + δ)) = softmax(q · k_t + q · δ), and q · δ is the same for every key"
