"""LoftQ: start a LoRA at what quantization lost, instead of at zero.

    minimise ‖W - Q - s · B A‖ over Q (in k bits), A and B:   Q <- quantize(W - s · B A)
                                                              s · B A <- SVD_r(W - Q)

QLoRA starts at dq(Q) ≠ W: the rounding is an error that training has to find out and undo. Here the
first r singular directions of the rounding are in A and B from the start.

Li et al., "LoftQ: LoRA-Fine-Tuning-Aware Quantization for Large Language Models" (arXiv
2310.08659), section 3 and algorithm 1. Lecture note: 000_456609471e9b7c6d.txt, lines 52-66 (where
the name and what is quantized are wrong). The paper has s = 1; the factors are divided by the scale
here, or for α ≠ r the product would not be the rounding (Hugging Face peft 0.21 leaves that out).
"""

from __future__ import annotations

import hashlib
import math
import numbers
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import doubts, unfit
from ..checks.errors import ConfigError, ConfigTypeError
from ..checks.rules import integer
from ..checks.say import listed
from ..layers import bases
from ..layers.quant import Quantized, QuantizedLinear, dequantize, quantize
from ..layers.quant.blocks import refuse_non_finite
from .method import Layout, Method, Option

QUANT_TYPE = {2: "nf2", 4: "nf4", 8: "nf8"}


@dataclass
class LoftQConfig:
    """How LoftQ quantizes: peft's names and defaults.

    Args:
        loftq_bits: 4, 8 or 2: NormalFloat codes in blocks of 64.
        loftq_iter: how often Q and B A are made anew for each other.
    """

    loftq_bits: int = 4
    loftq_iter: int = 1

    def __post_init__(self) -> None:
        self.loftq_iter = integer("loftq_iter", self.loftq_iter, low=1)
        bits = self.loftq_bits
        if not isinstance(bits, numbers.Integral) or int(bits) not in QUANT_TYPE:
            raise ConfigError(f"loftq_bits must be 4, 8 or 2, got {bits!r}")
        self.loftq_bits = int(bits)


def check_loftq(init: bool | str, options: Any) -> dict[str, Any]:
    """`LoraConfig`'s loftq_config as a dict (peft's form on disk), with what was left out.

    Raises:
        ConfigTypeError, ConfigError: no `LoftQConfig`, or one without init_lora_weights="loftq".
    """
    if isinstance(options, dict) and init == "loftq":
        known = [*LoftQConfig.__dataclass_fields__]
        if strange := [key for key in options if key not in known]:
            raise ConfigTypeError(f"loftq_config has {listed(map(str, strange))}; known: {known}")
        options = LoftQConfig(**options)
    if options and init != "loftq":
        raise unfit.unused_loftq(options, init)
    if options is not None and not isinstance(options, (LoftQConfig, dict)):
        raise ConfigTypeError(f"loftq_config must be a LoftQConfig, got {type(options).__name__}")
    if init != "loftq":
        return {}
    return asdict(options if isinstance(options, LoftQConfig) else LoftQConfig())


@torch.no_grad()
def loftq(
    weight: Tensor,
    r: int,
    scaling: float = 1.0,
    bits: int = 4,
    iterations: int = 1,
    *,
    name: str = "the weight",
) -> tuple[Quantized, Tensor, Tensor]:
    """Q, A and B with Q + s · B A near W.

    Args:
        weight: W, (out, in).
        r: the rank; scaling: s.
        bits: 4, 8 or 2; iterations: at least 1.
        name: what an error calls W.

    Returns:
        Q, A (r, in) and B (out, r), the latter in at least float32.
    """
    w = weight.to(torch.float64 if weight.dtype == torch.float64 else torch.float32)
    update = torch.zeros_like(w)  # s · B A
    for _ in range(iterations):
        q = quantize(w - update, QUANT_TYPE[bits], name=name)
        u, sigma, vt = torch.linalg.svd(w - dequantize(q), full_matrices=False)
        root = sigma[:r].sqrt() / math.sqrt(scaling)  # √(σ_i / s) to each factor
        lora_B, lora_A = u[:, :r] * root, root[:, None] * vt[:r]  # (out, r), (r, in)
        update = scaling * lora_B @ lora_A
    return q, lora_A.contiguous(), lora_B.contiguous()


