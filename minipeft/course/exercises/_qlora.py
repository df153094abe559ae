"""What the exercises of lesson 12 test: by autograd, by algebra, by hand, by trying all levels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...layers.quant import QuantizedLinear, dequantize, levels, quantize
from ..expect import Wrong, describe, expect, expect_close, expect_number


def numbers(seed: int, *shape: int) -> Tensor:
    """Normal numbers, the same each time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def backward(answer: Any) -> str:
    """Autograd through a dense layer with the same dequantized W."""
    x, dy, s = numbers(1, 3, 8).requires_grad_(), numbers(2, 3, 6), 2.0
    a, b = numbers(3, 2, 8).requires_grad_(), numbers(4, 6, 2).requires_grad_()
    q = quantize(numbers(5, 6, 8), blocksize=8)
    w = dequantize(q)
    y = x @ w.T + s * x @ a.T @ b.T
    y.backward(dy)  # type: ignore[no-untyped-call]
    got = answer(dy, x.detach(), q, a.detach(), b.detach(), s)
    expect(
        isinstance(got, tuple) and len(got) == 3,
        f"return three tensors, dx, dA and dB, not {describe(got)}",
    )
    wants: list[Any] = [x.grad, a.grad, b.grad]
    _, da, db = wants
    through = dy @ w
    known: dict[str, list[tuple[Any, str]]] = {
        "dx": [
            (through, "dx has the path through dq(Q) only; x also goes through B A"),
            (s * dy @ b @ a, "dx has the path through B A only; the frozen W passes gradients too"),
            (through + dy @ b @ a, "in dx the scale s is missing before B A"),
            (through + s * s * dy @ b @ a, "in dx the scale counts twice"),
        ],
        "dA": [
            (da / s, "dA lacks the scale s"),
        ],
        "dB": [(db / s, "dB lacks the scale s")],
    }
    for name, mine, want in zip(("dx", "dA", "dB"), got, wants, strict=True):
        expect_close(mine, want, name, diagnose=known[name], rtol=1e-4, atol=1e-5)
    return "dx, dA and dB are autograd's, beside the same dequantized W"


def loftq(answer: Any) -> str:
    """Eckart and Young: what is left is the tail of the singular values."""
    w = numbers(6, 24, 16)
    q, a, b = _three(answer(w, 4, 1.0, 4, 1))
    expect(tuple(a.shape) == (4, 16), f"A should be (r, in) = (4, 16), it is {tuple(a.shape)}")
    expect(tuple(b.shape) == (24, 4), f"B should be (out, r) = (24, 4), it is {tuple(b.shape)}")
    plain = quantize(w)
    expect(torch.equal(q.codes, plain.codes), "in the first round B A is zero: Q is that of W")
    rounding = w - dequantize(plain)
    sigma = torch.linalg.svdvals(rounding)
    left, best = float((rounding - b @ a).norm()), float(sigma[4:].square().sum().sqrt())
    if left > 1.001 * best:
        turned = float((rounding + b @ a).norm())
        expect(turned > 1.001 * best, "B A is -(W - dq(Q)): the rounding with its sign turned")
        whole = float((w - b @ a).norm())
        of_w = float(torch.linalg.svdvals(w)[4:].square().sum().sqrt())
        expect(whole > 1.001 * of_w, "B A is near W; it should be near what was lost, W - dq(Q)")
        raise Wrong(f"‖W - dq(Q) - B A‖ is {left:.4f}; the best of rank 4 leaves {best:.4f}")
    q2, a2, b2 = _three(answer(w, 4, 2.0, 4, 1))
    twice = float((rounding - 2.0 * b2 @ a2).norm())
    expect(
        twice < 1.001 * best,
        f"with s = 2, ‖W - dq(Q) - s B A‖ is {twice:.4f}, not {best:.4f}: B A is scaled by s "
        "afterwards, so the factors are divided by it",
    )
    errors = []
    for n in (1, 5):
        q2, a2, b2 = _three(answer(w, 4, 2.0, 4, n))
        errors.append(float((w - dequantize(q2) - 2.0 * b2 @ a2).norm()))
    expect(
        errors[1] < 0.999 * errors[0],
        f"5 rounds leave {errors[1]:.4f}, 1 round {errors[0]:.4f}: each round quantizes W - s B A, "
        "not W again",
    )
    return "the best rank, the scale, and five rounds better than one"


def _three(got: Any) -> tuple[Any, Tensor, Tensor]:
    """Q, A, B as an answer gives them."""
    if not (isinstance(got, tuple) and len(got) == 3):
        raise Wrong(f"return Q, A and B, not {describe(got)}")
    expect(
        hasattr(got[0], "codes"), f"the first is Q, what `quantize` gives, not {describe(got[0])}"
    )
    return got


def counter(answer: Any) -> str:
    """Layers counted by hand: packed, plain, shared, with and without bias."""
    bias = nn.Parameter(torch.zeros(4))
    model = nn.Sequential(
        QuantizedLinear.of(numbers(7, 4, 8), bias, blocksize=8),
        nn.ReLU(),
        QuantizedLinear.of(numbers(8, 6, 4), blocksize=8),
        nn.LayerNorm(6),
    )
    known = [
        (16.0, "that is what p.numel() sees: the packed weights are missing"),
        (16 + 16 + 12.0, "a byte of codes holds two weights; that counts bytes"),
        (32 + 24 + 12.0, "the bias of the first layer is missing: it is a parameter, count it too"),
        (32 + 24.0, "that is the packed weights only; parameters count too"),
        (16 + 16 + 12 + 4 + 3.0, "codes and scales are counted; asked for are the weights"),
    ]
    expect_number(answer(model), 32 + 24 + 4 + 12, "the count of two packed layers", known)
    expect_number(answer(nn.Linear(3, 5)), 20, "the count of a plain layer")
    expect_number(answer(nn.Sequential(model[0])), 36, "the count of one packed layer in a list")
    return "two packed layers, a bias, a norm and a plain layer, counted by hand"


