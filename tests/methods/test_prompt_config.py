"""What a config of virtual tokens accepts, what it refuses, and how many parameters it gives."""

from __future__ import annotations

import inspect
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import state_of, tiny
from prompt_models import KINDS, V, config

from minipeft import (
    PeftType,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptEncoderReparameterizationType,
    PromptTuningConfig,
    PromptTuningInit,
    PTuningV2Config,
    get_peft_model,
)
from minipeft.checks.errors import ConfigError, ConfigTypeError, MinipeftWarning
from minipeft.lab.counting import count
from minipeft.methods.virtual_tokens import SIZES

PROMPT, ENCODER, PREFIX = PromptTuningConfig, PromptEncoderConfig, PrefixTuningConfig
TEXT = {"prompt_tuning_init": "TEXT", "prompt_tuning_init_text": "Is it good?"}
LSTM = {"encoder_reparameterization_type": "LSTM"}

REFUSED: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    (PROMPT, {"num_virtual_tokens": 0}, ConfigError, "num_virtual_tokens must be a positive"),
    (PREFIX, {"num_virtual_tokens": -1}, ConfigError, "positive integer, got -1"),
    (ENCODER, {"num_virtual_tokens": 2.0}, ConfigTypeError, r"integer, got 2.0 \(float\)"),
    (PROMPT, {"num_virtual_tokens": True}, ConfigTypeError, r"integer, got True \(bool\)"),
    (PROMPT, {"num_virtual_tokens": None}, ConfigTypeError, "integer, got None"),
    *((PROMPT, {size: 0}, ConfigError, f"{size} must be a positive integer") for size in SIZES),
    *((PREFIX, {size: "2"}, ConfigTypeError, f"{size} must be a positive") for size in SIZES),
    (PROMPT, {"num_virtual_token": 3}, ConfigTypeError, "did you mean 'num_virtual_tokens'"),
    (PROMPT, {"prompt_tuning_init": "HARD"}, ConfigError, "one of 'RANDOM', 'TEXT', 'SAMPLE_VOC"),
    (PROMPT, {"prompt_tuning_init": "text"}, ConfigError, r"got 'text' \(str\)"),
    (PROMPT, {"prompt_tuning_init": 1}, ConfigError, r"got 1 \(int\)"),
    (PROMPT, {**TEXT}, ConfigTypeError, "tokenizer_name_or_path must be a non-empty string"),
    (
        PROMPT,
        {"prompt_tuning_init": "TEXT", "tokenizer_name_or_path": "gpt2"},
        ConfigTypeError,
        "prompt_tuning_init_text must be a non-empty string",
    ),
    (PROMPT, {**TEXT, "prompt_tuning_init": "RANDOM"}, ConfigError, "with prompt_tuning_init='TE"),
    (PROMPT, {"tokenizer_kwargs": {"use_fast": True}}, ConfigError, "tokenizer_kwargs is used wit"),
    (PROMPT, {"tokenizer_name_or_path": 5}, ConfigTypeError, "must be a non-empty string, got 5"),
    (
        PROMPT,
        {**TEXT, "tokenizer_name_or_path": "gpt2", "tokenizer_kwargs": ["use_fast"]},
        ConfigTypeError,
        "tokenizer_kwargs must be a dict",
    ),
    (ENCODER, {"encoder_reparameterization_type": "GRU"}, ConfigError, "must be one of 'MLP', 'LS"),
    (ENCODER, {"encoder_reparameterization_type": None}, ConfigError, "must be one of 'MLP', 'L"),
    (ENCODER, {"encoder_hidden_size": 0}, ConfigError, "encoder_hidden_size must be a positive"),
    (ENCODER, {"encoder_hidden_size": 1.5}, ConfigTypeError, "encoder_hidden_size must be"),
    (ENCODER, {**LSTM, "encoder_num_layers": 0}, ConfigError, "encoder_num_layers must be"),
    (ENCODER, {**LSTM, "encoder_num_layers": "2"}, ConfigTypeError, "encoder_num_layers must be"),
    (ENCODER, {**LSTM, "encoder_dropout": 1.0}, ConfigError, r"encoder_dropout .*\[0, 1\), got 1"),
    (ENCODER, {**LSTM, "encoder_dropout": -0.1}, ConfigError, "encoder_dropout must be a number"),
    (ENCODER, {**LSTM, "encoder_dropout": "0"}, ConfigTypeError, "encoder_dropout must be a num"),
    (PREFIX, {"prefix_projection": 1}, ConfigTypeError, "prefix_projection must be True or False"),
    (PREFIX, {"encoder_hidden_size": -4}, ConfigError, "encoder_hidden_size must be a positive"),
    (PREFIX, {"init_weights": "ones"}, ConfigError, "init_weights must be one of None, 'zero'"),
    (PREFIX, {"init_weights": False}, ConfigError, "init_weights must be one of None, 'zero'"),
    (PTuningV2Config, {"prefix_projection": "no"}, ConfigTypeError, "prefix_projection must be"),
    (PROMPT, {"target_modules": ["c_attn"]}, ConfigTypeError, "has no option 'target_modules'"),
    (PROMPT, {"task_type": "CAUSAL"}, ConfigError, "task_type must be None or one of"),
]


