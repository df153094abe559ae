"""What the exercises of lesson 01 test, with numbers worked by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..expect import describe, expect, expect_number

PARTS = ["frozen weights", "weights", "gradients", "master copy", "Adam moments"]


def _dictionary(got: Any, keys: Sequence[str]) -> None:
    expect(got is not None, "the result is None: is there a `return`?")
    expect(isinstance(got, dict), f"asked for is a dictionary; this is {describe(got)}")
    missing = [key for key in keys if key not in got]
    expect(not missing, f"the dictionary has no {', '.join(map(repr, missing))}")
    more = [key for key in got if key not in keys]
    expect(not more, f"the dictionary has {', '.join(map(repr, more))}, which nobody asked for")


def training(answer: Any) -> str:
    """1,000 frozen and 10 trained, in three conventions."""
    got = answer(1000, 10)
    _dictionary(got, PARTS)
    frozen = [
        (16_000, "a frozen parameter has no gradient, no master copy and no moments: 2 bytes"),
        (2_020, "frozen weights holds the trained ones too; they are counted under weights"),
        (20, "frozen weights is counted from the trained parameters"),
        (1_000, "bytes_per_frozen is missing: a frozen weight takes 2 bytes"),
    ]
    expect_number(got["frozen weights"], 2000, "frozen weights", frozen)
    want = {"weights": 20, "gradients": 20, "master copy": 40, "Adam moments": 80}
    for part, value in want.items():
        known = [
            (value * 100, f"{part} is counted from the frozen parameters; only trained have it"),
            (value * 101, f"{part} counts the frozen parameters too; only trained have it"),
            (value / 10, f"{part} is per parameter; there are 10 trained ones"),
        ]
        expect_number(got[part], value, f"{part} of 10 trained parameters", known)
    expect(list(got) == PARTS, f"the order is {', '.join(PARTS)}")
    half = answer(0, 10, convention="half")
    mixed = [(80, 'the convention is ignored: "half" keeps 4 bytes of moments, "mixed" 8')]
    expect_number(half["Adam moments"], 40, 'Adam moments with convention="half"', mixed)
    packed = answer(8000, 0, bytes_per_frozen=0.5)
    two = [(16_000.0, "bytes_per_frozen is ignored: 0.5 was given, and 2 was used")]
    expect_number(packed["frozen weights"], 4000.0, "frozen weights at half a byte", two)
    return "1,000 frozen and 10 trained: 2,000 + 160 bytes; two more conventions"


def held(answer: Any) -> str:
    """A small model with a frozen bfloat16 layer and a trained float32 one."""
    frozen = nn.Linear(10, 20, bias=False).bfloat16().requires_grad_(False)  # 400 bytes
    trained = nn.Linear(20, 5)  # 105 numbers, 420 bytes
    model = nn.ModuleDict({"frozen": frozen, "trained": trained})
    optimizer = torch.optim.AdamW(trained.parameters())
    trained(frozen(torch.ones(2, 10).bfloat16()).float()).sum().backward()
    optimizer.step()
    got = answer(model, optimizer)
    _dictionary(got, ["parameters", "gradients", "moments"])
    known = [
        (305, "parameters are numbers, not bytes: numel alone"),
        (1220, "every parameter was taken for float32; the frozen layer is bfloat16, 2 bytes"),
        (420, "that is the trained parameters only; the frozen ones are in memory too"),
        (610, "every parameter was taken for 16-bit; the trained layer is float32, 4 bytes"),
    ]
    expect_number(got["parameters"], 820, "parameters", known)
    known = [
        (105, "gradients are numbers, not bytes: numel alone"),
        (820, "a frozen parameter has no gradient; p.grad is None"),
        (1220, "a frozen parameter has no gradient; p.grad is None"),
    ]
    expect_number(got["gradients"], 420, "gradients", known)
    known = [
        (210, "moments are numbers, not bytes: numel alone"),
        (420, "Adam keeps two moments, exp_avg and exp_avg_sq; that is one"),
        (848, "that counts Adam's `step` too, 4 bytes per tensor; asked for are the two moments"),
        (1640, "only trained parameters have moments; look into optimizer.state"),
    ]
    expect_number(got["moments"], 840, "moments", known)
    return "a frozen bfloat16 layer and a trained float32 one: 820, 420 and 840 bytes"


def fits(answer: Any) -> str:
    """Budgets around the bytes of 100 parameters."""
    known = [
        (50, "16 T alone was counted; the others stay in memory at 2 bytes each"),
        (37, "every trained parameter replaces a frozen one: it costs 14 bytes more, not 16"),
        (44, "every frozen parameter takes 2 bytes, not 1"),
        (42.857142857142854, "there is no 0.857 of a parameter: a whole number is asked for"),
        (43, "43 trained ones take 802 bytes, and 800 are there: round down"),
        (400, "the result is (budget / 2); trained parameters take 16 bytes"),
    ]
    # 2 · 100 = 200; (800 - 200) / 14 = 42.857
    expect_number(answer(800, 100), 42, "T for 800 bytes and 100 parameters", known)
    value = answer(800, 100)
    expect(isinstance(value, int), f"T is an int; this is {describe(value)}")
    value = answer(10_000, 100)
    too_many = "there are only 100 parameters to train, and this says more"
    expect_number(value, 100, "T for 10,000 bytes and 100 parameters", [(700, too_many)])
    none = "not even the frozen model fits into 100 bytes: T is 0"
    for v in (answer(100, 100),):
        expect(v == 0, none)
    packed = [(42, "bytes_per_frozen is ignored"), (53, "a trained one costs 16 − 0.5 more")]
    # 0.5 · 100 = 50; 750 / 15.5 = 48.4
    expect_number(answer(800, 100, 0.5), 48, "T with bytes_per_frozen=0.5", packed)
    return "100 parameters in 800, 10,000 and 100 bytes, and in 800 at half a byte"


def notes_table(answer: Any) -> str:
    """One convention for 7 billion parameters and a LoRA of a hundred million."""
    n, lora = 7e9, 1e8
    got = answer(n, lora)
    _dictionary(got, ["Full FT", "LoRA", "QLoRA"])
    full = [
        (28.0, "Full FT is still 4 bytes: weights and gradients, no optimizer"),
        (56.0, "8 bytes: that is Adam with 16-bit moments and no master copy"),
        (84.0, "12 bytes: the master copy of the weights is missing"),
        (112.0 + 1.6, "full fine-tuning has no LoRA beside it"),
    ]
    expect_number(got["Full FT"], 112.0, "Full FT", full)
    beside = [
        (14.0, "LoRA is still the frozen weights alone; what it trains takes 16 bytes each"),
        (14.2, "LoRA's own parameters are trained: 16 bytes each, not 2"),
        (113.6, "in LoRA the model is frozen: 2 bytes per parameter, not 16"),
        (14.0 + 1.4, "LoRA's parameters are added to the model, not taken out of it: 16, not 14"),
    ]
    expect_number(got["LoRA"], 15.6, "LoRA", beside)
    packed = 4.127 / 8 * 7
    four = [
        (3.5, "QLoRA is still the 4-bit weights alone; add the scales and what is trained"),
        (5.1, "the scales of the blocks are missing: 4.127 bits per weight, not 4"),
        (packed, "QLoRA trains the same LoRA: 16 bytes for each of its parameters"),
        (packed + 0.4127 / 8 * 1, "LoRA's own parameters are not quantized: 16 bytes each"),
        (4.127 * 7 + 1.6, "4.127 are bits; a byte has 8"),
    ]
    expect_number(got["QLoRA"], packed + 1.6, "QLoRA", four, rel=1e-4)
    return "7 billion parameters and a LoRA of 0.1 billion: 112, 15.6 and 5.2 GB"


def predict_65b(answer: Any) -> str:
    """130.57 + 1.34."""
    known = [
        (80, "80 is the note's number; the frozen 16-bit weights alone take 130.6 GB"),
        (130.571321344, "that is the frozen weights; the LoRA beside them is trained"),
        (130.6, "that is the frozen weights; the LoRA beside them is trained"),
        (1044.570570752, "that is full fine-tuning: 16 bytes for each of the 65 billion"),
        (1045.912748032, "the 65 billion are frozen: 2 bytes each, not 16"),
        (130.739093504, "LoRA's parameters are trained: 16 bytes each, not 2"),
        (131_913_498_624, "those are bytes; a GB is 10⁹ of them"),
        (122.9, "that is in units of 2³⁰ bytes; asked for is 10⁹"),
        (33.99, "that is QLoRA's 4 bits; here the weights stay in 16 bits"),
    ]
    rough = isinstance(answer, int | float) and abs(answer - 131.913498624) <= 0.1
    if not rough:
        for value, message in known:
            close = isinstance(answer, int | float) and abs(answer - value) < 5e-4 * value
            expect(not close, message)
        expect_number(answer, 131.913498624, "the prediction")
    return "2 · 65,285,660,672 + 16 · 83,886,080 bytes = 131.9 GB, not 80"


def predict_speed(answer: Any) -> str:
    """3 products, 2 of them left."""
    known = [
        (3, "3 would need the gradient of the input to vanish too; layers below need it"),
        (2, "2 would leave one and a half of three products; count them again"),
        (2 / 3, "that is what is left, 2 of 3; asked for is how many times less, before / after"),
        (1 / 3, "that is the share that is saved; asked for is the factor, before / after"),
        (4, "4 is in the note's table; there are three products, and two must stay"),
        (5, "5 is the note's number; there are three products, and two must stay"),
        (1, "the gradient of W is no longer needed: that is one product in three"),
    ]
    expect_number(answer, 1.5, "the factor", known)
    return "3 products before, 2 after: at most 1.5 times fewer multiply-adds"
