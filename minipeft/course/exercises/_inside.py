"""What the exercises of lesson 02 test, with small layers and numbers worked by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..expect import Wrong, describe, expect, expect_close, expect_number


def _conv1d(out: int, inn: int) -> Any:
    import transformers.pytorch_utils

    layer: Any = transformers.pytorch_utils.Conv1D
    return layer(out, inn)


def conv1d(answer: Any) -> str:
    """W x + b must be what the layer computes, and W must be the layer's own memory."""
    layer = _conv1d(3, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))  # (in, out)
    got = answer(layer).matrix()
    want = torch.tensor([[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]])  # (out, in)
    stored = layer.weight.detach()
    reshaped = "(out, in) is the transpose; reshape and view keep the order of the numbers"
    as_stored = "that is the weight as it is stored, (in, out); W is (out, in)"
    expect_close(got, want, "W", [(stored, as_stored), (stored.reshape(3, 2), reshaped)])
    with torch.no_grad():
        got[0, 1] = 40.0
    expect(layer.weight[1, 0] == 40, "W is a copy: writing into it does not reach the layer")
    return "a Conv1D from 2 to 3: W (3, 2) as a view of its weight"


def widths(answer: Any) -> str:
    """Linear and Conv1D, square and not."""
    for layer, kind in ((nn.Linear(5, 7), "nn.Linear"), (_conv1d(7, 5), "Conv1D")):
        try:
            got = answer(layer)
        except AttributeError as error:
            raise Wrong(f"{kind} fails as in the notes: {error}") from None
        pair = isinstance(got, tuple | list | torch.Size) and len(got) == 2
        expect(pair, f"asked for is the pair (in, out); this is {describe(got)}")
        said = f"a {kind} from 5 to 7 gives {tuple(got)}"
        expect(tuple(got) != (7, 5), f"{said}: in and out are exchanged")
        expect(tuple(got) == (5, 7), f"{said}; asked for is (5, 7)")
        expect(all(isinstance(n, int) for n in got), f"{said}, which are no ints")
    return "an nn.Linear and a Conv1D from 5 to 7"


