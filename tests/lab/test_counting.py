"""Counts and bytes: the formula, the built model and the reference table agree to the parameter.

The table was computed once, with transformers 5.23 models on the meta device and peft 0.21.2.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import FAMILIES, adapted, state_of, tiny

from minipeft import LoraConfig, get_peft_model
from minipeft.checks.errors import ConfigError, TargetError
from minipeft.lab.counting import BYTES, MODELS, count, meta_model, parameters, training_bytes

QKVO = ["q_proj", "k_proj", "v_proj", "o_proj"]
ALL = "all-linear"

# model, its parameters, r, target_modules (None: the default), trained, trained and base together
TABLE: list[tuple[str, int, int, Any, int, int]] = [
    ("gpt2", 124_439_808, 8, None, 294_912, 124_734_720),
    ("gpt2", 124_439_808, 16, ALL, 2_359_296, 126_799_104),
    ("gpt2-medium", 354_823_168, 8, None, 786_432, 355_609_600),
    ("gpt2-medium", 354_823_168, 16, ALL, 6_291_456, 361_114_624),
    ("bloom-560m", 559_214_592, 8, None, 786_432, 560_001_024),
    ("bloom-560m", 559_214_592, 16, ALL, 6_291_456, 565_506_048),
    ("bloom-1b4-zh", 1_303_111_680, 8, None, 1_572_864, 1_304_684_544),
    ("bloom-1b4-zh", 1_303_111_680, 16, ALL, 12_582_912, 1_315_694_592),
    ("llama-2-7b", 6_738_415_616, 8, None, 4_194_304, 6_742_609_920),
    ("llama-2-7b", 6_738_415_616, 16, ALL, 39_976_960, 6_778_392_576),
    ("llama-2-7b", 6_738_415_616, 16, QKVO, 16_777_216, 6_755_192_832),
    ("llama-2-13b", 13_015_864_320, 8, None, 6_553_600, 13_022_417_920),
    ("llama-2-13b", 13_015_864_320, 16, ALL, 62_586_880, 13_078_451_200),
    ("llama-2-13b", 13_015_864_320, 16, QKVO, 26_214_400, 13_042_078_720),
    ("llama-2-70b", 68_976_648_192, 8, None, 16_384_000, 68_993_032_192),
    ("llama-2-70b", 68_976_648_192, 16, ALL, 207_093_760, 69_183_741_952),
    ("llama-2-70b", 68_976_648_192, 16, QKVO, 65_536_000, 69_042_184_192),
    ("bert-base", 109_483_778, 8, None, 296_450, 109_780_228),
    ("bert-base", 109_483_778, 16, ALL, 2_680_322, 112_164_100),
    ("t5-base", 222_903_552, 8, None, 884_736, 223_788_288),
    ("t5-base", 222_903_552, 16, ALL, 6_488_064, 229_391_616),
]


def config_of(model: str, r: int, target: Any) -> LoraConfig:
    return LoraConfig(
        r=r, target_modules=target, task_type="SEQ_CLS" if model == "bert-base" else None
    )


@pytest.mark.parametrize(("model", "base", "r", "target", "trained", "total"), TABLE)
def test_the_formula_gives_the_table(
    model: str, base: int, r: int, target: Any, trained: int, total: int
):
    counted = count(model, config_of(model, r, target))
    assert (counted.base, counted.trainable, counted.all) == (base, trained, total)
    assert counted.percent == 100 * trained / total


@pytest.mark.parametrize("model", ["gpt2", "bloom-560m", "llama-2-7b", "bert-base", "t5-base"])
def test_the_formula_equals_the_built_model(model: str):
    for r, target in ((8, None), (16, ALL)):
        config = config_of(model, r, target)
        counted = count(model, config)
        built = get_peft_model(meta_model(model), config)
        assert built.get_nb_trainable_parameters() == (counted.trainable, counted.all)
        assert all(parameter.is_meta for parameter in built.parameters())


# What is trained whole for the task, where the model has no classifier.
HEAD = {
    "bloom": "ln_f",
    "gpt2": "ln_f",
    "llama": "norm",
    "t5": "final_layer_norm",
    "bert": "pooler",
    "mlp": "norm",
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_real_module_is_counted_and_not_touched(name: str):
    base = tiny(name)
    before = state_of(base)
    for config in (
        LoraConfig(r=3, target_modules=ALL),
        LoraConfig(r=3, target_modules=ALL, task_type="SEQ_CLS", modules_to_save=[HEAD[name]]),
    ):
        counted = count(base, config)
        assert state_of(base) == before
        built = get_peft_model(tiny(name), config)
        assert built.get_nb_trainable_parameters() == (counted.trainable, counted.all)


def test_the_table_names_every_model():
    assert {row[0] for row in TABLE} == set(MODELS)


def test_a_count_shows_its_derivation():
    assert str(count("gpt2", LoraConfig(r=8))) == (
        "294,912 of 124,734,720 (0.2364 %) = 12 x 24,576 beside (768, 2304)"
    )
    counted = count("bert-base", config_of("bert-base", 8, None))
    assert counted.heads == 768 * 2 + 2
    assert str(counted).endswith("= 24 x 12,288 beside (768, 768) + 1,538 in heads")
    assert counted.groups == {(768, 768, 8 * (768 + 768)): 24}


def test_shared_parameters_are_counted_once():
    gpt2 = tiny("gpt2")  # lm_head and wte share one matrix of 48 x 16
    assert gpt2.lm_head.weight is gpt2.transformer.wte.weight
    every = sum(p.numel() for _, p in gpt2.named_parameters(remove_duplicate=False))
    assert every - parameters(gpt2) == 48 * 16
    assert adapted("gpt2").get_nb_trainable_parameters()[1] == parameters(gpt2) + 2 * 4 * (16 + 48)


def test_a_name_that_is_not_there():
    with pytest.raises(ConfigError, match="no dimensions for 'gpt-2'; did you mean 'gpt2'"):
        count("gpt-2", LoraConfig())
    with pytest.raises(TargetError, match="no default for MLP"):
        count(tiny("mlp"), LoraConfig())


# --- bytes ---------------------------------------------------------------------------------------

LLAMA_70B = 68_976_648_192


@pytest.mark.parametrize(
    ("convention", "per_parameter", "gigabytes"),
    [("half", 8, 551.8), ("moments32", 12, 827.7), ("mixed", 16, 1103.6), ("float32", 16, 1103.6)],
)
def test_full_fine_tuning_of_70b_by_hand(convention: str, per_parameter: int, gigabytes: float):
    assert sum(BYTES[convention].values()) == per_parameter
    assert sum(training_bytes(0, 10**9, convention=convention).values()) == per_parameter * 10**9
    total = sum(training_bytes(0, LLAMA_70B, convention=convention).values())
    assert total == per_parameter * LLAMA_70B
    assert round(total / 1e9, 1) == gigabytes


def test_the_notes_round_number():
    # 003:L20: 70e9 parameters at 2 + 2 + 4 bytes
    assert training_bytes(0, 70 * 10**9, convention="half") == {
        "frozen weights": 0,
        "weights": 140e9,
        "gradients": 140e9,
        "master copy": 0,
        "Adam moments": 280e9,
    }


def test_a_frozen_parameter_costs_its_weight_only():
    parts = training_bytes(1000, 10)
    assert parts == {
        "frozen weights": 2000,
        "weights": 20,
        "gradients": 20,
        "master copy": 40,
        "Adam moments": 80,
    }
    assert next(iter(parts)) == "frozen weights"
    assert training_bytes(1000, 0, bytes_per_frozen=0.5)["frozen weights"] == 500


def test_the_bytes_are_those_that_torch_holds():
    model = adapted("mlp")  # float32: weights and gradients 4 bytes, Adam's moments 8
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    model(torch.randn(2, 6)).sum().backward()
    optimizer.step()
    n, total = model.get_nb_trainable_parameters()
    moments = [optimizer.state[p][name] for p in trained for name in ("exp_avg", "exp_avg_sq")]
    held = [*model.parameters(), *(p.grad for p in model.parameters() if p.grad is not None)]
    held += moments
    told = training_bytes(total - n, n, convention="float32", bytes_per_frozen=4)
    assert sum(t.numel() * t.element_size() for t in held) == sum(told.values())


def test_impossible_memory_is_refused():
    with pytest.raises(ConfigError, match="must not be negative, got frozen=-1, trained=0"):
        training_bytes(-1, 0)
    with pytest.raises(ConfigError, match=r"one of 'mixed', .*got 'mixd'; did you mean 'mixed'"):
        training_bytes(0, 1, convention="mixd")
