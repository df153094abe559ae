"""What the exercises of lesson 10 test: numbers worked by hand, algebra, autograd.

ℓ is set before an output is looked at: at ℓ = 1 every scale looks right.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..expect import Wrong, describe, expect, expect_close, expect_number

L = torch.tensor([2.0, 0.0, -1.0])
X = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
LX = torch.tensor([[2.0, 0.0, -3.0], [8.0, 0.0, -6.0], [14.0, 0.0, -9.0]])


def _set(layer: Any, values: Tensor) -> Any:
    """Puts known numbers into ℓ, whichever way it is stored."""
    with torch.no_grad():
        layer.ia3_l.copy_(values.view_as(layer.ia3_l))
    return layer


def forward(answer: Any) -> str:
    """ℓ ⊙ x by hand, in both layouts of ℓ; gradients; one rounding."""
    for feedforward in (False, True):
        layer, x = _set(answer(3, feedforward=feedforward), L), X.clone()
        got = layer(x)
        said = f"with feedforward={feedforward} "
        expect(torch.equal(x, X), f"{said}x was changed in place; return a new tensor")
        known = [
            (X * L[:, None], f"{said}ℓ scales the tokens, the rows of x; it scales the features"),
            (X + L, f"{said}ℓ is added; it multiplies"),
            (X + X * L, f"{said}x is added to ℓ ⊙ x; ℓ itself starts at one"),
            (X, f"{said}x comes back as it was: ℓ is missing"),
            (LX.sum(-1), f"{said}the products are summed; ℓ ⊙ x keeps every feature"),
            (LX.sum(-1, keepdim=True), f"{said}the products are summed; ℓ ⊙ x keeps every feature"),
        ]
        expect_close(got, LX, f"{said}the output", diagnose=known)
        expect(got.requires_grad, f"{said}no gradient reaches ℓ: a detach, .data or no_grad")
        got.sum().backward()
        grad = layer.ia3_l.grad.flatten()
        expect_close(grad, torch.tensor([12.0, 15.0, 18.0]), f"{said}the gradient of ℓ")
        expect_close(
            layer(X.view(3, 1, 3)), LX.view(3, 1, 3), "for x of shape (3, 1, 3) the output"
        )

    class Doubled(answer):  # type: ignore[misc]
        """An IA³ whose `vector` is twice what it stores."""

        def vector(self) -> Tensor:
            return 2.0 * self.ia3_l  # type: ignore[no-any-return]

    twice = _set(Doubled(3), L)(X)
    message = "ℓ is read from `ia3_l`; take `self.vector()`, which a fused layer fills with ones"
    expect_close(twice, 2 * LX, "the output of a subclass", diagnose=[(LX, message)])
    half = torch.bfloat16  # 1.9921875 · 1.0039 = 1.99996; the next bfloat16 above is 2
    low = _set(answer(1), torch.tensor([1.0039]))(torch.tensor([1.9921875], dtype=half))
    expect(isinstance(low, Tensor) and low.dtype == half, f"bfloat16 in, {describe(low)} out")
    expect(low.item() == 2, "ℓ was rounded to bfloat16 before the product; round the product, once")
    return "ℓ ⊙ x by hand in both layouts, leading dimensions, gradients, one rounding in bfloat16"


def fold(answer: Any) -> str:
    """Folded equals beside, for outputs and for inputs, and the old tensors are left alone."""
    w, b = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([10.0, 20.0])
    scale = torch.tensor([2.0, -1.0])
    rows, columns = w * scale[:, None], w * scale
    for feedforward in (False, True):
        layer, said = _set(answer(2, feedforward=feedforward), scale), f"{feedforward=}: "
        given_w, given_b = w.clone(), b.clone()
        pair = layer.fold(given_w, given_b)
        expect(torch.equal(given_w, w), f"{said}the weight was changed in place")
        expect(torch.equal(given_b, b), f"{said}the bias was changed in place")
        if not (isinstance(pair, tuple | list) and len(pair) == 2):
            raise Wrong(f"return the pair (weight, bias); this is {describe(pair)}")
        wanted, other = (columns, rows) if feedforward else (rows, columns)
        axis = "the columns, which meet the input" if feedforward else "the rows, one per output"
        known = [
            (other, f"{said}ℓ scales the wrong axis of W; it scales {axis}"),
            (w, f"{said}W comes back as it was: ℓ is missing"),
            (w + layer.vector(), f"{said}ℓ is added to W; it multiplies"),
        ]
        expect_close(pair[0], wanted, f"{said}the folded weight", diagnose=known)
        if feedforward:
            known = [(scale * b, f"{said}b is scaled; it is added after W, where ℓ is no more")]
            expect_close(pair[1], b, f"{said}the bias", diagnose=known)
        else:
            known = [(b, f"{said}b is not scaled; ℓ ⊙ (W x + b) scales it too")]
            expect_close(pair[1], scale * b, f"{said}the folded bias", diagnose=known)
        try:
            _, none = layer.fold(w.clone(), None)
        except (TypeError, AttributeError) as error:
            raise Wrong(f"{said}with bias = None yours raises: {error}") from None
        expect(none is None, f"{said}a layer without bias must stay without")
    tall = torch.ones(3, 2)
    expect_close(_set(answer(3), L).fold(tall, None)[0], tall * L[:, None], "a folded W (3, 2)")
    return (
        "rows and bias for outputs, columns for inputs, by hand; None kept; old tensors untouched"
    )


def vector(answer: Any) -> str:
    """ia3_l in its rows, one elsewhere, (features, 1)."""
    layer = _set(answer(5, torch.tensor([1, 4])), torch.tensor([10.0, -5.0]))
    want = torch.tensor([[1.0], [10.0], [1.0], [1.0], [-5.0]])
    known = [
        (
            want - (want == 1).float(),
            "the other rows are zero: that switches them off; one is asked",
        ),
        (torch.tensor([[10.0], [-5.0], [1.0], [1.0], [1.0]]), "ℓ stands in the first rows"),
        (torch.ones(5, 1), "ℓ is one everywhere: `index_copy` returns its result"),
        (torch.tensor([[10.0], [-5.0]]), "ℓ has K's and V's rows only; all are asked for"),
        (want.flatten(), "ℓ has shape (5,); as it is stored, it is (features, 1)"),
    ]
    got = layer.vector()
    expect_close(got, want, "ℓ with rows [1, 4] of 5", diagnose=known)
    expect(got.requires_grad, "no gradient reaches ia3_l: a detach, .data or no_grad")
    (got.flatten() * torch.arange(5.0)).sum().backward()
    expect_close(layer.ia3_l.grad, torch.tensor([[1.0], [4.0]]), "the gradient of ia3_l")
    layer = _set(answer(4, torch.tensor([0, 2, 3])), torch.tensor([2.0, 3.0, 4.0]))
    expect_close(layer(torch.ones(4)), torch.tensor([2.0, 1.0, 3.0, 4.0]), "ℓ ⊙ (1, 1, 1, 1)")
    return "ℓ with rows [1, 4] of 5 and [0, 2, 3] of 4, one elsewhere; gradients"


def count(answer: Any) -> str:
    """GPT-2 by the paper, Llama-2-7B, and Llama-2-70B with eight heads of keys."""
    known = [
        (12 * (3 * 768 + 3072), "64,512 is peft's reading, which scales Q too; the paper does not"),
        (12 * (768 + 3072), "K or V is missing: each has a vector of its own"),
        (12 * (2 * 768 + 768), "ℓ_ff scales the input of down_proj, which is `inner` wide"),
        (12 * 2 * 768, "the feed-forward is missing"),
        (2 * 768 + 3072, "that is one layer; there are `layers`"),
        (12 * (2 * 768 * 768 + 768 * 3072), "that is the frozen matrices; a vector has one axis"),
    ]
    expect_number(answer(12, 768, 3072, 12, 12), 55_296, "the count of GPT-2", known)
    expect_number(answer(32, 4096, 11008, 32, 32), 614_400, "the count of Llama-2-7B")
    known = [
        (80 * (2 * 8192 + 28672), "8 of 64 heads have keys: k_proj and v_proj are 1,024 wide"),
        (80 * (2 * 8 + 28672), "kv_heads is a number of heads; each is d / heads wide"),
    ]
    expect_number(answer(80, 8192, 28672, 64, 8), 2_457_600, "the count of Llama-2-70B", known)
    value = answer(12, 768, 3072, 12, 12)
    expect(isinstance(value, int), f"a count is an int; this is {describe(value)}")
    return "GPT-2: 55,296; Llama-2-7B: 614,400; Llama-2-70B: 2,457,600"


_BLOOM = (
    "self_attention.query_key_value",
    "self_attention.dense",
    "mlp.dense_h_to_4h",
    "mlp.dense_4h_to_h",
)


def _named(entries: Any) -> set[str]:
    """The layers of a Bloom block whose name is an entry or ends in one, after a dot."""
    return {n for n in _BLOOM if any(n == e or n.endswith(f".{e}") for e in entries)}


def config(answer: Any) -> str:
    """peft's rule for the strings, and the layers that they name."""
    keys = {"target_modules", "feedforward_modules"}
    expect(isinstance(answer, dict), f"give a dictionary; this is {describe(answer)}")
    expect(
        set(answer) == keys, f"the keys are {sorted(keys)}; these are {sorted(map(str, answer))}"
    )
    for key in keys:
        good = isinstance(answer[key], list | tuple | set)
        expect(good, f"{key} should be a list of names; this is {describe(answer[key])}")
    target, given = answer["target_modules"], answer["feedforward_modules"]
    same = _named(given) <= _named(target)
    strings = "names the layer by another string; peft compares the strings"
    missing = "is not among target_modules; peft scales only what stands there"
    for entry in given:
        expect(entry in target, f"{entry!r} {strings if same else missing}")
    inputs, outputs = _named(given), _named(target) - _named(given)
    qkv, down = _BLOOM[0], _BLOOM[3]
    expect(qkv in _named(target), "query_key_value is not scaled any more")
    expect(qkv not in inputs, "query_key_value is scaled on its input; asked for is its output")
    expect(down not in outputs, "dense_4h_to_h is scaled on its output; asked for is its input")
    expect(down in inputs, "dense_4h_to_h is not scaled at all; the feed-forward is a part of IA³")
    extra = sorted((inputs | outputs) - {qkv, down})
    expect(not extra, f"{extra} would be scaled too")
    return "peft takes the strings; they mean the output of Q, K, V and the input of dense_4h_to_h"


