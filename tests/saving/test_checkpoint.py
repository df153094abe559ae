"""Adapters on disk: what the two files hold, there and back, and a save whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import CONFIG, WEIGHTS, adapted, files_of, output, shake, state_of, tiny
from safetensors.torch import load_file

import minipeft
from minipeft import LoraConfig, PeftModel, get_peft_model
from minipeft.checks.errors import AdapterNameError, CheckpointError, ConfigTypeError, StateError
from minipeft.lab.counting import meta_model

# --- there and back ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["gpt2", "llama", "t5", "bert", "mlp"])
def test_saved_and_loaded_the_model_answers_the_same(name: str, dtype: torch.dtype, tmp_path: Path):
    options = {"target_modules": "all-linear", "r": 3, "lora_alpha": np.float32(7)}
    model = adapted(name, dtype, task_type="SEQ_CLS" if name == "bert" else None, **options)
    folder = tmp_path / "deep" / "er"
    model.save_pretrained(folder)
    assert sorted(files_of(tmp_path)) == [f"deep/er/{CONFIG}", f"deep/er/{WEIGHTS}"]
    again = PeftModel.from_pretrained(tiny(name, dtype), folder)
    if name != "mlp" or dtype == torch.float32:  # its inputs are float32
        assert torch.equal(output(again, name), output(model, name))
    mine, theirs = (minipeft.get_peft_model_state_dict(m) for m in (model, again))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)


def test_the_files_hold_what_the_format_says(folder: Path):
    tensors = load_file(folder / WEIGHTS)
    assert {key: tuple(tensor.shape) for key, tensor in tensors.items()} == {
        f"base_model.model.transformer.h.{i}.attn.c_attn.lora_{x}.weight": shape
        for i in (0, 1)
        for x, shape in (("A", (4, 16)), ("B", (48, 4)))
    }
    values = json.loads((folder / CONFIG).read_text())
    chosen = {"peft_type": "LORA", "r": 4, "target_modules": ["c_attn"], "inference_mode": True,
              "fan_in_fan_out": True}  # fmt: skip
    assert {key: values[key] for key in chosen} == chosen
    assert (folder / CONFIG).stat().st_mode & 0o777 == 0o644


def test_a_loaded_adapter_is_frozen_unless_it_is_to_be_trained(folder: Path):
    for trainable in (False, True):
        model = PeftModel.from_pretrained(tiny("gpt2"), str(folder), "x", is_trainable=trainable)
        names = {n for n, p in model.named_parameters() if p.requires_grad}
        assert names == (
            {n for n, _ in model.named_parameters() if "lora_" in n} if trainable else set()
        )
    for wrong in ("yes", 1, None):
        base = tiny("gpt2")
        before = state_of(base)
        with pytest.raises(ConfigTypeError, match="is_trainable must be True or False, got"):
            PeftModel.from_pretrained(base, folder, is_trainable=wrong)
        assert state_of(base) == before


def test_loading_twice_under_one_name_or_around_a_wrapped_model_is_refused(folder: Path):
    model = PeftModel.from_pretrained(tiny("gpt2"), folder)
    before = state_of(model)
    with pytest.raises(AdapterNameError, match="there is an adapter 'default' already"):
        model.load_adapter(folder, "default")
    with pytest.raises(StateError, match=r"has adapters already.*load_adapter\(folder, name\)"):
        PeftModel.from_pretrained(model, folder, "other")
    with pytest.raises(AdapterNameError, match="cannot name an adapter"):
        model.load_adapter(folder, "c_attn")
    assert state_of(model) == before


def test_state_dicts_are_copied_in_whole_or_not_at_all():
    model, other = adapted("gpt2"), adapted("gpt2")
    shake(other, seed=8)
    given = minipeft.get_peft_model_state_dict(other)
    key = next(iter(given))
    before = state_of(model)
    for wrong, said in (
        ({k: t for k, t in given.items() if k != key}, "lacks 1 tensors that this model needs"),
        ({**given, "base_model.model.x": given[key]}, "has 1 tensors that have no place"),
        ({**given, list(given)[-1]: torch.zeros(2, 2)}, r"of shape \(2, 2\), this model needs"),
    ):
        with pytest.raises(CheckpointError, match=said):
            minipeft.set_peft_model_state_dict(model, wrong)
        assert state_of(model) == before
    minipeft.set_peft_model_state_dict(model, given)
    assert torch.equal(output(model, "gpt2"), output(other, "gpt2"))
    with pytest.raises(AdapterNameError, match="there is no adapter 'nobody'"):
        minipeft.get_peft_model_state_dict(model, "nobody")


# --- saving --------------------------------------------------------------------------------------


def test_saving_onto_a_file_or_without_data_writes_nothing(tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match="is a file; give a folder to save into"):
        adapted("gpt2").save_pretrained(tmp_path / "file")
    with pytest.raises(CheckpointError, match="on the meta device: it has shapes but no data"):
        get_peft_model(meta_model("gpt2"), LoraConfig()).save_pretrained(tmp_path / "meta")
    assert files_of(tmp_path) == {"file": b"mine"}
    assert not (tmp_path / "meta").exists()


def test_a_save_that_breaks_off_leaves_the_old_files(folder: Path, monkeypatch: pytest.MonkeyPatch):
    before, model = files_of(folder), adapted("gpt2")
    shake(model, seed=8)

    def full(tensors: Any, path: str, metadata: Any = None) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(minipeft.saving.checkpoint, "save_file", full)
    said = "cannot be written to .*no space left.*An adapter that was there is there still"
    with pytest.raises(CheckpointError, match=said):
        model.save_pretrained(folder)
    assert files_of(folder) == before
