"""The proofs of lesson 10: where IA³ stands, and what the note's config does."""

from __future__ import annotations

import importlib
import importlib.util

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ...lab.counting import count
from ...methods.ia3 import IA3, FusedIA3, IA3Config
from ..claims import hold, proves

# 001:L151-154
QKV, DOWN = "query_key_value", "mlp.dense_4h_to_h"


def scores(l_q: Tensor, l_k: Tensor, q: Tensor, k: Tensor) -> Tensor:
    """Attention weights of scaled queries (T, d) and keys (T, d)."""
    weights: Tensor = ((l_q * q) @ (l_k * k).T / q.shape[1] ** 0.5).softmax(-1)
    return weights


@proves("ia3-where")
def where() -> str:
    """Three places in Llama, and each of them is a scale that folds into the frozen layer."""
    groups = count("llama-2-7b", IA3Config()).groups
    places = {size: n for (_, _, size), n in groups.items()}
    hold(places == {4096: 64, 11008: 32}, f"{places}")
    torch.manual_seed(0)
    frozen, x = nn.Linear(6, 4), torch.randn(3, 6)
    worst = 0.0
    for layer in (IA3(4, False, False), IA3(6, True, False)):
        with torch.no_grad():
            beside = layer.after(x, frozen(layer.before(x)))
            folded = linear(x, *layer.fold(frozen.weight, frozen.bias))
        worst = max(worst, float((beside - folded).abs().max()))
    hold(worst < 1e-5, f"folded differs by {worst}")
    return "Llama-2-7B: 64 outputs of 4,096 (K, V) and 32 inputs of 11,008 are scaled"


@proves("ia3-qk")
def qk() -> str:
    """The default of Llama names K and V; scaling Q and K is as good as scaling K alone."""
    targets = IA3Config.default_targets["llama"]
    hold(targets == ("k_proj", "v_proj", "down_proj"), f"{targets}")
    torch.manual_seed(0)
    q, k, l_q, l_k = torch.randn(5, 8), torch.randn(5, 8), torch.randn(8), torch.randn(8)
    both, alone = scores(l_q, l_k, q, k), scores(torch.ones(8), l_q * l_k, q, k)
    gap = float((both - alone).abs().max())
    hold(gap < 1e-5, f"the weights differ by {gap}")  # float32 sums of 8 products
    return f"Llama: k_proj, v_proj; weights with ℓ_q, ℓ_k against ℓ_q ⊙ ℓ_k: {gap:.0e} apart"


@proves("ia3-fused-q")
def fused_q() -> str:
    """Bloom's fused layer in both readings."""
    whole = count("bloom-1b4-zh", IA3Config()).trainable
    paper = count("bloom-1b4-zh", IA3Config(fused_qkv="kv")).trainable
    hold((whole, paper) == (344_064, 294_912), f"{whole:,}, {paper:,}")
    hold(whole - paper == 24 * 2048, "the difference is not Q")
    kept = FusedIA3(6, torch.tensor([2, 3, 4, 5]), init_ia3_weights=False).vector()
    hold(bool((kept[:2] == 1).all()), "Q's rows are scaled")
    return f"{whole:,} with Q, {paper:,} without; Q's are {whole - paper:,}"


@proves("ia3-config")
def config() -> str:
    """peft's rule on the note's strings, peft itself where it is installed, and minipeft."""
    hold(not {DOWN} <= {QKV}, "the note's lists satisfy peft's rule")
    said = "peft is not installed"
    if importlib.util.find_spec("peft") is not None:
        peft = importlib.import_module("peft")
        try:
            peft.IA3Config(target_modules=[QKV], feedforward_modules=[DOWN])
            said = "nothing"
        except ValueError as error:
            said = str(error)
        hold("subset of `target_modules`" in said, f"peft says {said}")
        peft.IA3Config(target_modules=[QKV, DOWN], feedforward_modules=[DOWN])
    ours = count("bloom-1b4-zh", IA3Config(target_modules=[QKV], feedforward_modules=[DOWN]))
    hold(ours.trainable == 24 * (3 * 2048 + 8192) == 344_064, f"{ours.trainable:,}")
    return f"ValueError in peft ({said}); here it trains {ours.trainable:,}"
