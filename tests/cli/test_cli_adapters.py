"""`minipeft inspect`, `merge`, `generate`, `convert`: what they say, write, and refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import CONFIG
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from minipeft import BitFitConfig, LoraConfig, PeftModel, PrefixTuningConfig, get_peft_model
from minipeft.checks.errors import MinipeftError
from minipeft.cli.main import app
from minipeft.lab.zoo import load_base

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def lora(tmp_path_factory: Any) -> Path:
    """A LoRA on tiny-gpt2 that changes what it says."""
    folder: Path = tmp_path_factory.mktemp("adapters") / "lora"
    torch.manual_seed(0)
    model = get_peft_model(load_base("tiny-gpt2")[0], LoraConfig(r=4, lora_alpha=64))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.3 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return folder


def call(*arguments: Any, **options: Any) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)), **options, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: Any) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert isinstance(result.exception, MinipeftError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


def test_inspect_says_what_is_there(lora: Path):
    said = call("inspect", lora, "--base", "tiny-gpt2")
    stored = load_file(lora / WEIGHTS)
    numbers = sum(tensor.numel() for tensor in stored.values())
    assert f"{len(stored)}, {numbers:,} numbers, float32" in said
    assert "method:   Lora" in said
    assert "r=4, lora_alpha=64" in said
    assert "intact: all numbers are finite; all tensors are what was saved" in said
    assert said.endswith("fits tiny-gpt2\n")
    assert "fits" not in call("inspect", lora)


def test_inspect_names_damage_and_misfit(lora: Path, tmp_path: Path):
    assert "does not fit" in refused("inspect", lora, "--base", "tiny-llama")
    assert "no model" in refused("inspect", lora, "--base", str(tmp_path))
    copy = tmp_path / "copy"
    call("convert", lora, copy)
    tensors = load_file(copy / WEIGHTS)
    key = next(iter(tensors))
    tensors[key][0, 0] = float("nan")
    save_file(tensors, copy / WEIGHTS)
    assert f"{key!r} holds NaN" in refused("inspect", copy)
    (copy / WEIGHTS).write_bytes((lora / WEIGHTS).read_bytes()[:-7])
    assert "damaged or cut off" in refused("inspect", copy)
    command = [sys.executable, "-m", "minipeft.cli", "inspect", str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("minipeft: ")
    assert "Traceback" not in done.stderr
    (copy / "adapter_model.bin").write_bytes(b"x")
    (copy / WEIGHTS).write_bytes((lora / WEIGHTS).read_bytes())
    assert "a pickle, which minipeft never reads" in call("inspect", copy)


def test_inspect_knows_what_was_changed_since(lora: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    call("convert", lora, copy)
    config = json.loads((copy / CONFIG).read_text())
    (copy / CONFIG).write_text(json.dumps({**config, "lora_alpha": 8}))
    assert "edited since it was saved: lora_alpha: 64 then, 8 now" in call("inspect", copy)
    data = bytearray((copy / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (copy / WEIGHTS).write_bytes(bytes(data))
    assert "is not what was saved (its hash is another)" in refused("inspect", copy)
    save_file(load_file(lora / WEIGHTS), copy / WEIGHTS)  # as peft writes it
    assert "it has no hashes, as peft writes none" in call("inspect", copy)
    with safe_open(lora / WEIGHTS, "pt") as file:
        header = file.metadata()
    tensors = load_file(lora / WEIGHTS)
    tensors.popitem()
    save_file(tensors, copy / WEIGHTS, metadata=header)
    assert "lacks 1 tensors" in refused("inspect", copy)


def test_generate_on_a_device(lora: Path):
    given = ["generate", "--base", "tiny-gpt2", "--max-new-tokens", 3, "-p", "mia was"]
    assert call(*given, "--device", "cpu") == call(*given, "--device", "auto")
    assert "--device gpu cannot be used here (" in refused(*given, "--device", "gpu")
    if not torch.cuda.is_available():
        assert "--device cuda cannot be used here (" in refused(*given, "--device", "cuda")


def test_merge_saves_an_ordinary_model(lora: Path, tmp_path: Path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    target = tmp_path / "new" / "merged"
    call("merge", lora, "--base", "tiny-gpt2", "-o", target)
    merged = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(target)
    base, _ = load_base("tiny-gpt2")
    ids = tokenizer("mia was in rome .", return_tensors="pt")["input_ids"]
    plain = base(input_ids=ids).logits
    adapted = PeftModel.from_pretrained(base, lora)(input_ids=ids).logits
    # one product in place of two: float32's rounding
    torch.testing.assert_close(merged(input_ids=ids).logits, adapted, rtol=1e-4, atol=1e-4)
    assert (plain - adapted).abs().max() > 0.1
    assert [p.name for p in target.parent.iterdir()] == ["merged"]
    assert "exists already" in refused("merge", lora, "--base", "tiny-gpt2", "-o", target)


def test_generate_continues(lora: Path):
    prompt = "mia was in rome . where was mia ?"
    given = ["generate", "--base", "tiny-gpt2", "--max-new-tokens", 5]
    plain = call(*given, "-p", prompt)
    assert plain.strip().startswith("mia was in rome")
    assert call(*given, "-p", prompt, "--adapter", lora) != plain
    assert call(*given, input=f"{prompt}\n{prompt}\n") == plain * 2
    drawn = [call(*given, "-p", prompt, "--temperature", 3.0, "--seed", n) for n in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    narrow = call(*given, "-p", prompt, "--temperature", 3.0, "--top-p", 0.01, "--seed", 1)
    assert narrow == plain
    assert len(call(*given[:3], "--max-new-tokens", 1, "-p", prompt).split()) == 1
    assert "has none" in refused(*given, "-p", prompt, "--chat")
    assert "is empty" in refused(*given, "-p", "")
    assert call("generate", "--base", "tiny-llama", "-p", "hi", "--chat") != (
        call("generate", "--base", "tiny-llama", "-p", "hi")
    )


def test_convert_renames_and_peft_reads_it(lora: Path, tmp_path: Path, peft: Any):
    call("convert", lora, tmp_path / "all", "--name", "french")
    folder = tmp_path / "all" / "french"
    assert (folder / WEIGHTS).read_bytes() == (lora / WEIGHTS).read_bytes()
    theirs = peft.PeftModel.from_pretrained(load_base("tiny-gpt2")[0], folder)
    ours = PeftModel.from_pretrained(load_base("tiny-gpt2")[0], folder)
    ids = torch.arange(3, 20)[None]
    torch.testing.assert_close(theirs(input_ids=ids).logits, ours(input_ids=ids).logits)
    assert "holds an adapter already" in refused(
        "convert", lora, tmp_path / "all", "--name", "french"
    )
    assert "must be letters" in refused("convert", lora, tmp_path / "b", "--name", "../c")
    assert not (tmp_path / "c").exists()
    bias = get_peft_model(load_base("tiny-gpt2")[0], BitFitConfig())
    bias.save_pretrained(tmp_path / "bias")
    assert "no type for BitFit" in refused("convert", tmp_path / "bias", tmp_path / "d")
    prefix = PrefixTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM")
    get_peft_model(load_base("tiny-gpt2")[0], prefix).save_pretrained(tmp_path / "prefix")
    call("convert", tmp_path / "prefix", tmp_path / "e")
    assert (
        json.loads((tmp_path / "e" / "adapter_config.json").read_text())["num_virtual_tokens"] == 2
    )
