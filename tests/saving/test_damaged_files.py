"""Damaged files and adapters for another base: every one is refused, and says what is wrong.

A refused load leaves the base model as it was, to the bit, and writes nothing.
"""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from conftest import CONFIG, VOCAB, WEIGHTS, adapted, files_of, state_of, tiny
from safetensors.torch import load_file, save_file

from minipeft import MinipeftError, PeftModel, PromptTuningConfig, get_peft_model
from minipeft.checks.errors import CheckpointError, CheckpointNotFoundError, ConfigTypeError
from minipeft.saving import digests as proof

NotFound = CheckpointNotFoundError


def refused(folder: Any, error: type[Exception], said: str, other_base: Any = None) -> None:
    """Loading is refused both ways, and changes neither a model nor the disk."""
    base, model = other_base or tiny("gpt2"), adapted("gpt2")
    around = folder.parent if isinstance(folder, Path) else Path("no/such")
    before = state_of(base), state_of(model), files_of(around)
    with pytest.raises(error, match=said) as caught:
        PeftModel.from_pretrained(base, folder)
    assert isinstance(caught.value, MinipeftError)
    if not other_base:
        with pytest.raises(error, match=said):
            model.load_adapter(folder, "other")
    assert (state_of(base), state_of(model), files_of(around)) == before
    assert list(model.peft_config) == ["default"]


def edit(folder: Path, **changes: Any) -> None:
    """Change options in the folder's config."""
    values = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**values, **changes}))


# --- the folder ----------------------------------------------------------------------------------


def test_no_folder(tmp_path: Path):
    refused(tmp_path / "none", NotFound, r"there is no folder '.*none'.*holds adapter_config.json")
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file", NotFound, "file is a file; give the folder that holds")
    refused("no_such_adapter", NotFound, "there is no folder 'no_such_adapter'")
    refused("a/b/c/d", NotFound, "there is no folder 'a/b/c/d'")
    assert issubclass(NotFound, FileNotFoundError)


@pytest.mark.parametrize("given", [None, 3, "", b"folder", ["folder"]], ids=str)
def test_what_is_no_folder_at_all(given: Any):
    refused(given, ConfigTypeError, r"loaded from a folder \(a string or a Path\), got")


def test_an_empty_folder_and_missing_files(folder: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", NotFound, "has no adapter_config.json, .*; there are none")
    weights = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).unlink()
    refused(folder, NotFound, "has no adapter_model.safetensors; there are 'adapter_config.json'")
    (folder / "adapter_model.bin").write_bytes(weights)
    refused(folder, NotFound, "is a pickle, which can run code when loaded, .*Hugging Face peft")
    (folder / WEIGHTS).mkdir()
    refused(folder, NotFound, "has no adapter_model.safetensors")
    (folder / CONFIG).unlink()
    refused(folder, NotFound, "has no adapter_config.json, so it is no adapter's folder; there are")


# --- the config ----------------------------------------------------------------------------------

CONFIG_DAMAGE: list[tuple[str | bytes, str]] = [
    ("", "is not JSON"),
    ("{", "is not JSON"),
    ("[" * 100_000, "is not JSON"),
    (b"\xff\xfe\x00", "is not JSON"),
    ("[1, 2]", "must name its method as peft_type, one of .*; got None"),
    ("3", "must name its method as peft_type"),
    ("{}", "must name its method as peft_type"),
    ('{"peft_type": "LORO"}', "one of .*; got 'LORO'"),
    ('{"peft_type": ["LORA"]}', r"one of .*; got \['LORA'\]"),
    ('{"peft_type": "LORA", "r": "8"}', r"r must be a positive integer, got '8' \(str\)"),
    ('{"peft_type": "LORA", "r": 1e999}', "r must be a positive integer, got inf"),
    ('{"peft_type": "LORA", "lora_alpha": NaN}', "lora_alpha must be a number"),
    ('{"peft_type": "LORA", "target_modules": ""}', "target_modules must not be an empty string"),
    ('{"peft_type": "LORA", "use_dora": 1}', r"use_dora must be True or False, got 1 \(int\)"),
    ('{"peft_type": "LORA", "init_lora_weights": "olora"}', "init_lora_weights must be one of"),
    (
        '{"peft_type": "LORA", "init_lora_weights": "loftq", "loftq_config": {"loftq_bits": 3}}',
        "loftq_bits must be 4, 8 or 2, got 3",
    ),
    ('{"peft_type": "LORA", "loftq_config": {"bits": 4}}', "does nothing with init_lora_weights"),
    (
        '{"peft_type": "LORA", "trainable_token_indices": [1]}',
        "trainable_token_indices=.* is not available",
    ),
    (
        '{"peft_type": "LORA", "lora_bias": true}',
        "asks for what .*LoraConfig does not have: lora_b",
    ),
    ('{"peft_type": "LORA", "eva_config": {"a": 1}}', r"does not have: eva_config=\{'a': 1\}"),
]


