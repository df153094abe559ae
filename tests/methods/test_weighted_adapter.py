"""add_weighted_adapter: w₁ ΔW₁ + w₂ ΔW₂ + ... as one LoRA, exactly, by SVD, or factor by factor.

The oracle is the sum of the matrices, formed in float64, its truncated singular value
decomposition, and Hugging Face peft. float32: a sum of at most 16 products of numbers near 1 is
exact to 16 · 6e-8 = 1e-6 of the largest entry; the bounds are five times that.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import output, shake, tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from peft_pairs import BOUNDS, adapters_of, answer, factors, rank_of
from test_lora_conv_models import CNN, image, made
from test_peft_equality import distance
from torch import Tensor, nn

from minipeft import LoraConfig, get_peft_model

EXACT = 5e-6
NAMES = ["a", "b", "c"]
CONFIGS: dict[str, list[dict[str, Any]]] = {
    "alike": [{"r": 3}, {"r": 3, "lora_alpha": 6}, {"r": 3, "use_rslora": True}],
    "other ranks": [{"r": 4}, {"r": 2, "lora_alpha": 5}, {"r": 1, "use_rslora": True}],
    "other layers": [
        {"r": 4, "target_modules": ["c_attn"]},
        {"r": 2, "target_modules": ["c_fc", "c_attn"], "layers_to_transform": [1]},
        {"r": 3, "target_modules": ["mlp.c_proj"], "exclude_modules": ["h.0.mlp.c_proj"]},
    ],
    "other targets": [
        {"r": 4, "target_modules": ["c_attn"]},
        {"r": 2, "target_modules": ["c_fc", "c_attn"]},
        {"r": 3, "target_modules": ["mlp.c_proj"]},
    ],
    "patterns": [
        {"r": 4, "target_modules": ["c_attn", "c_fc"], "rank_pattern": {"c_fc": 2}},
        {"r": 2, "target_modules": ["c_attn"], "alpha_pattern": {"h.1.attn.c_attn": 3}},
        {"r": 2, "target_modules": ["c_fc"], "rank_pattern": {"c_fc": 5}, "lora_alpha": 3},
    ],
    "embedding": [
        {"r": 3, "target_modules": ["wte", "c_attn"]},
        {"r": 2, "target_modules": ["wte"]},
        {"r": 1, "target_modules": ["wpe"]},
    ],
}
WEIGHTS = [0.7, -1.5, 2.0]


def several(kinds: list[dict[str, Any]], base: Any = None) -> Any:
    """A GPT-2 with LoRAs "a", "b", "c", filled with different numbers."""
    model = get_peft_model(base or tiny("gpt2"), LoraConfig(**kinds[0]), "a")
    for name, options in zip(NAMES[1:], kinds[1:], strict=False):
        model.add_adapter(name, LoraConfig(**options))
    shake(model)
    return model


def deltas(model: Any, name: str) -> dict[str, Tensor]:
    """ΔW = s B A of each layer in float64, by the layer's name."""
    found = {}
    for path, method in adapters_of(model, name).items():
        a, b = (p.detach().double().flatten(1) for p in factors(method))
        found[path] = method.scaling * b @ a
    return found


def summed(model: Any, weights: list[float]) -> dict[str, Tensor]:
    """The weighted sum of ΔW; an adapter without a layer adds nothing to it."""
    total: dict[str, Tensor] = {}
    for name, weight in zip(NAMES, weights, strict=False):
        for path, delta in deltas(model, name).items():
            total[path] = total.get(path, 0) + weight * delta
    return total


def same(found: dict[str, Tensor], expected: dict[str, Tensor], bound: float = EXACT) -> None:
    assert found.keys() == expected.keys()
    assert all(distance(expected[path], found[path]) <= bound for path in found)


# --- the matrices --------------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", CONFIGS)
def test_cat_is_the_exact_sum(kinds: str):
    model = several(CONFIGS[kinds])
    expected = summed(model, WEIGHTS)
    model.add_weighted_adapter(NAMES, WEIGHTS, "sum", combination_type="cat")
    model.add_weighted_adapter(NAMES[::-1], WEIGHTS[::-1], "back", combination_type="cat")
    for name in ("sum", "back"):  # the first one's options are not the sum's
        same(deltas(model, name), expected)
        assert all(m.scaling == 1 for m in adapters_of(model, name).values())
        assert model.peft_config[name].lora_alpha == model.peft_config[name].r


@pytest.mark.parametrize("rank", [None, 1, 3, 7])
@pytest.mark.parametrize("kinds", CONFIGS)
def test_svd_is_the_best_approximation_of_its_rank(kinds: str, rank: int | None):
    model = several(CONFIGS[kinds])
    total = summed(model, WEIGHTS)
    largest = max(rank_of(m) for name in NAMES for m in adapters_of(model, name).values())
    model.add_weighted_adapter(NAMES, WEIGHTS, "best", svd_rank=rank)  # svd is the default
    found = deltas(model, "best")
    assert found.keys() == total.keys()
    for path, matrix in total.items():
        u, s, v = torch.linalg.svd(matrix, full_matrices=False)
        r = rank_of(adapters_of(model, "best")[path])
        assert r <= (rank or largest)
        kept = min(rank or largest, len(s))
        expected = u[:, :kept] * s[:kept] @ v[:kept]
        if (s[kept - 1] - (s[kept] if kept < len(s) else 0)) < 0.01 * s[0] and s[kept - 1] > 1e-9:
            continue  # two singular values alike: which of the two is kept is rounding
        assert (found[path] - expected).abs().max() <= EXACT * matrix.abs().max()
        lost = (found[path] - matrix).norm()  # and what is lost are the singular values left out
        assert abs(lost - s[kept:].norm()) <= 10 * EXACT * matrix.norm()


