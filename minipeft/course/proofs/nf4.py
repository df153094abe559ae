"""The proofs of lesson 11: the levels, the bits, what is read, and which type to ask for."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from statistics import NormalDist

import torch
from torch import Tensor

from ...layers.quant import dequantize, levels, quantize
from ..claims import hold, proves

P_MAX = 929 / 960  # the mean of 31/32 and 29/30


def derived() -> list[float]:
    """The levels of NF4 in double precision, without torch."""
    quantile = NormalDist().inv_cdf
    up = [quantile(0.5 + (P_MAX - 0.5) * i / 8) for i in range(1, 9)]
    down = [-quantile(0.5 + (P_MAX - 0.5) * i / 7) for i in range(7, 0, -1)]
    return [v / up[-1] for v in [*down, 0.0, *up]]


def normal_data() -> Tensor:
    """Weights of a matrix, N(0, 1)."""
    return torch.randn(512, 512, generator=torch.Generator().manual_seed(0))


def error(w: Tensor, quant_type: str) -> float:
    """The relative rms error in blocks of 64."""
    return float((w - dequantize(quantize(w, quant_type))).norm() / w.norm())


@proves("nf4-type")
def quantiles() -> str:
    """A second derivation, and bitsandbytes' table where it is installed."""
    table = levels("nf4")
    gap = float((table - torch.tensor(derived())).abs().max())
    # The package spaces the probabilities in float32, as bitsandbytes does.
    hold(gap < 2e-6, f"a level differs by {gap}")
    hold(int((table == 0).sum()) == 1, "zero is not exact")
    said = "bitsandbytes is not installed"
    if importlib.util.find_spec("bitsandbytes") is not None:
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
        theirs = importlib.import_module("bitsandbytes.functional").get_4bit_type("nf4", "cpu")
        hold(torch.equal(table, theirs), "bitsandbytes has another table")
        said = "bitsandbytes' table to the bit"
    return f"{int((table < 0).sum())} + 1 + {int((table > 0).sum())} levels; {said}"


@proves("nf4-loads")
def any_dtype() -> str:
    """The codes of 16-bit weights are those of their 32-bit copies."""
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        w = normal_data().to(dtype)
        q = quantize(w)
        hold(torch.equal(q.codes, quantize(w.float()).codes), f"{dtype}: other codes")
        hold(dequantize(q).dtype == dtype, f"{dtype} comes back as {dequantize(q).dtype}")
    return "float32, bfloat16 and float16 are quantized as they are stored"


@proves("nf4-four-bits")
def four_bits() -> str:
    """From the bytes held."""
    q = quantize(normal_data())
    hold(q.codes.numel() == 512 * 512 // 2, "the codes are not four bits")
    hold(q.bits_per_weight == 4.5, f"{q.bits_per_weight}")
    return f"{q.bits_per_weight} bits per weight in blocks of 64"


@proves("nf4-double")
def double() -> str:
    """What it saves, and what it adds to the error."""
    w = normal_data()
    plain, nested = quantize(w), quantize(w, double_quant=True)
    # Each nested matrix holds one float more, the mean of its scales.
    bits = (nested.nbytes - 4) * 8 / w.numel()
    hold(bits == 4 + 8 / 64 + 32 / (256 * 64), f"{bits} bits")
    before, after = (float((w - dequantize(q)).norm() / w.norm()) for q in (plain, nested))
    hold(after < 1.001 * before, f"the error grows from {before} to {after}")
    return f"4.5 -> {bits:.3f} bits per weight; error {before:.4f} -> {after:.4f}"


@proves("nf4-ask")
def ask() -> str:
    """The errors of three types, and the default of transformers."""
    errors = {kind: error(normal_data(), kind) for kind in ("nf4", "int4", "fp4")}
    hold(errors["nf4"] < errors["int4"] < errors["fp4"], f"{errors}")
    transformers = importlib.import_module("transformers")
    default = transformers.BitsAndBytesConfig().bnb_4bit_quant_type
    hold(default == "fp4", f"the default is {default}")
    said = ", ".join(f"{kind.upper()} {value:.3f}" for kind, value in errors.items())
    return f"error on normal data: {said}; transformers' default is {default}"