@pytest.mark.parametrize(("text", "said"), CONFIG_DAMAGE, ids=lambda v: str(v)[:30])
def test_a_damaged_config_is_named(folder: Path, text: str | bytes, said: str):
    (folder / CONFIG).write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(folder, CheckpointError, said)


def test_what_peft_writes_beside_and_asks_for_nothing_is_accepted(folder: Path):
    nothing = {"eva_config": None, "lora_bias": False, "qalora_group_size": 16, "corda_config": {}}
    notes = {"peft_version": "9", "auto_mapping": {"base_model_class": "X"}, "revision": "main"}
    edit(folder, **nothing, **notes)
    PeftModel.from_pretrained(tiny("gpt2"), folder)


# --- the weights ---------------------------------------------------------------------------------

LENGTHS = [0, 1, 7, 8, 9, 100, 500, 2000, -1000, -100, -1]


@pytest.mark.parametrize("length", LENGTHS)
def test_a_file_cut_off_anywhere_is_damaged(folder: Path, length: int):
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[:length])
    refused(folder, CheckpointError, "is damaged or cut off .* save or download the adapter again")


@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_are_damaged(folder: Path, seed: int):
    size = (folder / WEIGHTS).stat().st_size
    (folder / WEIGHTS).write_bytes(random.Random(seed).randbytes(size))
    refused(folder, CheckpointError, "is damaged or cut off")


def change(folder: Path, how: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / WEIGHTS)
    how(tensors)
    save_file(tensors, folder / WEIGHTS)


def first(tensors: dict[str, torch.Tensor]) -> str:
    return sorted(tensors)[0]  # ...h.0...lora_A.weight, (4, 16)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (
            lambda t: t.pop(first(t)),
            r"lacks 1 tensors that this model needs: '.*h.0.*lora_A.weight'",
        ),
        (
            lambda t: t.update(x=torch.ones(1)),
            "has 1 tensors that have no place in this model: 'x'",
        ),
        (
            lambda t: t.update({first(t): torch.ones(4, 15)}),
            r"of shape \(4, 15\), .*needs \(4, 16\)",
        ),
        (
            lambda t: t.update({first(t): torch.ones(16, 4)}),
            r"of shape \(16, 4\), .*needs \(4, 16\)",
        ),
        (lambda t: t.update({first(t): torch.ones(64)}), r"of shape \(64,\), this model needs"),
        (
            lambda t: t.update({first(t): t.pop(first(t)).int()}),
            r"holds torch.int32 for .*, this model needs torch.float32",
        ),
        (lambda t: t.clear(), "lacks 4 tensors that this model needs"),
    ],
    ids=range(7),
)
def test_tensors_that_do_not_fit(folder: Path, how: Callable[..., Any], said: str):
    change(folder, how)
    refused(folder, CheckpointError, said)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