LINEAR, OTHERS = 6_476_005_376, 262_410_240


def predict_7b(answer: Any) -> str:
    """3.87 GB: 4.127 bits each, and two bytes each."""
    bits = 4 + 8 / 64 + 32 / (256 * 64)
    want = (LINEAR * bits / 8 + 2 * OTHERS) / 1e9
    known = [
        (
            (LINEAR + OTHERS) * 4 / 8 / 1e9,
            "that is 4 bits for all: scales and the rest are missing",
        ),
        ((LINEAR + OTHERS) * bits / 8 / 1e9, "embeddings, norms and the head are not quantized"),
        ((LINEAR * 0.5 + 2 * OTHERS) / 1e9, "the scales are missing: 4.127 bits, not 4"),
        ((LINEAR * 4.5 / 8 + 2 * OTHERS) / 1e9, "that is without double quantization: 4.5 bits"),
        (LINEAR * bits / 8 / 1e9, "the others are missing: two bytes each"),
        ((LINEAR * bits / 8 + 4 * OTHERS) / 1e9, "that is 32 bits for the others; they have 16"),
        ((LINEAR * bits / 8 + 2 * OTHERS) / 2**30, "those are units of 2³⁰ bytes; a GB is 10⁹"),
        (LINEAR * bits / 8 + 2 * OTHERS, "those are bytes; asked for are GB"),
    ]
    for value, message in known:
        if isinstance(answer, int | float) and abs(answer - value) < 0.004 * value:
            raise Wrong(message)
    expect_number(answer, want, "the memory in GB", rel=0.004)
    return f"{want:.2f} GB"


REPLACED = {"h.0.attn.c_attn", "h.0.attn.c_proj", "h.0.mlp.c_fc", "h.0.mlp.c_proj"}


def skip(answer: Any) -> str:
    """The four linear layers of a block."""
    if not isinstance(answer, list | tuple | set):
        raise Wrong(f"answer with a list of names, not {describe(answer)}")
    given = set(answer)
    expect(
        "lm_head" not in given,
        "lm_head is the output layer: it shares its weight with wte, and its rounding would go "
        "straight into every logit; it stays",
    )
    expect(
        not given & {"wte", "wpe"}, "wte and wpe are tables of rows, no linear layers; they stay"
    )
    norms = given & {"h.0.ln_1", "h.0.ln_2", "ln_f"}
    expect(not norms, f"{', '.join(sorted(norms))}: a norm has two vectors, nothing worth packing")
    lost = sorted(REPLACED - given)
    expect(not lost, f"{', '.join(lost)} is missing: GPT-2's Conv1D is a linear layer")
    expect(given == REPLACED, f"not in the list: {', '.join(map(str, given - REPLACED))}")
    return "the four matrices of each block"


def repack(answer: Any) -> str:
    """Two matrices in blocks of 8 and 16; the nearest level is found by trying each."""
    a, b, w = numbers(1, 2, 8), numbers(2, 6, 2), numbers(9, 6, 8)
    for quant_type, blocksize, s in (("nf4", 8, 2.0), ("int4", 16, 0.5)):
        _repacked(answer, quantize(w, quant_type, blocksize), a, b, s)
    return "rounding over change, in NF4 and INT4, in the blocks that were"


def _rounded(m: Tensor, quant_type: str, blocksize: int) -> Tensor:
    """The nearest of all levels, block by block, found by trying each."""
    x = m.reshape(-1, blocksize)
    scale = x.abs().amax(1, keepdim=True)
    level = levels(quant_type)
    codes = (x[..., None] / scale[..., None] - level).abs().argmin(-1)
    back: Tensor = (level[codes] * scale).view_as(m)
    return back


def _repacked(answer: Any, q: Any, a: Tensor, b: Tensor, s: float) -> None:
    w, change = dequantize(q), s * b @ a
    merged = w + change
    rounding = _rounded(merged, q.quant_type, q.blocksize) - merged
    want = float(rounding.norm() / change.norm())
    off = float((merged + rounding - w).norm() / change.norm())
    known = [
        (float(rounding.norm() / merged.norm()), "that is over ‖M‖; asked for is ‖s · B A‖"),
        (float(rounding.norm()), "that is the length of the rounding alone; divide by ‖s · B A‖"),
        (want * s, "the change lacks the scale: its length is ‖s · B A‖"),
        (off, "that compares with dq(Q); what is lost is counted from M = dq(Q) + s · B A"),
        (want**2, "that is a ratio of squares; a length is the root"),
        (float(rounding.norm() / w.norm()), "that is over ‖dq(Q)‖; asked for is ‖s · B A‖"),
    ]
    unscaled = w + b @ a
    lack = _rounded(unscaled, q.quant_type, q.blocksize) - unscaled
    known.append((float(lack.norm() / (b @ a).norm()), "B A is merged without its scale s"))
    for other, message in (
        (_rounded(merged, "nf4", q.blocksize), "that is NF4; q.quant_type says which levels"),
        (dequantize(quantize(merged)), "that is NF4 in blocks of 64; q says how it was packed"),
    ):
        length = float((other - merged).norm() / change.norm())
        if abs(length / want - 1) > 1e-3:  # where q is NF4 the first of the two is right
            known.append((length, message))
    got = answer(q, a, b, s)
    if isinstance(got, Tensor) and got.numel() > 1:
        raise Wrong(f"return one number, not {describe(got)}")
    expect_number(got, want, "the share that is lost", known, rel=1e-4)