def test_svd_of_a_large_enough_rank_is_the_sum():
    model = several(CONFIGS["other ranks"])
    expected = summed(model, WEIGHTS)
    model.add_weighted_adapter(NAMES, WEIGHTS, "best", "svd", svd_rank=7)
    same(deltas(model, "best"), expected)


def test_linear_sums_the_factors_and_has_cross_terms():
    model = several(CONFIGS["alike"])
    parts = {name: adapters_of(model, name) for name in NAMES}
    model.add_weighted_adapter(NAMES, WEIGHTS, "lin", combination_type="linear")
    exact = summed(model, WEIGHTS)
    for path, found in deltas(model, "lin").items():
        a, b = torch.zeros(()), torch.zeros(())
        for name, weight in zip(NAMES, WEIGHTS, strict=True):
            one, scale = parts[name][path], weight * parts[name][path].scaling
            root = abs(scale) ** 0.5  # √|w s| on each factor, the sign on one of them
            a = a + (root if scale >= 0 else -root) * one.lora_A.detach().double()
            b = b + root * one.lora_B.detach().double()
        assert distance(b @ a, found) <= EXACT
        assert distance(exact[path], found) > 0.1
    model.add_weighted_adapter(["a"], [-3.0], "one", combination_type="linear")
    same(deltas(model, "one"), {p: -3 * d for p, d in deltas(model, "a").items()})


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.floats(0.1, 9), st.floats(-4, 4)), min_size=1,
             max_size=4),
    st.integers(1, 9), st.integers(1, 9), st.integers(0, 99),
)  # fmt: skip
def test_any_adapters_on_one_layer(kinds: list[Any], n: int, out: int, seed: int):
    torch.manual_seed(seed)
    base = nn.Linear(n, out).double()
    names = [f"x{i}" for i in range(len(kinds))]
    model: Any = None
    for name, (r, alpha, _) in zip(names, kinds, strict=True):
        config = LoraConfig(r=r, lora_alpha=alpha, target_modules=["0"])
        if model is None:
            model = get_peft_model(nn.Sequential(base), config, name)
        else:
            model.add_adapter(name, config)
    shake(model, seed)
    weights = [w for _, _, w in kinds]
    x = torch.randn(3, n, dtype=torch.float64)
    bare, parts = base(x), []
    for name in names:
        model.set_adapter(name)
        parts.append(model(x) - bare)
    expected = bare + sum(w * part for w, part in zip(weights, parts, strict=True))
    model.add_weighted_adapter(names, weights, "cat", "cat")
    model.add_weighted_adapter(names, weights, "svd", "svd", svd_rank=sum(r for r, _, _ in kinds))
    for name in ("cat", "svd"):
        model.set_adapter(name)
        assert torch.allclose(model(x), expected, rtol=1e-11, atol=1e-11)


# --- in a model ----------------------------------------------------------------------------------


def test_nothing_else_changes_and_it_is_not_in_use():
    model = several(CONFIGS["other layers"])
    before, parameters = output(model, "gpt2"), dict(model.named_parameters())
    model.add_weighted_adapter(["a", "c"], [1, -1], "sum", "cat")
    assert torch.equal(output(model, "gpt2"), before)
    assert model.active_adapters == ["a"]
    assert list(model.peft_config) == [*NAMES, "sum"]
    now = dict(model.named_parameters())
    assert all(now[key] is parameter for key, parameter in parameters.items())
    added = [p for key, p in now.items() if ".sum." in key]
    assert added
    assert not any(p.requires_grad for p in added)
    model.set_adapter("sum")
    assert all(p.requires_grad for p in added)


def test_the_sum_is_both_in_use_together():
    model = several(CONFIGS["patterns"])
    model.set_adapter(["a", "b"])
    both = output(model, "gpt2")
    model.add_weighted_adapter(["a", "b"], [1.0, 1.0], "sum", "cat")
    model.set_adapter("sum")
    assert distance(both, output(model, "gpt2")) <= BOUNDS[0]
    model.add_weighted_adapter(["sum", "b"], [1.0, -1.0], "rest", "cat")  # a sum of a sum
    same({p: d for p, d in deltas(model, "rest").items() if p in deltas(model, "a")},
         deltas(model, "a"))  # fmt: skip
    plain = model.merge_and_unload()
    assert distance(both, output(plain, "gpt2")) <= BOUNDS[0]


@pytest.mark.parametrize("combination", ["cat", "svd"])
def test_convolutions_are_matrices_too(combination: str):
    kinds = [{"r": 3, "target_modules": ["stem", "conv1"]}, {"r": 2, "target_modules": ["conv1"]}]
    model = several(kinds, made(CNN)())
    expected = summed(model, [2.0, -0.5])
    model.add_weighted_adapter(
        ["a", "b"], [2.0, -0.5], "sum", combination, *[5][: combination == "svd"]
    )
    same(deltas(model, "sum"), expected)
    model.set_adapter("sum")
    assert answer(model, image()).isfinite().all()


def test_names_that_end_alike():
    model = nn.ModuleDict({"0": nn.Linear(3, 3), "x": nn.Sequential(nn.Linear(3, 3))})
    model = get_peft_model(model, LoraConfig(r=2, target_modules="0"), "a")  # a pattern: not x.0
    shake(model)
    model.add_weighted_adapter(["a"], [2.0], "twice", "cat")
    same(deltas(model, "twice"), {"0": 2 * deltas(model, "a")["0"]})