def test_numbers_of_eight_bits_are_read_or_named(folder: Path, dtype: torch.dtype):
    change(folder, lambda t: t.update({first(t): t[first(t)].to(dtype)}))
    PeftModel.from_pretrained(tiny("gpt2"), folder)
    nan = torch.full((4, 16), float("nan")).to(dtype)
    change(folder, lambda t: t.update({first(t): nan}))
    refused(folder, CheckpointError, "lora_A.weight' holds NaN or infinity")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_none(folder: Path, value: float):
    def spoil(tensors: dict[str, Any]) -> None:
        next(iter(tensors.values())).view(-1)[3] = value

    change(folder, spoil)
    refused(folder, CheckpointError, "lora_A.weight' holds NaN or infinity")


def test_a_rank_that_is_not_the_files(folder: Path):
    edit(folder, r=8, base_model_name_or_path="someone/gpt2")
    refused(folder, CheckpointError, r"needs \(8, 16\) \(it was made for 'someone/gpt2'\)")


def other_gpt2(**options: int) -> Any:
    sizes = {"vocab_size": VOCAB, "n_embd": 16, "n_head": 2, "n_layer": 2, **options}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes))


@pytest.mark.parametrize("what", ["config", "sha256"])
def test_an_entry_that_is_no_mapping_is_damaged(folder: Path, what: str):
    """Made by hand, with a hash that is right."""
    told: dict[str, Any] = {"config": {}, "sha256": {}}
    if what == "config":
        told["config"] = []
    told["sha256"] = {CONFIG: proof.of_config(told["config"])}
    if what == "sha256":
        told["sha256"] = "adapter_config.json"
    header = {"format": "pt", proof.KEY: json.dumps(told)}
    save_file(load_file(folder / WEIGHTS), folder / WEIGHTS, metadata=header)
    refused(folder, CheckpointError, "is damaged: the config in its header is not the one that")


def test_virtual_tokens_beyond_the_file_take_no_memory(tmp_path: Path):
    """900,000 tokens of a model that sets no limit: 14 million numbers, for a file of 48."""
    model = get_peft_model(tiny("bloom"), PromptTuningConfig(num_virtual_tokens=3))
    model.save_pretrained(tmp_path)
    edit(tmp_path, num_virtual_tokens=900_000)
    said = r"holds 48 numbers, and its adapter_config.json asks for 14,400,000"
    with pytest.raises(CheckpointError, match=said):
        PeftModel.from_pretrained(tiny("bloom"), tmp_path)


def test_a_base_of_another_name_is_doubted(folder: Path):
    edit(folder, base_model_name_or_path="bigscience/bloom-560m")
    for name, said in (("bigscience/bloomz-560m", True), ("mine/Bloom-560M", False), ("", False)):
        base = tiny("gpt2")
        base.config._name_or_path = name
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            PeftModel.from_pretrained(base, folder)
        texts = [str(w.message) for w in caught]
        assert [t for t in texts if "was made for 'bigscience/bloom-560m', and" in t] == texts
        assert len(texts) == said
    base.config._name_or_path = str(folder)  # of a folder the name says nothing
    model = tiny("gpt2")
    model.config._name_or_path = str(folder)
    PeftModel.from_pretrained(model, folder)


def test_an_adapter_for_another_base(folder: Path):
    fewer, more = other_gpt2(n_layer=1), other_gpt2(n_layer=3)
    size = "it stands beside 2 numbered layers, here they are"
    said = f"has 2 tensors that have no place in this model.*{size} 1"
    refused(folder, CheckpointError, said, fewer)
    refused(folder, CheckpointError, f"lacks 2 tensors that this model needs.*{size} 3", more)
    said = r"needs \(4, 32\); it was made for a model of other widths"
    refused(folder, CheckpointError, said, other_gpt2(n_embd=32))
    said = "does not fit this LlamaForCausalLM: target_modules=.*'c_attn'.* matches no module"
    refused(folder, CheckpointError, said, tiny("llama"))
    refused(folder, CheckpointError, "does not fit this MLP", tiny("mlp"))
    edit(folder, target_modules=None)
    said = (
        "lacks .* has 4 tensors that have no place.*with other names, so for another architecture"
    )
    refused(folder, CheckpointError, said, tiny("llama"))
