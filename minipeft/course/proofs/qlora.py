"""The proofs of lesson 12: what is frozen, what passes through, what is counted."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor, nn

from ... import (
    LoraConfig,
    QuantizedLinear,
    get_peft_model,
    prepare_model_for_kbit_training,
    quantize_model,
)
from ...lab.counting import parameters
from ...lab.zoo import load_base
from ...layers.quant.packed import hidden_parameters
from ..claims import hold, proves


def small(seed: int = 0) -> Any:
    """Two linear layers of 64 with a ReLU between."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))


def adapted(**options: Any) -> tuple[Any, Any]:
    """The two layers in four bits, with a LoRA that does something; and the base."""
    base = small()
    quantize_model(base)
    config = LoraConfig(r=4, target_modules=["0", "2"], init_lora_weights=False, **options)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return get_peft_model(base, config), base


def rows(n: int = 8) -> Tensor:
    """A batch, (n, 64)."""
    return torch.randn(n, 64, generator=torch.Generator().manual_seed(2))


def packed_tensors(model: nn.Module) -> list[Tensor]:
    """What the quantized layers hold."""
    layers = [m for m in model.modules() if isinstance(m, QuantizedLinear)]
    return [t.clone() for layer in layers for t in layer.quantized().tensors().values()]


@proves("qlora-frozen")
def frozen() -> str:
    """Three steps of Adam; every code and scale is as before."""
    model, _ = adapted()
    before = packed_tensors(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    start = [p.detach().clone() for p in trained]
    optimizer = torch.optim.Adam(trained, lr=0.1)
    for _ in range(3):
        model(rows()).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    same = all(map(torch.equal, before, packed_tensors(model)))
    hold(same, "a code or a scale has changed")
    moved = [not torch.equal(p, q) for p, q in zip(trained, start, strict=True)]
    hold(all(moved), "a factor has not moved")
    return f"{len(before)} packed tensors unchanged, {len(moved)} factors moved"


@proves("qlora-qv")
def targets() -> str:
    """How many linear layers of a Llama block the default takes."""
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("meta"):
        sizes: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1}
        config = LlamaConfig(**sizes, num_attention_heads=4, vocab_size=50)
        models = [LlamaForCausalLM(config) for _ in range(2)]
    default = get_peft_model(models[0], LoraConfig(r=4))
    every = get_peft_model(models[1], LoraConfig(r=4, target_modules="all-linear"))
    a, b = (len(m.base_model.slots()) for m in (default, every))
    hold((a, b) == (2, 7), f"{a} and {b} layers of a block")
    return f"default {a} layers of a block, all-linear {b}"


@proves("qlora-bottleneck")
def cost() -> str:
    """One token against 512, as times of the same layer in float32: the ratio falls."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        dense = nn.Linear(512, 512, bias=False).requires_grad_(False)
    packed = QuantizedLinear.of(dense.weight, double_quant=True)
    ratios = []
    for n in (1, 512):
        x = torch.randn(n, 512, generator=torch.Generator().manual_seed(3))
        # the fastest of each: other programs can only make a run slower
        pairs = [(_seconds(packed, x), _seconds(dense, x)) for _ in range(15)]
        ours, plain = (min(side) for side in zip(*pairs, strict=True))
        ratios.append(ours / plain)
    hold(ratios[0] > 2, f"one token: {ratios[0]:.2f} times float32")
    hold(ratios[1] < ratios[0] / 2, f"512 tokens: {ratios[1]:.2f} times float32")
    return f"times float32, forward: {ratios[0]:.1f} for 1 token, {ratios[1]:.2f} for 512"


def _seconds(layer: Any, x: Tensor) -> float:
    started = time.perf_counter()
    with torch.no_grad():
        layer(x)
    return time.perf_counter() - started


@proves("qlora-gradients")
def passes_through() -> str:
    """With the last layer's LoRA at zero, the first one's gradient comes through dq(Q) alone."""
    model, _ = adapted()
    last = model.base_model.slots()["2"].adapters["default"]
    nn.init.zeros_(last.lora_B)
    model(rows()).sum().backward()
    first = model.base_model.slots()["0"].adapters["default"]
    through = float(first.lora_A.grad.norm())
    hold(through > 0, "nothing reached the first layer")
    layer = model.base_model.slots()["2"].base_layer
    hold(not next(iter(layer.parameters())).requires_grad, "the base trains")
    return f"|dL/dA| of the first layer is {through:.2f}, through the second's dq(Q)"


@proves("qlora-compute")
def twice() -> str:
    """How often W is dequantized in a step, and in which dtype."""
    layer = QuantizedLinear.of(small()[0].weight, compute_dtype=torch.bfloat16)
    seen: list[torch.dtype | None] = []
    original = layer.dequantized

    def watched(dtype: torch.dtype | None = None) -> Tensor:
        seen.append(dtype)
        return original(dtype)

    setattr(layer, "dequantized", watched)  # noqa: B010  mypy forbids the plain form
    layer(rows().requires_grad_()).sum().backward()
    hold(len(seen) == 2, f"dequantized {len(seen)} times")
    hold(set(seen) == {torch.bfloat16}, f"in {seen}")
    return "once forward, once backward, in the compute dtype"


@proves("qlora-counter")
def counter() -> str:
    """The note's sum over parameters, before and after."""
    base, _ = load_base("tiny-gpt2")
    before = parameters(base)
    quantize_model(base)
    after = parameters(base)
    hold((before, after) == (1_024_384, 41_344), f"{before:,} and {after:,}")
    hold(after + hidden_parameters(base) == before, "minipeft's own count moved")
    return f"{before:,} before, {after:,} after; minipeft's count {before:,} both times"


