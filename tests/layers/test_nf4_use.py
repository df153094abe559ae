"""Quantized tensors in use: dtypes, bytes held, gradients, compiling, meta tensors, refusals."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
from typing import Any

import pytest
import torch
from conftest import bits

from minipeft.checks.errors import ConfigError, ConfigTypeError, MinipeftError
from minipeft.layers.quant import blocks
from minipeft.layers.quant.blocks import (
    Quantized,
    dequantize,
    dequantize_nf4,
    quantize,
    quantize_nf4,
)
from minipeft.layers.quant.codebook import QUANT_TYPES, bits_of

EIGHT = [torch.float8_e4m3fn, torch.float8_e5m2]

# --- dtypes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16, *EIGHT])
def test_any_floating_dtype_is_read_as_float32(dtype: torch.dtype):
    x = torch.randn(5, 70).to(dtype)
    q, as_float32 = quantize_nf4(x, 64, True), quantize_nf4(x.float(), 64, True)
    assert all(bits(a) == bits(as_float32.tensors()[n]) for n, a in q.tensors().items())
    assert (q.dtype, dequantize(q).dtype) == (dtype, dtype)


def test_float64_is_rounded_to_float32_first():
    """1 + 2⁻⁴⁰ is 1 in float32, and 2⁻⁴⁰ more would otherwise be the block's absmax."""
    q = quantize_nf4(torch.tensor([1 + 2**-40, -0.5], dtype=torch.float64))
    assert q.absmax.tolist() == [1.0]
    assert dequantize(q).tolist() == [1.0, float(blocks.levels("nf4")[2])]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16, *EIGHT])
@pytest.mark.parametrize("nested", [False, True])
def test_dequantize_rounds_once_to_the_dtype_asked_for(dtype: torch.dtype, nested: bool):
    q = quantize_nf4(torch.randn(5, 70), 64, nested)
    whole = dequantize(q)
    assert whole.dtype == dequantize(q, None).dtype == dequantize_nf4(q).dtype == torch.float32
    for made in (dequantize(q, dtype), dequantize_nf4(q, dtype), dequantize_nf4(q, dtype=dtype)):
        assert made.dtype == dtype
        assert bits(made) == bits(whole.to(dtype))
    half = dataclasses.replace(q, dtype=torch.bfloat16)
    assert bits(dequantize(half, torch.float32)) == bits(whole)


# --- bytes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("nested", "expected"), [(False, 4.5), (True, 4.127)])
def test_bits_per_weight_from_the_bytes_held(nested: bool, expected: float):
    """4 + 32/64 bits; 4 + 8/64 + 32/(64 · 256) and one offset of 32 bits."""
    n = 4096 * 4096
    q = quantize_nf4(torch.randn(4096, 4096, dtype=torch.bfloat16), 64, nested)
    assert round(q.bits_per_weight, 3) == expected
    held = {f.name: getattr(q, f.name) for f in dataclasses.fields(q)}
    held = {name: t for name, t in held.items() if isinstance(t, torch.Tensor)}
    # what the storages occupy, so that a view of something larger counts in full
    assert q.nbytes == sum(t.untyped_storage().nbytes() for t in held.values())
    by_hand = n // 2 + (n // 64 + 4 * n // 64 // 256 + 4 if nested else 4 * n // 64)
    assert q.nbytes == by_hand
    assert q.bits_per_weight == 8 * by_hand / n
    names = {"codes", "absmax"} | ({"offset", "absmax_scale"} if nested else set())
    assert set(q.tensors()) == set(held) == names


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("quant_type", QUANT_TYPES)
def test_nothing_holds_more_memory_than_it_shows(quant_type: str, nested: bool):
    """A rest is filled up for the computation only: no tensor is a view of the longer one."""
    q = quantize(torch.randn(3, 67), quant_type, 64, nested)
    assert q.nbytes == sum(t.untyped_storage().nbytes() for t in q.tensors().values())
    assert q.codes.numel() == -(-3 * 67 * bits_of(quant_type) // 8)


def test_bits_of_small_tensors():
    assert quantize_nf4(torch.ones(())).bits_per_weight == 8 + 32  # one byte and one scale
    assert quantize_nf4(torch.ones(0)).bits_per_weight == 0


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 5, 2)])
def test_empty_tensors(shape: tuple[int, ...], nested: bool):
    q = quantize_nf4(torch.ones(shape, dtype=torch.float16), 64, nested)
    assert (q.codes.shape, q.absmax.shape) == ((0,), (0,))
    assert (q.codes.dtype, q.absmax.dtype) == (
        torch.uint8,
        torch.uint8 if nested else torch.float32,
    )
    assert not nested or q.offset == 0
    assert (dequantize(q).shape, dequantize(q).dtype) == (shape, torch.float16)


# --- grad, compile, meta -------------------------------------------------------------------------


@pytest.mark.parametrize("nested", [False, True])
def test_a_parameter_gives_no_graph_and_is_not_changed(nested: bool):
    weight = torch.nn.Parameter(torch.randn(9, 70))
    before, version = weight.detach().clone(), weight._version
    q = quantize_nf4(weight, 64, nested)
    tensors = [*q.tensors().values(), dequantize(q)]
    assert not any(t.requires_grad or t.grad_fn for t in tensors)
    assert torch.equal(weight, before)
    assert (weight._version, weight.requires_grad, weight.grad) == (version, True, None)
    kept = {name: t.clone() for name, t in q.tensors().items()}
    dequantize(q).add_(1)  # a result of its own
    assert all(torch.equal(t, kept[name]) for name, t in q.tensors().items())