class _Tied(nn.Module):
    """An embedding (11, 3) that is the head too, a frozen layer, a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 3)
        self.middle = nn.Linear(3, 3).requires_grad_(False)
        self.norm = nn.BatchNorm1d(3)  # 6 parameters, and 7 numbers in buffers
        self.head = nn.Linear(3, 11, bias=False)
        self.head.weight = self.embed.weight


def parameters(answer: Any) -> str:
    """33 + 12 + 6."""
    known = [
        (84, "the tied weight is counted twice"),
        (91, "the tied weight is counted twice, and buffers are no parameters"),
        (58, "buffers are counted; they are no parameters"),
        (39, "the frozen layer is missing; it is in memory as well"),
        (5, "that is the number of tensors, not of the numbers in them"),
        (44, "the biases are missing"),
        (204, "those are bytes; asked for are parameters"),
    ]
    model = _Tied()
    expect_number(answer(model), 51, "the count", known)
    expect(isinstance(answer(model), int), f"a count is an int; this is {describe(answer(model))}")
    expect_number(answer(nn.ReLU()), 0, "the count of a module without parameters")
    return "an embedding that is its own head, a frozen layer and a norm: 51"


def predict_gpt2(answer: Any) -> str:
    """(50257 + 1024) · 768 + 12 · 7,087,872 + 1,536."""
    known = [
        (110e6, "110 million is the note's figure; it is BERT-base's"),
        (163_037_184, "the head is tied: the token table counts once"),
        (124_438_272, "the norm behind the last block is missing: 2 · 768"),
        (123_653_376, "the 1,024 learned positions are missing"),
        (85_054_464, "that is the twelve blocks alone"),
        (85_056_000, "that is the blocks and the last norm; the two embedding tables are missing"),
        (124_318_464, "the biases and norms of the blocks are missing: 13 · d in each"),
        (124_320_000, "the biases and norms of the blocks are missing: 13 · d in each"),
        (46_473_216, "that is one block; there are 12"),
        (124_734_720, "that is GPT-2 and the note's LoRA; asked for is GPT-2"),
        (
            124_402_944,
            "each block has two norms of 2 · d; the formula is 12d² + 13d, not 12d² + 9d",
        ),
    ]
    # The tolerance admits the number in thousands: 124,440,000.
    expect_number(answer, 124_439_808, "the prediction", known, rel=5e-6)
    return "38,597,376 + 786,432 + 12 · 7,087,872 + 1,536 = 124,439,808"


def _fused(order: str) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """A fused output with known parts: 2 texts, 5 tokens, 3 heads of width 4."""
    q, k, v = torch.randn(3, 2, 3, 5, 4)
    stacked = torch.stack((q, k, v))  # (3, batch, heads, time, width)
    if order == "gpt2":
        return stacked.permute(1, 3, 0, 2, 4).reshape(2, 5, 36), (q, k, v)
    return stacked.permute(1, 3, 2, 0, 4).reshape(2, 5, 36), (q, k, v)


def qkv(answer: Any) -> str:
    """Parts put together here must come apart again."""
    for model in ("gpt2", "bloom"):
        fused, parts = _fused(model)
        got = answer(fused, 3, model)
        expect(got is not None, "the result is None: is there a `return`?")
        three = isinstance(got, tuple | list) or (isinstance(got, Tensor) and got.dim() == 5)
        expect(three and len(got) == 3, f"asked for is (q, k, v); this is {describe(got)}")
        thirds = [t.reshape(2, 5, 3, 4).transpose(1, 2) for t in fused.chunk(3, dim=-1)]
        by_head = fused.reshape(2, 5, 3, 3, 4).permute(3, 0, 2, 1, 4)
        other = by_head if model == "gpt2" else thirds
        order = {
            "gpt2": "gpt2 is split by head, which is Bloom's order; GPT-2 has thirds",
            "bloom": "bloom is split in thirds, which is GPT-2's order; Bloom goes head by head",
        }[model]
        for at, (name, want) in enumerate(zip("qkv", parts, strict=True)):
            known = [
                (other[at], order),
                (want.transpose(1, 2), f"{name} is (batch, time, heads, width); heads come second"),
                (want.reshape(2, 5, 3, 4).transpose(1, 2), "heads and time are mixed up"),
                (thirds[at].reshape(2, 3, 5, 4), "reshape cannot swap time and heads; transpose"),
                (fused.chunk(3, dim=-1)[at], f"{name} is not yet cut into heads"),
                (fused.chunk(3, dim=-1)[at].reshape(2, 3, 5, 4), "reshape cannot swap time and "
                 "heads: (batch, time, heads, width) first, then transpose"),
                *((parts[i], f"{name} is what should be {'qkv'[i]}: the order is q, k, v")
                  for i in range(3) if i != at),
            ]  # fmt: skip
            expect_close(got[at], want, f"{name} of {model}", known)
    return "both orders, 2 texts of 5 tokens, 3 heads of width 4"


def matches(answer: Any) -> str:
    """Names of GPT-2, as lists and as regular expressions."""
    name = "transformer.h.11.attn.c_proj"
    cases: list[tuple[Any, str, bool, str]] = [
        (["c_proj"], name, True, "an entry matches the end of a name"),
        (["attn.c_proj"], name, True, "an entry may have dots: it is a suffix"),
        ([name], name, True, "an entry may be the whole name"),
        (["c_proj"], "c_proj", True, "an entry may be the whole name"),
        (["proj"], name, False, "a suffix begins after a dot: proj is only a part of c_proj"),
        (["attn"], name, False, "an entry must match the end of a name, not its middle"),
        (["c_fc", "c_proj"], name, True, "one entry of several is enough"),
        (["c_fc"], name, False, "no entry matches"),
        (["c.proj"], name, False, "entries of a list are plain text: a dot is a dot"),
        (r".*\.c_proj", name, True, "a string is a regular expression"),
        (r".*h\.(1|11)\.attn.*", name, True, "a string is a regular expression"),
        ("c_proj", name, False, "a string must match the whole name: fullmatch, not search"),
        ("transformer", name, False, "a string must match the whole name: fullmatch, not match"),
        (r"transformer\..*\.attn", name, False, "the whole name, up to its end"),
        ({"c_proj"}, name, True, "a set of names is treated like a list"),
    ]
    for target, module, want, why in cases:
        got = answer(target, module)
        expect(got is not None, "the result is None: is there a `return` on every path?")
        expect(isinstance(got, bool), f"asked for is True or False; this is {describe(got)}")
        expect(got == want, f"matches({target!r}, {module!r}) should be {want}: {why}")
    return "15 targets: suffixes, whole names, regular expressions"
