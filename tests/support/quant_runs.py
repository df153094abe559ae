"""What `bench_quant.py` measures; each function is run in a process of its own.

The imports stand inside, so that a process loads what it measures and no more.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any


def pairs(ours: Callable[[], Any], theirs: Callable[[], Any], count: int) -> list[float]:
    """Median seconds of both and of their ratios, alternating; a warm-up is not counted."""
    ours(), theirs()
    runs = []
    for _ in range(count):
        started = time.perf_counter()
        ours()
        middle = time.perf_counter()
        theirs()
        end = time.perf_counter()
        runs.append((middle - started, end - middle, (middle - started) / (end - middle)))
    return [statistics.median(run[i] for run in runs) for i in range(3)]


def blocks(threads: int) -> dict[str, list[float]]:
    """Quantizing and dequantizing a matrix of 4096 x 4096 float32."""
    import torch
    from bitsandbytes import functional as theirs

    from minipeft.layers.quant import dequantize_nf4, quantize_nf4

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    w = torch.randn(4096, 4096)
    q, (codes, state) = quantize_nf4(w), theirs.quantize_4bit(w, quant_type="nf4")
    assert torch.equal(dequantize_nf4(q), theirs.dequantize_4bit(codes, state))
    compiled = torch.compile(dequantize_nf4)
    rows = {
        "quantize": pairs(
            lambda: quantize_nf4(w), lambda: theirs.quantize_4bit(w, quant_type="nf4"), 9
        ),
        "quantize, double quantization": pairs(
            lambda: quantize_nf4(w, double_quant=True),
            lambda: theirs.quantize_4bit(w, quant_type="nf4", compress_statistics=True),
            9,
        ),
        "dequantize": pairs(
            lambda: dequantize_nf4(q), lambda: theirs.dequantize_4bit(codes, state), 25
        ),
        "dequantize, compiled": pairs(
            lambda: compiled(q), lambda: theirs.dequantize_4bit(codes, state), 25
        ),
    }
    ones = pairs(lambda: torch.ones(4096, 4096), lambda: theirs.dequantize_4bit(codes, state), 25)
    return {**rows, "writing 64 MB of ones": ones}


def llama() -> Any:
    """The model of the benchmarks: 6 layers, width 768, feed-forward 2,048, vocabulary 8,000."""
    import torch
    import transformers

    config = transformers.LlamaConfig(
        hidden_size=768, intermediate_size=2048, num_hidden_layers=6, num_attention_heads=12,
        vocab_size=8000, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(config)


def with_bnb(model: Any, double_quant: bool) -> Any:
    """The model over bitsandbytes' `Linear4bit`, as peft wants it."""
    import bitsandbytes as bnb
    from torch import nn

    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.Linear) and name != "lm_head":
            new = bnb.nn.Linear4bit(
                layer.in_features, layer.out_features, False, layer.weight.dtype, device="meta"
            )
            packed = bnb.nn.Params4bit(
                layer.weight.data,
                requires_grad=False,
                compress_statistics=double_quant,
                quant_type="nf4",
            )
            new.weight = packed.to("cpu")
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, new)
    model.is_loaded_in_4bit = True
    return model


def qlora_step(threads: int) -> dict[str, list[float]]:
    """Forward and backward of a QLoRA step against peft over bitsandbytes; batch 4 x 128."""
    import peft
    import torch

    import minipeft

    torch.set_num_threads(threads)
    batch = torch.randint(0, 8000, (4, 128), generator=torch.Generator().manual_seed(0))
    options: dict[str, Any] = {"r": 16, "target_modules": "all-linear"}

    def step(model: Any) -> Callable[[], None]:
        model.get_base_model().enable_input_require_grads()
        model.train()
        return lambda: model(input_ids=batch, labels=batch).loss.backward()

    def ours(compile: bool) -> Callable[[], None]:
        model = llama()
        minipeft.quantize_model(model, compile=compile)
        return step(minipeft.get_peft_model(model, minipeft.LoraConfig(**options)))

    other = step(peft.get_peft_model(with_bnb(llama(), True), peft.LoraConfig(**options)))
    frozen = llama().requires_grad_(False)
    frozen = step(minipeft.get_peft_model(frozen, minipeft.LoraConfig(**options)))
    return {
        "QLoRA": pairs(ours(False), other, 15),
        "QLoRA, compiled": pairs(ours(True), other, 15),
        "LoRA over float32": pairs(frozen, other, 15),
    }


