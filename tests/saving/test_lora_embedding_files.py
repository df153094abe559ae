"""The frozen embedding that peft writes beside an adapter: read when it is this model's own.

With "embed_tokens" or "lm_head" among the targets peft saves the layer's frozen weight as well,
under `<layer>.base_layer.weight`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import WEIGHTS, output, shake, state_of, tiny
from kbit_models import quiet
from peft_pairs import ours_on
from safetensors.torch import load_file, save_file
from test_lora_embedding import MAKERS
from test_peft_equality import distance

import minipeft
from minipeft import PeftModel
from minipeft.checks.errors import CheckpointError

KEY = "base_model.model.model.embed_tokens.base_layer.weight"


def written(peft: Any, folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """peft's adapter for an embedding and a head, saved."""
    with quiet():
        options = {"r": 2, "target_modules": ["embed_tokens", "lm_head", "q_proj"]}
        model = peft.get_peft_model(tiny("llama", dtype), peft.LoraConfig(**options)).eval()
        shake(model)
        model.save_pretrained(folder)
    assert KEY in load_file(folder / WEIGHTS)
    return model


@pytest.mark.parametrize("loaded", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("saved", [torch.float32, torch.bfloat16], ids=str)
def test_it_is_read_in_another_dtype_too(
    peft: Any, tmp_path: Path, saved: torch.dtype, loaded: torch.dtype
):
    theirs = written(peft, tmp_path, saved)
    ours = PeftModel.from_pretrained(tiny("llama", loaded), tmp_path)
    half = torch.bfloat16 in (saved, loaded)
    bound = 16 * torch.finfo(torch.bfloat16).eps if half else 5e-5
    assert distance(output(theirs, "llama").float(), output(ours, "llama").float()) <= bound
    assert torch.equal(  # the model keeps its own
        ours.get_base_model().model.embed_tokens.weight,
        tiny("llama", loaded).model.embed_tokens.weight,
    )


@pytest.mark.parametrize("how", ["one number", "other shape", "other layer"])
def test_one_of_another_model_is_refused(peft: Any, tmp_path: Path, how: str):
    written(peft, tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    if how == "one number":
        tensors[KEY][3, 2] += 0.01
    elif how == "other shape":
        tensors[KEY] = torch.cat([tensors[KEY], tensors[KEY][:1]])
    else:
        tensors[KEY.replace("embed_tokens", "norm")] = tensors.pop(KEY)
    save_file(tensors, tmp_path / WEIGHTS, metadata={"format": "pt"})
    base = tiny("llama")
    before = state_of(base)
    with pytest.raises(CheckpointError, match=r"model\.(embed_tokens|norm)"):
        PeftModel.from_pretrained(base, tmp_path)
    assert state_of(base) == before


def test_a_state_dict_of_pefts_is_taken(peft: Any, tmp_path: Path):
    theirs = written(peft, tmp_path)
    with quiet():
        state = peft.get_peft_model_state_dict(theirs, save_embedding_layers=True)
    assert KEY in state
    options = {"r": 2, "target_modules": ["embed_tokens", "lm_head", "q_proj"]}
    ours = ours_on(MAKERS["llama"], **options)
    minipeft.set_peft_model_state_dict(ours, state)
    assert distance(output(theirs, "llama"), output(ours, "llama")) <= 5e-5
    before = state_of(ours)
    with pytest.raises(CheckpointError, match=r"embed_tokens"):
        minipeft.set_peft_model_state_dict(ours, {**state, KEY: 2 * state[KEY]})
    assert state_of(ours) == before