@torch.no_grad()
def started(method: Any, base: bases.Base, config: LoftQConfig) -> bases.Base:
    """Fill a LoRA by LoftQ; the quantized layer that it stands on then."""
    weight, name = base.matrix(), f"{base.name}.weight"
    stored = base.layer.weight  # GPT-2's is turned over, and a NaN's position is told as it is
    refuse_non_finite(stored, stored.abs().amax(-1), name)
    r, bits, iterations = method.lora_A.shape[0], config.loftq_bits, config.loftq_iter
    q, a, b = loftq(weight, r, method.scaling, bits, iterations, name=name)
    method.lora_A.copy_(a)
    method.lora_B.copy_(b)
    old = base.layer
    layer = QuantizedLinear(q, old._parameters.get("bias"), source_cls=type(old))
    layer.weight_dtype = weight.dtype
    return bases.Packed(layer.train(old.training))


class LoftQ(Option):
    """`init_lora_weights="loftq"`."""

    when = {"init_lora_weights": "loftq"}
    unless = {"loftq_config": {}}
    # In the weights file's header: what the quantized weights were.
    KEY = "loftq_base"

    def at(self, config: Any, name: str) -> Any:
        """The module is built as usual, before A and B get other numbers."""
        return replace(config, init_lora_weights=True, loftq_config={})

    def check(self, config: Any) -> None:
        """`loftq_config` becomes a dict (peft's form on disk), with what was left out."""
        checked = check_loftq(config.init_lora_weights, config.loftq_config)
        if not config.in_use:
            config.loftq_config = checked

    def built(self, config: Any, method: Any, base: bases.Base) -> tuple[Method[Any], bases.Base]:
        """The LoRA, filled, and the layer that takes the frozen one's place.

        Raises:
            TargetError: the layer has no W of its own, or is smaller than r.
        """
        if base.packed:
            return method, base  # from a file, on the layer that LoftQ had made
        refuse_other_kinds(base)
        r, smaller = method.lora_A.shape[0], min(base.in_features, base.out_features)
        if r > smaller:
            raise unfit.too_few_directions(base, smaller, r)
        return method, started(method, base, LoftQConfig(**config.loftq_config))

    def demand(
        self, config: Any, layout: Layout, found: Mapping[str, bases.Base], named: list[str]
    ) -> None:
        """No layer may be quantized already.

        Raises:
            TargetError: one is, or does not show its W.
        """
        for base in found.values():
            refuse_other_kinds(base)

    def header(self, layers: Mapping[str, nn.Module]) -> dict[str, str]:
        """What the quantized layers were."""
        return {self.KEY: fingerprint(layers.values())}

    def loaded(self, header: Mapping[str, str], layers: Mapping[str, nn.Module], at: Any) -> None:
        """Warn where an adapter would stand on other quantized weights than its own."""
        made, tensors = header.get(self.KEY), [p for m in layers.values() for p in m.buffers()]
        if made is None or (tensors and all(t.is_meta for t in tensors)):
            return
        if fingerprint(layers.values()) != made:
            doubts.other_quantized_base(at)


def refuse_other_kinds(base: bases.Base) -> None:
    """Refuse a layer whose own W LoftQ cannot quantize."""
    if not isinstance(base, (bases.Linear, bases.Conv1D)):
        raise unfit.no_plain_weight(base)


def fingerprint(layers: Any) -> str:
    """A digest of the quantized ones among these layers, in order."""
    digest = hashlib.sha256()
    for layer in layers:
        if isinstance(layer, QuantizedLinear):
            for tensor in layer.quantized().tensors().values():
                digest.update(b"" if tensor.is_meta else tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