def layer_speed(threads: int) -> dict[str, list[float]]:
    """A frozen layer of 2048 x 2048, forward and backward, NF4 against float32."""
    import bitsandbytes as bnb
    import torch
    from torch import nn

    from minipeft import QuantizedLinear

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    dense = nn.Linear(2048, 2048, bias=False).requires_grad_(False)
    plain = QuantizedLinear.of(dense.weight, double_quant=True)
    compiled = QuantizedLinear.of(dense.weight, double_quant=True, compile=True)
    other = bnb.nn.Linear4bit(2048, 2048, False, torch.float32, quant_type="nf4")
    packed = bnb.nn.Params4bit(dense.weight.data.clone(), requires_grad=False, quant_type="nf4")
    other.weight = packed.to("cpu")
    rows: dict[str, list[float]] = {}
    for tokens in (1, 16, 256, 2048):
        x, dy = torch.randn(tokens, 2048, requires_grad=True), torch.randn(tokens, 2048)

        def both(layer: Any, x: Any = x, dy: Any = dy) -> Callable[[], None]:
            return lambda: layer(x).backward(dy)

        sides = {"NF4": plain, "NF4, compiled": compiled, "bitsandbytes": other}
        count = 25 if tokens < 2048 else 9
        for name, layer in sides.items():
            rows[f"{tokens:,} tokens, {name}"] = pairs(both(layer), both(dense), count)
    return rows


def memory(threads: int) -> dict[str, list[float]]:
    """Bytes for each frozen weight, and what a step holds of it dequantized at a time."""
    import torch
    from live_bytes import LiveBytes

    import minipeft

    torch.set_num_threads(threads)
    batch = torch.randint(0, 8000, (4, 128), generator=torch.Generator().manual_seed(0))
    rows = {}
    for kind in ("LoRA over float32", "without double quantization", "with double quantization"):
        model = llama()
        linear = [m for m in model.model.modules() if type(m).__name__ == "Linear"]
        weights = sum(layer.weight.numel() for layer in linear)
        held = 4 * weights
        if kind != "LoRA over float32":
            double = kind.startswith("with double")
            held = minipeft.quantize_model(model, double_quant=double).bytes_after
        peft_model = minipeft.get_peft_model(
            model, minipeft.LoraConfig(r=16, target_modules="all-linear")
        )
        model.enable_input_require_grads()
        peft_model.train()
        for _ in range(2):  # the gradients of A and B are there from the first step on
            with LiveBytes() as live:
                peft_model(input_ids=batch, labels=batch).loss.backward()
        rows[kind] = [held / weights, held, live.peak]
    return rows


def one_layer(threads: int) -> dict[str, list[float]]:
    """What one layer, forward and backward of one token, has of W in float32 at a time."""
    import torch
    from live_bytes import LiveBytes

    from minipeft import QuantizedLinear

    torch.set_num_threads(threads)
    rows = {}
    for dtype in (torch.float32, torch.bfloat16):
        layer = QuantizedLinear.of(torch.randn(4096, 4096), double_quant=True)
        x = torch.randn(1, 4096, dtype=dtype, requires_grad=True)
        with LiveBytes() as live:
            layer(x).sum().backward()
        size = torch.tensor([], dtype=dtype).element_size()
        rows[str(dtype).removeprefix("torch.")] = [live.peak / (size * 4096 * 4096)]
    return rows
