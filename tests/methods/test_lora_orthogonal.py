"""init_lora_weights="orthogonal": A and B random and B A = 0, with the spread that peft's have."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from conftest import output, state_of, tiny
from peft_pairs import adapters_of, base_of, compare, factors, pair
from torch import nn

from minipeft import LoraConfig, LoRALayer, get_peft_model
from minipeft.checks.errors import ConfigError, MinipeftError

# 0.1² · r products of numbers near 1: a thousandth of float32's spacing at 1 times √r
ZERO = 1e-7


@pytest.mark.parametrize("r", [2, 4, 8, 64])
def test_the_product_is_zero_and_the_factors_are_not(r: int):
    layer = LoRALayer(40, 30, rank=r, init_lora_weights="orthogonal")
    a, b = layer.lora_A, layer.lora_B
    assert layer.delta_weight().abs().max() <= ZERO * r * layer.scaling
    assert min(a.abs().max(), b.abs().max()) > 0.01
    assert torch.linalg.matrix_rank(a.double(), tol=1e-5) == min(r // 2, 40)
    x = torch.randn(5, 40)
    layer(x, torch.zeros(5, 30)).sum().backward()
    assert min(a.grad.abs().max(), b.grad.abs().max()) > 1e-3  # both learn from the first step


def test_the_spread_is_pefts(peft: Any):
    options = {"r": 16, "init_lora_weights": "orthogonal", "target_modules": ["0"]}
    ours = get_peft_model(nn.Sequential(nn.Linear(500, 400)), LoraConfig(**options))
    theirs = peft.get_peft_model(nn.Sequential(nn.Linear(500, 400)), peft.LoraConfig(**options))
    mine = factors(next(iter(adapters_of(ours).values())))
    layer = theirs.get_base_model()[0]
    for one, other in zip(mine, (layer.lora_A, layer.lora_B), strict=True):
        known = other["default"].weight
        # the mean square of 16 · 500 numbers, of which half are independent; both vary
        error = known.square().mean() * math.sqrt(2 * 2 / (known.numel() / 2))
        assert abs(one.square().mean() - known.square().mean()) < 5 * error
        assert one.square().mean().item() == pytest.approx(0.01 / 2, rel=0.15)


def test_in_a_model_against_peft(peft: Any):
    options = {"r": 4, "init_lora_weights": "orthogonal", "target_modules": "all-linear"}
    compare(*pair(peft, base_of("llama"), **options), "llama")
    for extra in ({}, {"use_dora": True}, {"rank_pattern": {"q_proj": 2}}):
        model = get_peft_model(tiny("llama"), LoraConfig(**options, **extra))
        bare = output(tiny("llama"), "llama")
        assert (output(model, "llama") - bare).abs().max() <= 1e-5 * bare.abs().max()


def test_convolutions_and_embeddings():
    base = nn.ModuleList([nn.Conv2d(3, 8, 3, groups=1), nn.Conv1d(4, 8, 2), nn.Embedding(9, 6)])
    config = LoraConfig(r=4, init_lora_weights="orthogonal", target_modules=["0", "1", "2"])
    for method in adapters_of(get_peft_model(base, config)).values():
        a, b = (p.flatten(1) for p in factors(method))
        assert (b @ a).abs().max() <= 4 * ZERO


@pytest.mark.parametrize(("r", "pattern", "odd"), [(3, {}, 3), (4, {"q_proj": 5}, 5)])
def test_an_odd_rank_has_no_two_halves(r: int, pattern: dict[str, int], odd: int):
    base = tiny("llama")
    before = state_of(base)
    with pytest.raises(ConfigError, match=rf"orthogonal.*even.*{odd}"):
        config = LoraConfig(r=r, rank_pattern=pattern, init_lora_weights="orthogonal")
        get_peft_model(base, config)
    assert state_of(base) == before


@pytest.mark.parametrize("start", ["pissa", "olora", "eva", "pissa_niter_4", "corda", "lora_ga"])
def test_other_starts_are_named(start: str):
    with pytest.raises(MinipeftError, match=rf"init_lora_weights.*'orthogonal'.*'{start}'"):
        LoraConfig(init_lora_weights=start)
