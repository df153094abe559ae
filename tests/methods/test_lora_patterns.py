"""Which layers, at what rank and scale: the options of LoraConfig that speak of single layers.

layers_to_transform and layers_pattern, exclude_modules, rank_pattern and alpha_pattern choose the
same layers, ranks and scales as in Hugging Face peft. Where peft silently ignores an entry that
means nothing, ours is refused.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import CONFIG, bare_names, inputs, output, tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kbit_models import quiet
from peft_pairs import (
    adapters_of,
    base_of,
    both_ways,
    compare,
    ours_on,
    pair,
    ranks_and_scales,
)
from torch import nn

from minipeft import IA3Config, LoraConfig, PeftModel, get_peft_model
from minipeft.checks.errors import TargetError
from minipeft.tuner.plan import choose, counted, find_targets

FAMILIES = ["gpt2", "bloom", "llama", "t5", "bert"]
PATTERN = {"gpt2": "h", "bloom": "h", "llama": "layers", "t5": "block", "bert": "layer"}
# One projection of the attention and one of the feed-forward layer.
TWO = {
    "gpt2": ["c_attn", "c_fc"], "bloom": ["query_key_value", "dense_h_to_4h"],
    "llama": ["q_proj", "up_proj"], "t5": ["q", "wi"], "bert": ["query", "intermediate.dense"],
}  # fmt: skip
CASES: list[dict[str, Any]] = [
    {"layers_to_transform": 1},
    {"layers_to_transform": 0, "layers_pattern": "H"},
    {"layers_to_transform": [1], "layers_pattern": ["nowhere", "H"]},
    {"layers_to_transform": [1, 0]},
    {"layers_to_transform": 1, "target_modules": "TWO"},
    {"target_modules": "TWO", "exclude_modules": ["A"]},
    {"target_modules": "TWO", "exclude_modules": r".*\.0\..*"},
    {"target_modules": "TWO", "exclude_modules": ["B"], "layers_to_transform": 0},
    {"target_modules": "all-linear", "exclude_modules": ["A"]},
    {"target_modules": "TWO", "rank_pattern": {"A": 2}},
    {"target_modules": "TWO", "rank_pattern": {"A": 2, "B": 7}, "alpha_pattern": {"B": 3}},
    {"target_modules": "TWO", "rank_pattern": {r"[a-z.]+\.1\..*": 1}, "use_rslora": True},
    {"target_modules": "TWO", "alpha_pattern": {r".*\.0\..*A": 5, "A": 9}},  # the first one wins
    {"target_modules": "TWO", "alpha_pattern": {"A": 9, r".*\.0\..*": 0.5}, "use_dora": True},
    {"target_modules": "all-linear", "rank_pattern": {"A|B": 3}, "alpha_pattern": {".*": 2}},
]


def meant(name: str, value: Any) -> Any:
    """TWO, A, B and H replaced by the family's names."""
    if isinstance(value, dict):
        return {meant(name, key): entry for key, entry in value.items()}
    if isinstance(value, list):
        return [meant(name, entry) for entry in value]
    if value == "TWO":
        return TWO[name]
    if isinstance(value, str):
        value = re.sub(r"\bA\b", TWO[name][0], value)
        value = re.sub(r"\bB\b", TWO[name][1], value)
        return re.sub(r"\bH\b", PATTERN[name], value)
    return value


def options_of(name: str, case: dict[str, Any]) -> dict[str, Any]:
    return {key: meant(name, value) for key, value in case.items()}


# --- against peft --------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("name", FAMILIES)
def test_the_layers_ranks_scales_and_numbers_are_pefts(peft: Any, name: str, case: dict[str, Any]):
    options = options_of(name, case)
    ours, theirs = pair(peft, base_of(name), lora_alpha=8, **options)
    assert ranks_and_scales(ours) == ranks_and_scales(theirs)
    compare(ours, theirs, name)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_formula_counts_what_there_is(case: dict[str, Any]):
    config = LoraConfig(bias="lora_only", **options_of("gpt2", case))
    expected = sum(counted(choose(tiny("gpt2"), config)).values())
    model = get_peft_model(tiny("gpt2"), config)
    assert model.get_nb_trainable_parameters()[0] == expected


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_files_are_read_both_ways(peft: Any, tmp_path: Path, name: str, case: dict[str, Any]):
    ours, theirs = pair(peft, base_of(name), **options_of(name, case))
    both_ways(peft, tmp_path, base_of(name), inputs(name), ours, theirs)
    mine, other = (json.loads((tmp_path / w / CONFIG).read_text()) for w in ("ours", "theirs"))
    for option in ("layers_to_transform", "layers_pattern", "exclude_modules", "rank_pattern",
                   "alpha_pattern"):  # fmt: skip
        assert mine[option] == other[option], option


@pytest.mark.parametrize("option", ["rank_pattern", "alpha_pattern"])
def test_the_order_of_patterns_is_kept_in_the_file(tmp_path: Path, option: str):
    for name, first in (("one", "c_attn"), ("other", ".*")):
        second = ".*" if first == "c_attn" else "c_attn"
        model = ours_on(base_of("gpt2"), **{option: {first: 3, second: 5}})
        model.save_pretrained(tmp_path / name)
        again = PeftModel.from_pretrained(tiny("gpt2"), tmp_path / name)
        assert ranks_and_scales(again) == ranks_and_scales(model)
        assert torch.equal(output(again, "gpt2"), output(model, "gpt2"))


