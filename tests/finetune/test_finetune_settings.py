"""The settings of a run: checked when made, written and read back as TOML, defaults by method."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
from conftest import tiny

import minipeft
from minipeft.checks.errors import ConfigError, ConfigTypeError
from minipeft.finetune.defaults import METHODS, learning_rate, method_config, steps_of
from minipeft.finetune.settings import Settings, made, read_toml, to_toml

NEEDED = {"base": "tiny-llama", "data": "rows.jsonl", "output": "out"}


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"bse": "x"}, ConfigError, "no setting 'bse'; did you mean 'base'?"),
        ({"base": None}, ConfigError, "a run needs --base"),
        ({"base": ""}, ConfigTypeError, "base must be a non-empty string"),
        ({"r": 0}, ConfigError, "r must be a positive integer, got 0"),
        ({"r": "8"}, ConfigTypeError, "r must be a positive integer, got '8' (str)"),
        ({"r": True}, ConfigTypeError, "r must be a positive integer"),
        ({"lr": 0}, ConfigError, "lr must be a number in (0, infinity), got 0"),
        ({"lr": float("nan")}, ConfigError, "lr must be a number"),
        ({"warmup": 1}, ConfigError, "warmup must be a number in [0, 1)"),
        ({"quantize": "false"}, ConfigTypeError, "quantize must be true or false"),
        ({"method": "lroa"}, ConfigError, "did you mean 'lora'"),
        ({"kind": "texts"}, ConfigError, "did you mean 'text'"),
        ({"device": "cuda:1"}, ConfigError, "device must be one of"),
        ({"target": "q_proj"}, ConfigTypeError, "target must be a list"),
        ({"option": ["r=8"]}, ConfigTypeError, "option must be a table"),
        ({"column": {"prompt": 3}}, ConfigTypeError, "column must map names to columns"),
        ({"batch_size": 10, "accumulate": 4}, ConfigError, "a multiple of accumulate"),
        ({"max_length": 1}, ConfigError, "max_length must be an integer of at least 2"),
        ({"keep": 0}, ConfigError, "keep must be a positive integer"),
        ({"seed": -1}, ConfigError, "seed must be an integer of at least 0"),
    ],
)
def test_what_is_refused(given: dict[str, Any], error: type[Exception], said: str):
    with pytest.raises(error) as caught:
        made({**NEEDED, **given})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_survive_toml(tmp_path: Any):
    settings = made({
        **NEEDED, "r": 4, "lr": 3e-3, "target": ["q_proj", "v_proj"], "packing": False,
        "option": {"lora_dropout": 0.1, "use_rslora": True, "rank_pattern": {"q_proj": 2}},
        "column": {"prompt": "question"}, "data": 'C:\\rows "of mine".jsonl', "alpha": 8,
    })  # fmt: skip
    file = tmp_path / "run.toml"
    file.write_text(to_toml(settings, "a title"), encoding="utf-8")
    assert made(read_toml(file)) == settings
    assert asdict(made(read_toml(file)))["steps"] is None
    assert file.read_text(encoding="utf-8").startswith("# a title\n")


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"base = ", "is not TOML"), (b"a = 1\na = 2", "is not TOML"), (b"\xff", "cannot be read")],
)
def test_a_broken_file_is_named(tmp_path: Any, content: bytes, said: str):
    file = tmp_path / "run.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=said) as caught:
        read_toml(file)
    assert str(file) in str(caught.value)
    with pytest.raises(ConfigError, match="no file"):
        read_toml(tmp_path / "other.toml")


@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_config_that_fits_a_model(method: str, classes: bool):
    config = method_config(method, classes=classes)
    assert config.task_type == ("SEQ_CLS" if classes else "CAUSAL_LM")
    if not classes:
        family = "gpt2" if method == "bitfit" else "llama"  # a Llama has no biases
        trained, _ = minipeft.get_peft_model(tiny(family), config).get_nb_trainable_parameters()
        assert trained > 0


def test_bitfit_on_a_llama_is_refused_by_name():
    with pytest.raises(minipeft.MinipeftError, match="bias"):
        minipeft.get_peft_model(tiny("llama"), method_config("bitfit", classes=False))


def test_lora_has_its_rank_and_others_have_none():
    config: Any = method_config("lora", classes=False, r=4, option={"lora_dropout": 0.25})
    assert (config.r, config.lora_alpha, config.lora_dropout) == (4, 8, 0.25)
    config = method_config("dora", classes=False, r=4, alpha=1.0, target=["q_proj"])
    assert (config.lora_alpha, config.use_dora, config.target_modules) == (1.0, True, ["q_proj"])
    assert method_config("lora", classes=False, target=["all-linear"]).target_modules == (  # type: ignore[attr-defined]
        "all-linear"
    )
    with pytest.raises(ConfigError, match="ia3 has neither"):
        method_config("ia3", classes=False, r=4)
    with pytest.raises(ConfigTypeError, match="lora_dropout"):
        method_config("lora", classes=False, option={"lora_dropot": 0.1})
    with pytest.raises(ConfigError, match="did you mean 'lora'"):
        method_config("lorra", classes=False)


def test_rates_and_steps_by_hand():
    assert learning_rate("lora", 768) == 1e-3
    assert learning_rate("lora", 4096) == 1.9e-4  # 1e-3 · 768/4096 = 1.875e-4, two digits
    assert learning_rate("bitfit", 128) == 0.03
    assert steps_of(3.0, rows=100, batch_size=16) == 19  # 300/16 = 18.75
    assert steps_of(0.001, rows=10, batch_size=16) == 1


def test_help_is_there_for_every_setting():
    from dataclasses import fields

    for each in fields(Settings):
        assert each.metadata["help"]
        assert each.metadata["panel"]
