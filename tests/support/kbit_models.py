"""Tiny models in four and eight bits: our layers, bitsandbytes' by hand, and transformers' own."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import shake, tiny
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from transformers.pytorch_utils import Conv1D

import minipeft
from minipeft import quantize_model

KINDS = ["ours", "4bit", "8bit"]


@contextmanager
def quiet() -> Iterator[None]:
    """What peft and bitsandbytes say on the way is not ours to judge."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def packed_by_bnb(weight: Tensor, bias: Tensor | None, bits: int, **options: Any) -> nn.Module:
    """bitsandbytes' layer with this W (out, in) and b; W frozen, and quantized by it."""
    bnb = pytest.importorskip("bitsandbytes")
    out, width = weight.shape
    if bits == 4:
        options = {"quant_type": "nf4", "compress_statistics": True, **options}
        layer = bnb.nn.Linear4bit(width, out, bias is not None, torch.float32)
        packed = bnb.nn.Params4bit(weight.detach().clone(), requires_grad=False, **options)
    else:
        options = {"has_fp16_weights": False, "threshold": 6.0, **options}  # as transformers
        layer = bnb.nn.Linear8bitLt(width, out, bias is not None, **options)
        packed = bnb.nn.Int8Params(
            weight.detach().clone(), requires_grad=False, has_fp16_weights=False
        )
    layer.weight = packed.to("cpu")
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer.eval()


def unturned(model: Any) -> Any:
    """Keep bitsandbytes from repacking W in eval mode on some CPUs, which few tests are about.

    In 32 columns at least; the layers of tiny models are narrower, and it would fail.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def quantized(name: str, kind: str, dtype: torch.dtype = torch.float32) -> Any:
    """A tiny model whose layers, but for its head, are of one kind."""
    model, plain = tiny(name, dtype), tiny(name, dtype)
    # T5 casts to the dtype of wo's weight; transformers never packs it, for then that is uint8
    kept = ["wo"] if name == "t5" and kind != "ours" else []
    report = quantize_model(plain, skip_modules=kept)
    if kind == "ours":
        return plain
    for path in report.layers:
        old: Any = model.get_submodule(path)
        turned = isinstance(old, Conv1D)
        weight = old.weight.T.contiguous() if turned else old.weight
        new: Any = packed_by_bnb(weight, old.bias, int(kind[0]))
        new.source_cls = type(old)  # as transformers does
        parent, _, key = path.rpartition(".")
        setattr(model.get_submodule(parent), key, new)
    setattr(model, f"is_loaded_in_{kind}", True)  # by this peft knows
    return unturned(model)


def loaded(folder: Path, bits: int, name: str = "llama", **options: Any) -> Any:
    """A tiny model as transformers loads it, on the CPU, in four or eight bits."""
    pytest.importorskip("bitsandbytes")
    if not folder.is_dir():
        tiny(name).save_pretrained(folder)
    nf4 = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
    chosen = {"load_in_4bit": True, **nf4} if bits == 4 else {"load_in_8bit": True}
    with quiet():
        return unturned(
            AutoModelForCausalLM.from_pretrained(
                folder,
                quantization_config=BitsAndBytesConfig(**{**chosen, **options}),
                device_map="cpu",
                dtype=torch.float32,
            )
        )


def lora_on(model: Any, **options: Any) -> Any:
    """A LoRA (or what the options make of it) that changes the answer."""
    config = minipeft.LoraConfig(**{"r": 4, "target_modules": "all-linear", **options})
    adapted = minipeft.get_peft_model(model, config)
    shake(adapted)
    return adapted