def without_q(answer: Any) -> str:
    """The numbers by hand, and the scores."""
    given = torch.tensor([2.0, -3.0, 5.0, 7.0, 11.0, 13.0])[:, None]
    want = torch.tensor([1.0, 1.0, 10.0, -21.0, 11.0, 13.0])[:, None]
    kept = given.clone()
    got = answer(given)
    expect(torch.equal(given, kept), "`scale` was changed in place; return a new tensor")

    def with_k(*k: float) -> Tensor:
        return torch.tensor([1.0, 1.0, *k, 11.0, 13.0])[:, None]

    known = [
        (with_k(5.0, 7.0), "ℓ_q is lost: the scores have changed"),
        (with_k(7.0, 4.0), "ℓ_q is added to ℓ_k; scales multiply"),
        (with_k(2.5, -7 / 3), "ℓ_k is divided by ℓ_q; the product of the two must stay"),
        (with_k(2.0, -3.0), "ℓ_k is lost: only ℓ_q stands on K"),
        (torch.cat([given[:2], want[2:]]), "Q keeps its scale too: it counts twice in the scores"),
        (torch.cat([0 * given[:2], want[2:]]), "Q is switched off by zeros; one is asked for"),
        (
            torch.cat([want[:4], given[:2] * given[4:]]),
            "ℓ_q was moved into V too; no score is there",
        ),
        (given, "ℓ comes back as it was"),
    ]
    expect_close(got, want, "ℓ'", diagnose=known)
    d = 4
    old = torch.randn(3 * d, 1)
    new = answer(old).flatten()
    q, k = torch.randn(3, d), torch.randn(5, d)
    flat = old.flatten()
    before = (flat[:d] * q) @ (flat[d : 2 * d] * k).T
    expect_close((new[:d] * q) @ (new[d : 2 * d] * k).T, before, "the scores", atol=1e-5)
    return "ℓ'_q = 1 and ℓ'_k = ℓ_q ⊙ ℓ_k by hand; the same scores for queries and keys drawn"
