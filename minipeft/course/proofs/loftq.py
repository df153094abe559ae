"""The proofs of lesson 12 on LoftQ: what its name says, what it quantizes, where it helps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import LoftQConfig, LoraConfig, get_peft_model, quantize_model
from ...checks.errors import ConfigError
from ...layers.quant import QuantizedLinear, dequantize, quantize
from ...methods import loftq as module
from ...methods.loftq import loftq
from ..claims import hold, proves
from .qlora import rows, small


def weights() -> Tensor:
    """W, (96, 64)."""
    return torch.randn(96, 64, generator=torch.Generator().manual_seed(0))


def lost(w: Tensor, scale: float, iterations: int) -> float:
    """‖W − dq(Q) − s·BA‖ / ‖W‖ after LoftQ."""
    q, a, b = loftq(w, 8, scale, iterations=iterations)
    return float((w - dequantize(q) - scale * b @ a).norm() / w.norm())


@proves("loftq-name")
def name() -> str:
    """The package's own reference."""
    title = "LoRA-Fine-Tuning-Aware Quantization"
    hold(title in (module.__doc__ or ""), "the reference is gone")
    words = "Low-Fidelity Quantization".replace("-", " ").split()
    hold("T" not in [word[0] for word in words], "the note's words have no T")
    return title


@proves("loftq-activations")
def weights_only() -> str:
    """The input is used as it comes, and the start is nearer to W than plain NF4 is."""
    base = small()
    config = LoraConfig(r=8, target_modules=["0", "2"], init_lora_weights="loftq")
    model: Any = get_peft_model(base, config)
    layers = [s.base_layer for s in model.base_model.slots().values()]
    hold(all(isinstance(layer, QuantizedLinear) for layer in layers), "weights are not packed")
    x, layer = rows(), layers[0]
    exact = x @ layer.weight.T + layer.bias
    hold(torch.equal(layer(x), exact), "the input was changed on its way")
    w = weights()
    plain = float((w - dequantize(quantize(w))).norm() / w.norm())
    errors = [lost(w, scale, 1) for scale in (1.0, 2.0)]
    hold(max(errors) < plain, f"{errors} against {plain}")
    return f"distance from W: NF4 {plain:.4f}, LoftQ {errors[0]:.4f} (s = 1), {errors[1]:.4f} (2)"


@proves("loftq-targets")
def only_where() -> str:
    """A layer that is not a target keeps its weights, so there is nothing for LoftQ to mend."""
    base = small()
    kept = base[2].weight.detach().clone()
    get_peft_model(base, LoraConfig(r=8, target_modules=["0"], init_lora_weights="loftq"))
    hold(torch.equal(base[2].weight, kept), "an untargeted layer has changed")
    distances = []
    for targets in (["0"], ["0", "2"]):
        model = small()
        wanted = model(rows()).detach()
        if len(targets) < 2:  # the other layer is plain NF4
            quantize_model(model, skip_modules=targets, double_quant=False)
        config = LoraConfig(r=8, target_modules=targets, init_lora_weights="loftq")
        got = get_peft_model(model, config)(rows()).detach()
        distances.append(float((got - wanted).norm() / wanted.norm()))
    hold(distances[1] < distances[0], f"{distances}")
    one, both = distances
    return (
        f"the answers are off by {one:.3f} with LoftQ in one of two layers, by {both:.3f} in both"
    )


@proves("loftq-both")
def together() -> str:
    """Alone it is refused, together it is taken."""
    LoraConfig(init_lora_weights="loftq", loftq_config=LoftQConfig(loftq_iter=2))
    try:
        LoraConfig(loftq_config=LoftQConfig())
    except ConfigError as error:
        return str(error).partition(";")[0]
    hold(False, "loftq_config alone was taken")
    return ""