@pytest.mark.parametrize(("made", "options", "error", "said"), REFUSED)
def test_what_a_config_refuses(made: Any, options: Any, error: type[Exception], said: str):
    with pytest.raises(error, match=said):
        made(**{"num_virtual_tokens": V, **options})


def test_the_defaults_are_pefts(peft: Any):
    for ours in (PROMPT, ENCODER, PREFIX):
        theirs = inspect.signature(getattr(peft, ours.__name__)).parameters
        for name in inspect.signature(ours.__init__).parameters:
            if name not in ("self", "num_virtual_tokens"):
                default = getattr(theirs[name].default, "value", theirs[name].default)
                assert getattr(ours.default_of(name), "value", ours.default_of(name)) == default
    assert PTuningV2Config(num_virtual_tokens=V).peft_type == PeftType.P_TUNING_V2


def test_names_and_members_are_the_same():
    kinds = PromptEncoderReparameterizationType
    for kind in kinds:
        named = ENCODER(num_virtual_tokens=V, encoder_reparameterization_type=kind.value)
        assert named == ENCODER(num_virtual_tokens=V, encoder_reparameterization_type=kind)
        assert named.to_dict()["encoder_reparameterization_type"] == kind.value
    named = PROMPT(num_virtual_tokens=V, prompt_tuning_init="SAMPLE_VOCAB")
    assert named == PROMPT(num_virtual_tokens=V, prompt_tuning_init=PromptTuningInit.SAMPLE_VOCAB)


def test_what_the_mlp_does_not_have_warns(peft: Any):
    for option in ({"encoder_num_layers": 3}, {"encoder_dropout": 0.1}):
        with pytest.warns(
            MinipeftWarning, match=f"{next(iter(option))}=.* has no effect on the ML"
        ):
            ENCODER(num_virtual_tokens=V, **option)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ENCODER(num_virtual_tokens=V, **LSTM, **option)
    made = peft.PromptEncoderConfig(
        num_virtual_tokens=V, encoder_num_layers=3, task_type="CAUSAL_LM"
    )
    with pytest.warns(UserWarning, match="the argument `encoder_num_layers` is ignored"):
        peft.get_peft_model(tiny("gpt2"), made)


@pytest.mark.parametrize("name", ["gpt2", "llama", "t5"])
@pytest.mark.parametrize("kind", ["prompt", "mlp", "prefix", "v2"])
def test_sizes_are_read_from_the_model_or_contradict_it(name: str, kind: str):
    base = tiny(name)
    before, asked = state_of(base), config(kind)
    found = get_peft_model(tiny(name), asked).peft_config["default"]
    assert all(getattr(asked, size) is None for size in SIZES)  # the caller's own is not touched
    keys = kind in ("prefix", "v2")
    heads = 1 if name == "llama" and keys else 2  # llama: one head of keys for two of queries
    width = 8 if name == "llama" and keys else 16
    sizes = dict(zip(SIZES, (width, 2 if name == "t5" else 1, heads, 2), strict=True))
    assert {size: getattr(found, size) for size in SIZES} == sizes
    get_peft_model(tiny(name), config(kind, **sizes))
    for size, right in sizes.items():
        said = f"{size}={right + 1} does not fit this .*, which has {right}; leave {size} out"
        with pytest.raises(ConfigError, match=said):
            get_peft_model(base, config(kind, **{size: right + 1}))
        assert state_of(base) == before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["gpt2", "llama", "t5", "bert"])
def test_the_formula_is_what_is_built(name: str, kind: str):
    for more in ({}, {"encoder_hidden_size": 5} if kind in ("mlp", "lstm", "projected") else {}):
        task = "SEQ_CLS" if name == "bert" else None
        asked = config(kind, task_type=task, **more)
        built = get_peft_model(tiny(name), asked).get_nb_trainable_parameters()[0]
        assert count(tiny(name), asked).trainable == built


