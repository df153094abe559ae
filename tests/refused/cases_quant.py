"""NF4 and k-bit training; peft has no quantizer of its own, so these are ours alone."""

from __future__ import annotations

from typing import Any

import torch
from conftest import tiny
from machine import Case, Lab, answer

import minipeft
from minipeft import quantize_model
from minipeft.layers.quant import quantize_nf4

NAN = float("nan")


def packing(tensor: Any, *args: Any, **more: Any) -> Any:
    """Quantize a tensor."""
    return lambda lab: quantize_nf4(tensor, *args, **more)


def model_with(**more: Any) -> Any:
    """Quantize a model's layers."""
    return lambda lab: quantize_model(lab.base(), **more)


def merged(lab: Lab) -> bool:
    """Merged into four bits, the answer is near what it was, or the loss is said."""
    base = tiny("gpt2")
    quantize_model(base)
    model = lab.lib.get_peft_model(base, lab.lora())
    with torch.no_grad():
        for n, p in model.named_parameters():
            if "lora_" in n or "adapters." in n:
                p.copy_(0.01 * torch.randn(p.shape))
    before = answer(model.eval())
    model.merge_adapter(requantize=True)
    return torch.allclose(answer(model), before, atol=1e-4)


def twice(lab: Lab) -> bool:
    base = lab.base()
    quantize_model(base)
    quantize_model(lab.watch(base))
    return False


def around(lab: Lab) -> bool:
    quantize_model(lab.adapted())
    return False


def full_training(lab: Lab) -> bool:
    """A module trained whole that is packed cannot be."""
    base = tiny("gpt2")
    quantize_model(base)
    lab.lib.get_peft_model(lab.watch(base), lab.lora(modules_to_save=["c_proj"]))
    return False


CASES = [
    Case("a tensor of integers", "quantization", packing(torch.ones(64, dtype=torch.int32)), ("int32",), theirs=False),
    Case("a list", "quantization", packing([1.0] * 64), ("list",), theirs=False),
    Case("NaN", "quantization", packing(torch.full((64,), NAN)), ("NaN",), theirs=False),
    Case("infinity", "quantization", packing(torch.full((64,), float("inf"))), ("inf",), theirs=False),
    Case("blocks of 0", "quantization", packing(torch.ones(64), 0), ("blocksize",), theirs=False),
    Case("blocks of -64", "quantization", packing(torch.ones(64), -64), ("blocksize",), theirs=False),
    Case("blocks of 7", "quantization", packing(torch.ones(64), 7), ("blocksize",), theirs=False),
    Case("blocks of '64'", "quantization", packing(torch.ones(64), "64"), ("blocksize",), theirs=False),
    Case("blocks of 64.0", "quantization", packing(torch.ones(64), 64.0), ("blocksize",), theirs=False),
    Case("double_quant = 'no'", "quantization", packing(torch.ones(64), double_quant="no"), ("double_quant",), theirs=False),
    Case("an unknown type", "quantization", model_with(quant_type="nf5"), ("nf5",), theirs=False),
    Case("skipping what is not there", "quantization", model_with(skip_modules=["nosuch"]), ("nosuch",), theirs=False),
    Case("a model that is quantized", "quantization", twice, ("quantized", "no linear", "linear"), theirs=False),
    Case("a model with adapters", "quantization", around, ("adapter",), theirs=False),
    Case("a name instead of a model", "quantization", lambda lab: quantize_model("gpt2"), ("str", "model"), theirs=False),
    Case("a packed module trained whole", "quantization", full_training, ("c_proj", "packed", "quantized"), theirs=False),
    Case("merging into four bits", "quantization", merged, ("rounding", "bits"), bool, theirs=False),
    Case("k-bit preparation of nothing", "quantization", lambda lab: minipeft.prepare_model_for_kbit_training(None), ("model", "None"), theirs=False),
]  # fmt: skip
