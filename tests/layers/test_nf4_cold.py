"""A table is made at first use and kept: whatever is in force at that moment must not be kept too.

transformers makes models under another default dtype, and on the meta device.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from minipeft.layers.quant import codebook
from minipeft.layers.quant.blocks import dequantize, quantize
from minipeft.layers.quant.codebook import QUANT_TYPES, byte_table, levels

GOOD = {t: (levels(t).clone(), byte_table(t).clone()) for t in QUANT_TYPES}


@contextmanager
def default(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@pytest.fixture(autouse=True)
def _cold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codebook, "_TABLES", {})


def good(quant_type: str) -> None:
    """Both tables are what they are in a quiet moment."""
    for mine, expected in zip(
        (levels(quant_type), byte_table(quant_type)), GOOD[quant_type], strict=True
    ):
        assert (mine.dtype, mine.device.type) == (torch.float32, "cpu")
        assert torch.equal(mine, expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("quant_type", QUANT_TYPES)
def test_under_another_default_dtype(quant_type: str, dtype: torch.dtype):
    with default(dtype):
        good(quant_type)
    good(quant_type)


@pytest.mark.parametrize("quant_type", QUANT_TYPES)
def test_under_the_meta_device(quant_type: str):
    with torch.device("meta"):
        levels(quant_type), byte_table(quant_type)
    good(quant_type)


@pytest.mark.parametrize("quant_type", QUANT_TYPES)
def test_in_inference_mode(quant_type: str):
    with torch.inference_mode():
        levels(quant_type), byte_table(quant_type)
    good(quant_type)
    weight = torch.ones(len(levels(quant_type)), requires_grad=True)
    (levels(quant_type) * weight).sum().backward()
    assert torch.equal(weight.grad, levels(quant_type))


@pytest.mark.parametrize("double_quant", [False, True])
def test_quantized_under_another_default_dtype(double_quant: bool):
    x = torch.randn(300)
    expected = quantize(x, double_quant=double_quant)
    as_before = dequantize(expected)
    codebook._TABLES.clear()
    with default(torch.float64):
        found = quantize(x, double_quant=double_quant)
        value = dequantize(found)
    assert found.tensors().keys() == expected.tensors().keys()
    assert all(torch.equal(t, expected.tensors()[n]) for n, t in found.tensors().items())
    assert torch.equal(value, as_before)


def test_the_mark_for_compilers_is_torchs_own():
    def table() -> torch.Tensor:
        return torch.zeros(1)

    theirs = torch.compiler.assume_constant_result(lambda: torch.zeros(1))
    assert vars(codebook.constant(table)) == vars(theirs)
    assert vars(levels)["_dynamo_marked_constant"] is vars(byte_table)["_dynamo_marked_constant"]