@proves("qdora-translated")
def dora() -> str:
    """DoRA beside four bits and beside plain weights: both give every factor a gradient."""
    for quantized in (True, False):
        base = small()
        if quantized:
            quantize_model(base)
        model = get_peft_model(base, LoraConfig(r=4, target_modules=["0", "2"], use_dora=True))
        model(rows()).square().sum().backward()
        grads = [p.grad for n, p in model.named_parameters() if "magnitude" in n]
        hold(len(grads) == 2, "no magnitudes")
        hold(all(g is not None and bool(g.abs().sum() > 0) for g in grads), "no gradient")
    return "magnitudes learn beside NF4 and beside float32"


@proves("qlora-name")
def name() -> str:
    """What is packed, and what is trained, beside a base in 16 bits."""
    base = small().to(torch.bfloat16)
    quantize_model(base)
    model = get_peft_model(base, LoraConfig(r=4, target_modules=["0", "2"]))
    dtypes = {str(p.dtype) for p in model.parameters() if p.requires_grad}
    codes = {str(m.codes.dtype) for m in model.modules() if isinstance(m, QuantizedLinear)}
    hold(dtypes == {"torch.float32"} and codes == {"torch.uint8"}, f"{dtypes}, {codes}")
    return "codes in torch.uint8, A and B in torch.float32"


@proves("qlora-prepare")
def prepared() -> str:
    """What it freezes and widens; and what Llama-2-7B's rest grows by."""
    base = nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), nn.Linear(64, 64)).bfloat16()
    quantize_model(base, skip_modules=["2"])
    prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)
    hold(not any(p.requires_grad for p in base.parameters()), "something trains")
    dtypes = {str(p.dtype) for p in base.parameters()}
    hold(dtypes == {"torch.float32"}, f"{dtypes}")
    rest = 2 * 32000 * 4096 + (2 * 32 + 1) * 4096  # embeddings and head, norms
    hold(rest == 262_410_240 and f"{2 * rest / 1e9:.2f}" == "0.52", f"{rest:,}")
    return f"{rest:,} numbers of 7B in 4 bytes, not 2: {2 * rest / 1e9:.2f} GB more"


@proves("qlora-optimizer")
def moments() -> str:
    """Two moments: 4 bytes each, or 1 with a 32-bit scale for 256 of them."""
    lora = 32 * 4 * 16 * (4096 + 4096)
    wide, narrow = 2 * 4 * lora, 2 * (1 + 4 / 256) * lora
    hold((round(wide / 1e6), round(narrow / 1e6)) == (134, 34), f"{wide}, {narrow}")
    return f"{wide / 1e6:.0f} MB of moments, {narrow / 1e6:.0f} MB in 8 bits"
