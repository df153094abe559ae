"""add_weighted_adapter against Hugging Face peft, its files, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import output, shake, state_of, tiny
from kbit_models import quiet
from peft_pairs import BOUNDS, adapters_of, their_state
from test_peft_equality import distance
from test_weighted_adapter import CONFIGS, NAMES, WEIGHTS, several

import minipeft
from minipeft import IA3Config, LoraConfig, MinipeftError, PeftModel, get_peft_model
from minipeft.checks.errors import AdapterNameError, ConfigError, ConfigTypeError, StateError


def theirs_like(peft: Any, ours: Any, kinds: list[dict[str, Any]]) -> Any:
    """peft's adapters with the same numbers."""
    with quiet():
        model = peft.get_peft_model(tiny("gpt2"), peft.LoraConfig(**kinds[0]), "a").eval()
        for name, options in zip(NAMES[1:], kinds[1:], strict=True):
            model.add_adapter(name, peft.LoraConfig(**options))
        for name in NAMES:
            state = minipeft.get_peft_model_state_dict(ours, name)
            assert not peft.set_peft_model_state_dict(model, state, name).unexpected_keys
    return model


PEFT = [
    ("alike", "cat", None), ("alike", "svd", None), ("alike", "svd", 5), ("alike", "linear", None),
    ("other ranks", "cat", None), ("other ranks", "svd", None), ("other ranks", "svd", 2),
    ("other targets", "cat", None), ("other targets", "svd", None), ("embedding", "cat", None),
    ("embedding", "svd", 2),
]  # fmt: skip


@pytest.mark.parametrize(("kinds", "combination", "rank"), PEFT, ids=str)
def test_it_does_what_pefts_does(peft: Any, kinds: str, combination: str, rank: int | None):
    if kinds == "alike":  # peft keeps the first one's use_rslora, which changes its scale to √r
        configs = [{k: v for k, v in c.items() if k != "use_rslora"} for c in CONFIGS[kinds]]
    else:
        configs = CONFIGS[kinds]
    ours = several(configs)
    theirs = theirs_like(peft, ours, configs)
    options = {} if rank is None else {"svd_rank": rank}
    for model in (ours, theirs):
        with quiet():
            model.add_weighted_adapter(NAMES, WEIGHTS, "sum", combination, **options)
        model.set_adapter("sum")
    # Cutting off singular values divides rounding by the gap to the first that is left out.
    bound = BOUNDS[0] * (4 if combination == "svd" else 1)
    assert distance(output(theirs, "gpt2"), output(ours, "gpt2")) <= bound
    assert distance(output(tiny("gpt2"), "gpt2"), output(ours, "gpt2")) > 0.01


@pytest.mark.parametrize("kinds", ["other layers", "patterns", "embedding"])
def test_files_travel_both_ways(peft: Any, tmp_path: Path, kinds: str):
    ours = several(CONFIGS[kinds])
    ours.add_weighted_adapter(NAMES, WEIGHTS, "sum", "cat")
    ours.set_adapter("sum")
    ours.save_pretrained(tmp_path, selected_adapters=["sum"])
    again = PeftModel.from_pretrained(tiny("gpt2"), tmp_path / "sum")
    assert torch.equal(output(again, "gpt2"), output(ours, "gpt2"))
    with quiet():
        read = peft.PeftModel.from_pretrained(tiny("gpt2"), tmp_path / "sum").eval()
    assert distance(output(ours, "gpt2"), output(read, "gpt2")) <= BOUNDS[0]
    assert their_state(peft, read).keys() == minipeft.get_peft_model_state_dict(ours, "sum").keys()


def test_a_sum_made_by_peft_is_read(peft: Any, tmp_path: Path):
    configs = CONFIGS["other targets"]
    theirs = theirs_like(peft, several(configs), configs)
    with quiet():
        theirs.add_weighted_adapter(NAMES, WEIGHTS, "sum", "cat")
        theirs.set_adapter("sum")
        theirs.save_pretrained(tmp_path, selected_adapters=["sum"])
    ours = PeftModel.from_pretrained(tiny("gpt2"), tmp_path / "sum")
    assert distance(output(theirs, "gpt2"), output(ours, "gpt2")) <= BOUNDS[0]


# --- refusals ------------------------------------------------------------------------------------

