"""The proofs of lesson 09 on scale, start and patterns, and the notes' way of writing a config."""

from __future__ import annotations

import ast
import math
from typing import Any

import torch
from torch import nn

from ... import LoraConfig, get_peft_model
from ...checks.errors import ConfigError
from ...lab.counting import count, meta_model
from ...methods.lora import LoRALayer, scaling
from ...methods.lora_options.patterns import strength
from ..claims import hold, proves


def refused(**options: Any) -> str:
    """What a `LoraConfig` with these options says against them."""
    try:
        LoraConfig(**options)
    except ConfigError as error:
        return str(error)
    hold(False, f"LoraConfig takes {options}")
    return ""


@proves("family-rslora")
def rslora() -> str:
    """The two scales at α = 32, and the α that turns one into the other."""
    for r in (1, 4, 16, 64):
        same = math.isclose(scaling(32, r, use_rslora=True), scaling(32 * math.sqrt(r), r))
        hold(same, f"r = {r}: another method")
    plain, stable = scaling(32, 64), scaling(32, 64, use_rslora=True)
    hold((plain, stable) == (0.5, 4.0), f"{plain}, {stable}")
    return f"α = 32, r = 64: α/r = {plain:g}, α/√r = {stable:g}; both depend on r"


def reach(*shape: int, **options: Any) -> float:
    """The largest entry that `kaiming_uniform_` puts into a tensor of this shape."""
    torch.manual_seed(0)
    return float(nn.init.kaiming_uniform_(torch.empty(*shape), **options).abs().max())


@proves("family-kaiming-conv")
def kaiming_conv() -> str:
    """64 to 128 channels, 3 by 3: fan_in 576, fan_out 1152."""
    got = reach(128, 64, 3, 3, nonlinearity="relu")
    torch.manual_seed(0)
    xavier = float(nn.init.xavier_uniform_(torch.empty(128, 64, 3, 3)).abs().max())
    hold(abs(got - math.sqrt(6 / 576)) < 1e-4, f"Kaiming reaches {got}")
    hold(abs(xavier - math.sqrt(6 / (576 + 1152))) < 1e-4, f"Xavier reaches {xavier}")
    return f"Kaiming {got:.4f} = √(6/576), Xavier {xavier:.4f} = √(6/1728)"


@proves("family-kaiming-fan-in")
def kaiming_fan_in() -> str:
    """The fan-in read back from the bound, without groups and with two."""
    found = []
    for groups in (1, 2):
        kernel = nn.Conv2d(64, 128, 3, groups=groups).weight
        found.append(round(6 / reach(*kernel.shape, nonlinearity="relu") ** 2))
    hold(found == [576, 288], f"{found}")
    return "64 channels, 3 × 3: fan_in 576; with two groups 288"


@proves("family-kaiming-gain")
def kaiming_gain() -> str:
    """The gains of three activations, and LoRA's bound beside them."""
    gains = [nn.init.calculate_gain(name) for name in ("sigmoid", "tanh", "relu")]
    hold(gains == [1, 5 / 3, math.sqrt(2)], f"{gains}")
    for name, gain in zip(("sigmoid", "tanh"), gains, strict=False):
        bound = gain * math.sqrt(3 / 600)
        hold(abs(reach(64, 600, nonlinearity=name) / bound - 1) < 1e-2, f"{name}: not {bound}")
    torch.manual_seed(0)
    ours = float(LoRALayer(600, 8, rank=64).lora_A.detach().abs().max())
    hold(abs(ours * math.sqrt(600) - 1) < 1e-2, f"max|A| is {ours}")
    return f"gains: sigmoid 1, tanh {gains[1]:.3f}; LoRA's A: {ours:.4f} = 1/√600"


@proves("family-init-values")
def init_values() -> str:
    """What LoraConfig takes, and what it says to one of peft's others."""
    for init in (True, False, "gaussian", "orthogonal", "loftq"):
        LoraConfig(init_lora_weights=init)
    torch.manual_seed(0)
    layer = LoRALayer(64, 32, rank=8, init_lora_weights="orthogonal")
    size = float(layer.delta_weight().detach().abs().max())
    hold(size < 1e-5 and (layer.lora_B != 0).any(), f"ΔW reaches {size}")
    hold("pissa" in refused(init_lora_weights="pissa"), "pissa is not named")
    return "five values taken; orthogonal: B is not zero and BA is; pissa is refused"


@proves("family-ellipsis")
def ellipsis() -> str:
    """The notes' line, given to Python's parser."""
    for option in ("use_rslora=True", "use_dora=True", "layer_replication=[[0,4], [2,5]]"):
        try:
            ast.parse(f"config = LoraConfig({option}, ...)")
        except SyntaxError as error:
            said = error.msg
        else:
            hold(False, f"{option}, ... is Python")
    return f"SyntaxError: {said}"


@proves("family-layers-default")
def layers_default() -> str:
    """GPT-2 without target_modules; and with a string."""
    model = meta_model("gpt2")
    found = list(get_peft_model(model, LoraConfig(layers_to_transform=[0, 11])).base_model.slots())
    hold(found == [f"transformer.h.{n}.attn.c_attn" for n in (0, 11)], f"{found}")
    said = refused(layers_to_transform=[0], target_modules=".*c_attn")
    hold("target_modules as a list" in said, said)
    return "layers 0 and 11 of GPT-2's default, c_attn; a string is refused"


@proves("family-layers-pattern")
def layers_pattern() -> str:
    """Alone, and beside layers_to_transform."""
    said = refused(layers_pattern="h")
    n = count("gpt2", LoraConfig(layers_to_transform=[0, 11], layers_pattern="h")).trainable
    hold(n == 2 * 8 * (768 + 2304), f"{n:,}")
    return f"alone: {said.partition(';')[0]}"


@proves("family-rank-pattern")
def rank_pattern() -> str:
    """Two keys that fit one name, and one that fits its end only."""
    config = LoraConfig(
        r=8,
        lora_alpha=16,
        rank_pattern={r"h\.0\.attn\.c_attn": 2, "c_attn": 4},
        alpha_pattern={"c_attn": 1},
    )
    names = ("transformer.h.0.attn.c_attn", "transformer.h.1.attn.c_attn", "x.not_c_attn")
    found = [strength(config, name) for name in names]
    hold(found == [(2, 1), (4, 1), (8, 16)], f"{found}")
    return "h.0's c_attn: r = 2 (the first key); h.1's: r = 4; not_c_attn: r = 8, α = 16"