def test_a_whole_block_is_not_the_input_itself():
    """No padding, no conversion: still nothing of the input is kept or written."""
    x = torch.randn(4, 64)
    q = quantize(x, "nf8")
    mine, version = x.untyped_storage().data_ptr(), x._version
    assert all(t.untyped_storage().data_ptr() != mine for t in q.tensors().values())
    x.zero_()
    assert dequantize(q).abs().max() > 0
    assert version == 0


@pytest.mark.slow
@pytest.mark.skipif(
    not any(shutil.which(c) for c in (os.environ.get("CXX", "g++"), "g++", "clang++")),
    reason="torch.compile needs a C++ compiler",
)
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_compiled_is_the_same_to_the_bit(nested: bool):
    compiled = torch.compile(dequantize_nf4, fullgraph=True)
    for shape in ((6, 128), (5, 77)):
        q = quantize_nf4(torch.randn(shape), 64, nested)
        assert bits(compiled(q)) == bits(dequantize_nf4(q))
    q = quantize_nf4(torch.randn(5, 77).bfloat16(), 64, nested)
    assert bits(compiled(q)) == bits(dequantize_nf4(q))


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("quant_type", QUANT_TYPES)
@pytest.mark.parametrize("shape", [(5, 70), (64,), (2, 3, 64), (0,), ()])
def test_meta_tensors_have_the_same_shapes(shape: tuple[int, ...], quant_type: str, nested: bool):
    q = quantize(torch.randn(shape, dtype=torch.bfloat16), quant_type, 64, nested)
    meta = quantize(torch.empty(shape, dtype=torch.bfloat16, device="meta"), quant_type, 64, nested)
    for field in dataclasses.fields(Quantized):
        mine, real = getattr(meta, field.name), getattr(q, field.name)
        if isinstance(real, torch.Tensor):
            assert mine.is_meta, field.name
            assert (mine.shape, mine.dtype) == (real.shape, real.dtype), field.name
        else:
            assert mine == real
    value = dequantize(meta)
    assert (value.shape, value.dtype, value.is_meta) == (shape, torch.bfloat16, True)


# --- refused -------------------------------------------------------------------------------------

END = "; such a number cannot be quantized and would spoil its block: repair the weights first"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("bad", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("where", [(0, 0, 0), (1, 2, 5), (1, 2, 69)])  # the last: in a short block
def test_a_number_that_is_not_finite(where: tuple[int, ...], bad: str, dtype: torch.dtype):
    x = torch.randn(2, 3, 70).to(dtype)
    x[where] = float(bad)
    with pytest.raises(ConfigError) as caught:
        quantize(x, name="layers.3.weight", double_quant=True)
    assert str(caught.value) == f"layers.3.weight holds {bad} at position {where}{END}"


def test_several_are_counted_and_the_first_in_order_is_named():
    x = torch.zeros(3, 200).T  # the order is that of the rows of the transpose
    x[150, 0], x[7, 2], x[7, 1] = float("nan"), float("-inf"), float("inf")
    message = f"the tensor holds inf at position (7, 1) and 2 more numbers that are not finite{END}"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        quantize_nf4(x)
    with pytest.raises(ConfigError, match=re.escape("the tensor holds nan at position ();")):
        quantize_nf4(torch.tensor(float("nan")))
    with pytest.raises(ConfigError, match=re.escape("holds nan at position (1,);")):
        quantize(torch.tensor([0.0, float("nan")]).to(torch.float8_e4m3fn))


def test_too_large_for_float32():
    with pytest.raises(ConfigError, match=re.escape("holds 1e+300 at position (1,);")):
        quantize_nf4(torch.tensor([0, 1e300], dtype=torch.float64))


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (torch.arange(3), "torch.int64"),
        (torch.ones(3, dtype=torch.uint8), "torch.uint8"),
        (torch.ones(3, dtype=torch.bool), "torch.bool"),
        (torch.ones(3, dtype=torch.complex64), "torch.complex64"),
        ([1.0, 2.0], "list"),
        (None, "NoneType"),
        (1.5, "float"),
    ],
)
def test_what_is_no_floating_tensor(given: Any, kind: str):
    for ask, name in ((quantize_nf4, "the tensor"), (lambda x: quantize(x, name="w"), "w")):
        message = f"{name} must be a floating-point tensor, got {kind}"
        with pytest.raises(ConfigTypeError, match=f"^{message}$") as caught:
            ask(given)
        assert isinstance(caught.value, (MinipeftError, TypeError))


@pytest.mark.parametrize(
    "given", ["0 (int)", "-64 (int)", "3 (int)", "True (bool)", "64.0 (float)", "'64' (str)"]
)
def test_a_block_size_that_is_none(given: str):
    blocksize = eval(given.split()[0])
    message = f"blocksize must be a positive multiple of 2, such as 64, got {given}"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        quantize_nf4(torch.ones(8), blocksize)


def test_the_block_size_depends_on_the_bits():
    for quant_type, good, bad in (("nf2", 4, 6), ("nf4", 2, 5), ("nf8", 1, 0)):
        x = torch.randn(11)
        assert quantize(x, quant_type, good).absmax.shape == (-(-11 // good),)
        multiple = f"multiple of {8 // bits_of(quant_type)}, such as 64, got {bad} "
        with pytest.raises(ConfigError, match=re.escape(multiple)):
            quantize(x, quant_type, bad)
    with pytest.raises(ConfigError, match=re.escape("of 1, such as 64, got True (bool)")):
        quantize(x, "nf8", True)  # where 1 is allowed