def test_counts_by_hand():
    # LEDGER's bloom-1b4-zh (d 2048, L 24), n = 10; the other rows are in test_golden.py
    asked = ENCODER(num_virtual_tokens=10, encoder_hidden_size=1024)
    by_hand = 10 * 2048 + (2048 * 1024 + 1024) + (1024 * 1024 + 1024) + (1024 * 2048 + 2048)
    assert count("bloom-1b4-zh", asked).trainable == by_hand == 5_267_456
    assert count("gpt2", PTuningV2Config(num_virtual_tokens=10)).trainable == 2 * 12 * 10 * 768
    one, three = (ENCODER(num_virtual_tokens=2, **LSTM, encoder_num_layers=n) for n in (1, 3))
    for asked in (one, three):
        built = get_peft_model(tiny("gpt2"), asked).get_nb_trainable_parameters()[0]
        assert count(tiny("gpt2"), asked).trainable == built


# --- where the vectors start ----------------------------------------------------------------------


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """A folder with a tokenizer of 48 words; word i is called "w<i>"."""
    import tokenizers
    import transformers

    words = {"[UNK]": 0, **{f"w{i}": i for i in range(1, 48)}}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=made).save_pretrained(tmp_path / "words")
    return tmp_path / "words"


def started(name: str, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The prompt before any training, and the model's word embedding."""
    model = get_peft_model(tiny(name), PROMPT(**options))
    prompt = model.get_base_model().prompt_encoder.adapters["default"].virtual_tokens()
    return prompt, model.get_input_embeddings().weight


@pytest.mark.parametrize(
    ("name", "v", "text", "ids"),
    [
        ("gpt2", 3, "w5 w6 w7", [5, 6, 7]),
        ("gpt2", 2, "w5 w6 w7", [5, 6]),  # too long: cut
        ("llama", 5, "w9 w8", [9, 8, 9, 8, 9]),  # too short: repeated
        ("t5", 3, "w9 w8", [9, 8, 9, 8, 9, 8]),  # 2·v rows
    ],
)
def test_a_text_to_start_from(
    name: str, v: int, text: str, ids: list[int], tokenizer: Path, peft: Any
):
    options: dict[str, Any] = {"num_virtual_tokens": v, "prompt_tuning_init": "TEXT"}
    options.update(prompt_tuning_init_text=text, tokenizer_name_or_path=str(tokenizer))
    prompt, words = started(name, **options)
    assert torch.equal(prompt, words[ids])
    assert prompt.requires_grad  # "hard" only where it starts
    task = "SEQ_2_SEQ_LM" if name == "t5" else "CAUSAL_LM"
    theirs = peft.get_peft_model(tiny(name), peft.PromptTuningConfig(task_type=task, **options))
    assert torch.equal(theirs.prompt_encoder["default"].embedding.weight, prompt)


def test_words_of_the_vocabulary_and_random_numbers():
    prompt, words = started("gpt2", num_virtual_tokens=9, prompt_tuning_init="SAMPLE_VOCAB")
    found = [(words == row).all(dim=1).nonzero().flatten().tolist() for row in prompt]
    assert all(found)
    assert len({ids[0] for ids in found}) > 1
    prompt, words = started("gpt2", num_virtual_tokens=31)
    assert not any((words == row).all(dim=1).any() for row in prompt)
    # 31·16 numbers from N(0, 1): the standard error of their mean is 0.045, of their spread 0.032
    assert abs(prompt.mean()) < 0.2
    assert abs(prompt.std() - 1) < 0.15


def test_a_path_that_is_no_tokenizer(tmp_path: Path, tokenizer: Path):
    base = tiny("gpt2")
    before = state_of(base)
    for path in (str(tmp_path), str(tmp_path / "none"), "no-such/tokenizer"):
        asked = PROMPT(num_virtual_tokens=V, **TEXT, tokenizer_name_or_path=path)
        with pytest.raises(ConfigError, match=f"'{re.escape(path)}' is no tokenizer that can be"):
            get_peft_model(base, asked)
    asked = PROMPT(
        num_virtual_tokens=V,
        prompt_tuning_init="TEXT",
        prompt_tuning_init_text=" ",
        tokenizer_name_or_path=str(tokenizer),
    )
    with pytest.raises(ConfigError, match="the text ' ' has no tokens"):
        get_peft_model(base, asked)
    assert state_of(base) == before
