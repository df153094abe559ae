"""What the exercises of lesson 08 test on sizes: how large A starts, how much is trained."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..expect import Wrong, describe, expect, expect_close, expect_number


def _size(t: Tensor, bound: float, what: str, known: dict[str, float]) -> None:
    """Uniform in ±bound, told by the largest entry and the spread of at least a thousand."""
    largest, spread = float(t.abs().max()), float(t.std())
    expect(t.isfinite().all(), f"{what} holds NaN or infinity")
    expect(largest > 0, f"{what} is zero; it should be random in ±{bound:.4g}")
    if 0.985 * bound < largest <= bound * 1.0001:
        flat = abs(spread * math.sqrt(3) / bound - 1) < 0.08
        mean = abs(float(t.mean())) < 0.15 * bound
        expect(flat and mean, f"{what} stays in ±{bound:.4g} but is not uniform there")
        return
    for why, other in known.items():
        if 0.985 * other < largest <= other * 1.0001:
            times = f"{other / bound:.3g} times too {'large' if other > bound else 'small'}"
            raise Wrong(f"{what} reaches {largest:.4g}, {times}: {why}")
    raise Wrong(f"{what} reaches {largest:.4g}; asked for is uniform in ±{bound:.4g}")


def _bounds(r: int, inn: int) -> dict[str, float]:
    return {
        "that is 1/√r, the fan-in was read as r": 1 / math.sqrt(r),
        "that is √(6/in), Kaiming with a = 0 where a = √5 was asked": math.sqrt(6 / inn),
        "that is Xavier's √(6/(in + r))": math.sqrt(6 / (inn + r)),
        "that is 1/in where 1/√in was asked": 1 / inn,
    }


def init(answer: Any) -> str:
    """B zero and A random, whatever was there before."""
    inn, out, r = 256, 128, 16
    for choice in (True, "gaussian", False):
        layer = answer(inn, out, rank=r, init_lora_weights=choice)
        with torch.no_grad():
            layer.lora_A.fill_(7.0)
            layer.lora_B.fill_(7.0)
        layer.reset_parameters(choice)
        a, b = layer.lora_A.detach(), layer.lora_B.detach()
        said = f"with init_lora_weights={choice!r} "
        expect((a != 7).any(), f"{said}A keeps what was in it: it is never filled")
        expect((b != 7).any(), f"{said}B keeps what was in it: it is never filled")
        expect(a.shape == (r, inn), f"{said}A has shape {tuple(a.shape)}; it is (r, in)")
        if choice is not False:
            expect((a != 0).any() or (b != 0).any(), f"{said}A and B are both zero: neither learns")
            expect((a != 0).any(), f"{said}A is zero and B random; asked for is the reverse")
            expect((b == 0).all(), f"{said}B is not zero: ΔW changes the model before training")
        if choice == "gaussian":
            spread = float(a.std()) * r
            uniform = 0.985 < float(a.abs().max()) * inn**0.5 <= 1.0001
            expect(
                not uniform,
                f"{said}A is uniform as for True: that branch is not reached (a non-empty string "
                f'counts as true, so ask for "gaussian" first)',
            )
            expect(abs(spread / r**0.5 - 1) > 0.05, f"{said}A's deviation is 1/√r, not 1/r")
            expect(abs(spread - 1) < 0.05, f"{said}A's deviation is {spread:.3g}/r, not 1/r")
            expect(a.abs().max() > 2.5 / r, f"{said}A is not normal: no entry beyond 2.5/r")
        else:
            _size(a, 1 / math.sqrt(inn), f"{said}A", _bounds(r, inn))
        if choice is False:
            _size(b, 1 / math.sqrt(r), f"{said}B", {"that is 1/√out": 1 / math.sqrt(out)})
    return "B zero, A uniform in ±1/√in; normal with 1/r for gaussian; both random for False"


def count(answer: Any) -> str:
    """The count r · (in + out) on GPT-2's c_attn and Llama's q_proj."""
    inn, out, r = 768, 2304, 8
    known = [
        (inn * out, "that is the frozen matrix itself, in · out"),
        (r * inn * out, "r · in · out: the two matrices add, their sizes do not multiply"),
        (r * inn, "that is A alone; B (out, r) is trained too"),
        (r * out, "that is B alone; A (r, in) is trained too"),
        (2 * r * inn, "2 · r · in holds only where out equals in"),
        (2 * r * out, "2 · r · out holds only where out equals in"),
        (inn + out, "r is missing"),
        (r * inn + out, "B has r columns: out · r, not out"),
        (r * (inn + out) + r * r, "there is no r × r matrix between A and B"),
        (r * (inn + out) + out, "LoRA has no bias of its own"),
    ]
    expect_number(answer(inn, out, r), 24_576, "the count for 768 -> 2304, r = 8", known)
    expect_number(answer(4096, 4096, 16), 131_072, "the count for 4096 -> 4096, r = 16")
    value = answer(768, 2304, 8)
    expect(isinstance(value, int), f"a count is an int; this is {describe(value)}")
    return "GPT-2's c_attn with r = 8: 24,576; Llama's q_proj with r = 16: 131,072"


def fan_in(answer: Any) -> str:
    """The notes' layer with A in ±1/√in, in either layout."""
    inn, out, r = 256, 64, 16
    layer = answer(inn, out, rank=r, lora_alpha=32)
    a, b = layer.lora_A.detach(), layer.lora_B.detach()
    turned = a.shape == (r, inn)
    expect(turned or a.shape == (inn, r), f"A has shape {tuple(a.shape)}; it is (in, r) or (r, in)")
    expect((b == 0).all(), "B is not zero: ΔW changes the model before training")
    _size(a, 1 / math.sqrt(inn), "A", _bounds(r, inn))
    with torch.no_grad():
        layer.lora_B.normal_()
    b = layer.lora_B.detach()
    x, base = torch.randn(2, inn), torch.randn(2, out)
    right = (a.T if turned else a) @ (b.T if b.shape == (out, r) else b)
    expect_close(layer(x, base), base + 2 * x @ right, "the output", atol=1e-4)
    expect(all(p.requires_grad for p in layer.parameters()), "A and B must stay trainable")
    return "A uniform in ±1/√in, B zero, and the layer still computes base + s·BAx"


def predict_7b(answer: Any) -> str:
    """32 · 4 · 16 · 8192."""
    known = [
        (33_554_432, "33,554,432 is the note's number; it is twice too large, as if r were 32"),
        (8_388_608, "half of it: that is q and v only, or one of the matrices A and B only"),
        (4_194_304, "a quarter of it: that is one matrix in each layer; four get a LoRA"),
        (524_288, "that is one layer; there are 32"),
        (131_072, "that is one matrix; there are 4 in each of 32 layers"),
        (2_147_483_648, "that is the frozen matrices, in · out; LoRA trains r · (in + out)"),
        (1_048_576, "r is missing: that is 32 · 4 · (4096 + 4096)"),
        (16_800_000, "that is rounded; a count is exact, to the last digit"),
    ]
    expect_number(answer, 16_777_216, "the prediction", known)
    return "32 · 4 · 16 · (4096 + 4096) = 16,777,216; the note's 33,554,432 belongs to r = 32"
