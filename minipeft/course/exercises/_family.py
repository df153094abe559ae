"""What the exercises of lesson 09 test on scales, names and counts: values worked by hand."""

from __future__ import annotations

import math
from typing import Any

from ..expect import describe, expect, expect_number


def scaling(answer: Any) -> str:
    """α/r and α/√r at r = 16 and others."""
    known = [
        (8, "without use_rslora the scale is α/r; this is α/√r"),
        (0.5, "that is r/α: upside down"),
        (512, "that is α · r"),
        (math.sqrt(2), "that is √(α/r)"),
        (32, "that is α alone: r is missing"),
    ]
    expect_number(answer(32, 16), 2, "the scale of α = 32, r = 16", known)
    known = [
        (2, "use_rslora is not used: with it the scale is α/√r"),
        (math.sqrt(2), "that is √(α/r); the root is of r alone"),
        (0.125, "that is α/r²; rank-stabilised divides by √r"),
        (128, "that is α · √r; it is divided"),
        (32, "that is α alone: r is missing"),
        (math.sqrt(32) / 16, "that is √α/r; the root is of r alone"),
    ]
    expect_number(answer(32, 16, True), 8, "the rank-stabilised scale of α = 32, r = 16", known)
    whole = [(0, "that is an integer division; α/r need not be whole")]
    expect_number(answer(8, 16, use_rslora=False), 0.5, "the scale of α = 8, r = 16", whole)
    whole = [(0, "that is an integer division"), (2, "that is an integer division")]
    stable = answer(5, 4, use_rslora=True)
    expect_number(stable, 2.5, "the rank-stabilised scale of α = 5, r = 4", whole)
    return "α/r and α/√r at r = 16 and at r = 4, and scales that are not whole"


NAME = "transformer.h.0.attn.c_attn"
MEANT = [
    ("c_attn", NAME, True, "it is the end of the name, from a dot on"),
    (NAME, NAME, True, "it is the whole name"),
    ("attn.c_attn", NAME, True, "it is the end of the name, from a dot on"),
    ("0", "0", True, "it is the whole name, without any dot"),
    (r"h\.0\..*", "transformer.h.0.mlp.c_proj", True, "a key is a regular expression"),
    ("c_fc|c_proj", "h.0.mlp.c_fc", True, "`|` means one of the two"),
    ("c_attn", "h.0.attn.not_c_attn", False, "the end must begin after a dot"),
    ("1.mlp.c_fc", "transformer.h.11.mlp.c_fc", False, "the end must begin after a dot"),
    ("attn", NAME, False, "the key is not the end of the name but stands inside it"),
    ("transformer", NAME, False, "the key is the beginning of the name, not its end"),
    ("c_proj|c_fc", "h.0.mlp.c_proj.inner", False, "`|` needs parentheses: it splits all the rest"),
]


def meant(answer: Any) -> str:
    """Each row of the table."""
    for key, name, want, why in MEANT:
        got = answer(key, name)
        asked = f"meant({key!r}, {name!r})"
        if want:
            expect(got is not None, f"{asked} is None: is there a `return`?")
        kind = isinstance(got, bool)
        expect(kind or got is None, f"{asked} is {describe(got)}; return True or False")
        verdict = "means" if want else "does not mean"
        expect(bool(got) is want, f"{key!r} {verdict} {name!r}: {why}")
        expect(kind, f"{asked} is None; return True or False")
    return f"{len(MEANT)} keys and names: whole names, ends, what only looks like an end, and `|`"


def order_of(answer: Any) -> str:
    """The note's example, one range, ranges out of order."""
    right = [0, 1, 2, 3, 2, 3, 4]
    got = answer([(0, 4), (2, 5)])
    expect(got is not None, "the order is None: is there a `return`?")
    expect(isinstance(got, list), f"return a list; this is {describe(got)}")
    known = [
        ([0, 1, 2, 3, 4, 2, 3, 4, 5], "the end of a range is not part of it: (0, 4) is 0 1 2 3"),
        ([0, 1, 2, 3, 4], "each layer comes once; a range that repeats a layer runs it again"),
        ([0, 1, 2, 2, 3, 3, 4], "the layers are sorted; they run range by range"),
        ([[0, 1, 2, 3], [2, 3, 4]], "that is a list of lists; the layers stand in one list"),
        ([0, 1, 2, 3], "that is the first range only"),
        ([2, 3, 4], "that is the last range only"),
        ([0, 4, 2, 5], "those are the ends of the ranges; the layers between them run"),
        ([1, 2, 3, 4, 3, 4, 5], "layers are counted from 0, and the end is not part of the range"),
    ]
    for value, message in known:
        expect(got != value, message)
    expect(got == right, f"[(0, 4), (2, 5)] gives {got}; it should be {right}")
    expect(answer([[3, 4]]) == [3], f"[[3, 4]] gives {answer([[3, 4]])}; it should be [3]")
    turned = answer([(3, 5), (0, 2), (1, 2)])
    expect(
        turned == [3, 4, 0, 1, 1], f"[(3, 5), (0, 2), (1, 2)] gives {turned}, not [3, 4, 0, 1, 1]"
    )
    return "0 1 2 3 2 3 4 as in the note, one layer alone, and ranges out of order"


def predict_dora(answer: Any) -> str:
    """32 · (3 · 16 · 15104 + 11008 + 11008 + 4096)."""
    lora, m = 3 * 16 * (4096 + 11008), 11008 + 11008 + 4096
    known = [
        (32 * lora, "that is LoRA: DoRA trains m as well, a number for each row of W"),
        (32 * (lora + 4096 + 4096 + 11008), "m has a number for each output, not for each input"),
        (32 * (lora + 3 * (4096 + 11008)), "m has out numbers, not in + out"),
        (32 * (lora + 3 * 4096), "m has out numbers: 11008, 11008 and 4096"),
        (32 * (lora + 3 * 11008), "m has out numbers: 11008, 11008 and 4096"),
        (32 * (lora + 3 * 16), "m has out numbers, not r"),
        (32 * (lora + 3), "m has a number for each row, not one for the matrix"),
        (32 * (lora + 16 * m), "m has no rank: out numbers, not r · out"),
        (32 * m, "that is m alone; A and B are trained too"),
        (lora + m, "that is one layer; there are 32"),
        (32 * (lora // 3 + 11008), "that is one matrix of each layer; there are three"),
        (32 * (lora // 16 + m), "r is missing"),
        (32 * 3 * 4096 * 11008, "that is the frozen matrices"),
    ]
    expect_number(answer, 24_035_328, "the prediction", known)
    return "32 · (3 · 16 · (4096 + 11008) + 11008 + 11008 + 4096) = 24,035,328"