MODELS = {name: tiny(name) for name in ("gpt2", "bloom", "llama", "t5")}
NAMED = {name: bare_names(model) for name, model in MODELS.items()}
EVERY = LoraConfig(target_modules="all-linear")
LINEAR = {name: list(find_targets(model, EVERY)) for name, model in MODELS.items()}


@st.composite
def choices(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A family, and layer choices made from pieces of its names, so that they hit and miss."""
    family = draw(st.sampled_from(sorted(NAMED)))
    rng, layers = random.Random(draw(st.integers(0, 2**32))), LINEAR[family]

    def piece() -> str:
        parts = rng.choice(layers).split(".")
        return ".".join(parts[rng.randrange(len(parts)) :])

    options: dict[str, Any] = {"target_modules": [piece() for _ in range(rng.randint(1, 3))]}
    if rng.random() < 0.6:
        options["layers_to_transform"] = rng.choice([0, 1, [0], [1], [0, 1]])
        if rng.random() < 0.5:
            near = [PATTERN[family], "layer", rng.choice(layers).split(".")[1]]
            options["layers_pattern"] = rng.choice([*near, near])
    if rng.random() < 0.6:
        name = rng.choice(layers)
        wide = rf".*\.{name.rsplit('.', 1)[-1]}", ".*0.*", re.escape(name)
        options["exclude_modules"] = rng.choice([[piece()], [piece(), piece()], *wide])
    return family, options


@settings(max_examples=400, deadline=None, derandomize=True, database=None,
          suppress_health_check=list(HealthCheck))  # fmt: skip
@given(choices())
def test_random_choices_mean_what_peft_means(choice: tuple[str, dict[str, Any]]):
    from peft import LoraConfig as Theirs
    from peft.tuners.tuners_utils import check_target_module_exists

    family, options = choice
    config = Theirs(**options)
    theirs = [n for n in NAMED[family] if check_target_module_exists(config, n)]
    try:
        ours = list(find_targets(MODELS[family], LoraConfig(**options)))
    except TargetError as error:
        # ours is refused: nothing is left, or an entry or an index means nothing
        said = str(error)
        assert not theirs or any(option in said for option in options)
        return
    assert ours == theirs


def test_the_layer_is_the_first_number_of_a_name():
    class Expert(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            experts = [nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)]) for _ in range(3)]
            self.body = nn.ModuleDict({"layers": nn.ModuleList(experts)})

    model = get_peft_model(
        Expert(), LoraConfig(target_modules=["0", "1"], layers_to_transform=[2], r=2)
    )
    assert list(adapters_of(model)) == ["body.layers.2.0", "body.layers.2.1"]


def test_the_base_of_a_model_without_a_head_has_layers_too():
    model = get_peft_model(tiny("gpt2").transformer, LoraConfig(layers_to_transform=[1]))
    assert list(adapters_of(model)) == ["h.1.attn.c_attn"]


def test_a_rank_and_a_scale_by_hand():
    model = ours_on(
        base_of("gpt2"),
        lora_alpha=8,
        target_modules=["c_attn", "c_fc", "mlp.c_proj"],
        rank_pattern={"h.0.attn.c_attn": 1, "c_.*": 2, "c_fc": 99},  # the last is never reached
        alpha_pattern={"mlp.c_proj": 3},
    )
    found = {n.removeprefix("transformer."): v for n, v in ranks_and_scales(model).items()}
    assert found == {
        "h.0.attn.c_attn": (1, 8), "h.0.mlp.c_fc": (2, 4), "h.0.mlp.c_proj": (2, 1.5),
        "h.1.attn.c_attn": (2, 4), "h.1.mlp.c_fc": (2, 4), "h.1.mlp.c_proj": (2, 1.5),
    }  # fmt: skip
    sizes = {"attn.c_attn": 16 + 48, "mlp.c_fc": 16 + 64, "mlp.c_proj": 64 + 16}
    expected = sum(r * sizes[n[4:]] for n, (r, _) in found.items())
    assert model.get_nb_trainable_parameters()[0] == expected


@pytest.mark.parametrize("exclude", [["h.0.attn.c_attn"], r".*\.1\..*"])
def test_ia3_leaves_out_the_same_layers(peft: Any, exclude: Any):
    ours = get_peft_model(tiny("gpt2"), IA3Config(exclude_modules=exclude))
    with quiet():
        theirs = peft.get_peft_model(tiny("gpt2"), peft.IA3Config(exclude_modules=exclude))
    known = [n for n, m in theirs.get_base_model().named_modules() if hasattr(m, "ia3_l")]
    assert list(adapters_of(ours)) == known
    assert 0 < len(known) < 4
    with pytest.raises(TargetError, match=r"exclude_modules.*'c_atn'.*did you mean 'c_attn'"):
        get_peft_model(tiny("gpt2"), IA3Config(exclude_modules=["c_atn"]))