NAN, INF = float("nan"), float("inf")
BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"adapters": ["a", "zz"]}, AdapterNameError, r"'zz'.*'a', 'b'"),
    ({"adapters": []}, MinipeftError, r"adapters"),
    ({"adapters": []} | {"weights": []}, MinipeftError, r"adapters"),
    ({"adapters": ["a", 3]}, MinipeftError, r"3"),
    ({"adapters": None}, MinipeftError, r"None"),
    ({"weights": [1.0]}, MinipeftError, r"weights.*'a', 'b'.*\[1\.0\]"),
    ({"weights": [1.0, 2.0, 3.0]}, MinipeftError, r"weights.*'a', 'b'.*\[1\.0, 2\.0, 3\.0\]"),
    ({"weights": [1.0, NAN]}, MinipeftError, r"weights.*nan"),
    ({"weights": [1.0, INF]}, MinipeftError, r"weights.*inf"),
    ({"weights": [1.0, "2"]}, MinipeftError, r"weights.*'2'"),
    ({"weights": [1.0, True]}, MinipeftError, r"weights.*True"),
    ({"weights": [1.0, None]}, MinipeftError, r"weights.*None"),
    ({"weights": 1.0}, MinipeftError, r"weights.*1\.0"),
    ({"adapter_name": "a"}, AdapterNameError, r"'a' already"),
    ({"adapter_name": "x.y"}, AdapterNameError, r"'x\.y'"),
    ({"adapter_name": ""}, AdapterNameError, r"''"),
    ({"adapter_name": "c_attn"}, AdapterNameError, r"'c_attn'"),
    ({"combination_type": "catt"}, MinipeftError, r"'svd'.*'catt'.*did you mean 'cat'"),
    ({"combination_type": "ties"}, MinipeftError, r"combination_type.*'ties'"),
    ({"combination_type": None}, MinipeftError, r"combination_type.*None"),
    ({"svd_rank": 0}, MinipeftError, r"svd_rank.*\b0\b"),
    ({"svd_rank": -1}, MinipeftError, r"svd_rank.*-1"),
    ({"svd_rank": True}, MinipeftError, r"svd_rank.*True"),
    ({"svd_rank": 2.0}, MinipeftError, r"svd_rank.*2\.0"),
    ({"combination_type": "linear"}, MinipeftError, r"linear.*rank"),  # 4 and 2 do not add up
]


def call(model: Any, **changed: Any) -> None:
    options = {"adapters": ["a", "b"], "weights": [1.0, 2.0], "adapter_name": "new", **changed}
    model.add_weighted_adapter(**options)


@pytest.mark.parametrize(("changed", "error", "said"), BAD, ids=str)
def test_a_mistake_is_named_and_changes_nothing(
    changed: dict[str, Any], error: type[Exception], said: str
):
    model = several(CONFIGS["other ranks"])
    before = state_of(model)
    with pytest.raises(error, match=said):
        call(model, **changed)
    assert state_of(model) == before
    assert list(model.peft_config) == NAMES
    call(model)  # and the right call works after it


def test_while_one_is_merged():
    model = several(CONFIGS["other ranks"])
    model.merge_adapter()
    before = state_of(model)
    with pytest.raises(StateError, match=r"merged.*unmerge_adapter\(\)"):
        call(model)
    assert state_of(model) == before


@pytest.mark.parametrize(
    "other", [IA3Config(), LoraConfig(r=4, use_dora=True)], ids=["ia3", "dora"]
)
@pytest.mark.parametrize("combination", ["cat", "svd", "linear"])
def test_what_has_no_sum_is_refused(other: Any, combination: str):
    model = get_peft_model(tiny("gpt2"), LoraConfig(r=4), "a")
    model.add_adapter("b", other)
    shake(model)
    before = state_of(model)
    with pytest.raises(MinipeftError, match=r"LoRA.*'b'.*(IA3|DoRA|use_dora)"):
        call(model, combination_type=combination)
    assert state_of(model) == before


def test_the_same_name_twice_counts_twice_as_in_peft():
    model = several(CONFIGS["other ranks"])
    one = {p: m.delta_weight().detach() for p, m in adapters_of(model, "a").items()}
    model.add_weighted_adapter(["a", "a"], [1.0, 2.0], "new", "cat")
    for path, method in adapters_of(model, "new").items():
        assert torch.allclose(method.delta_weight(), 3 * one[path], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [ConfigError, ConfigTypeError, AdapterNameError, StateError])
def test_every_refusal_is_ours(kind: type[Exception]):
    assert issubclass(kind, MinipeftError)
