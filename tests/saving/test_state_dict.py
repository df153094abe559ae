"""The state dict of a whole wrapped model: what torch.save, safetensors and Trainer write."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from conftest import adapted, output
from safetensors.torch import load_file, save_file


@pytest.mark.parametrize("name", ["gpt2", "bloom", "t5", "llama", "mlp"])
def test_it_is_saved_by_safetensors_and_loaded_strictly(name: str, tmp_path: Path):
    model = adapted(name)
    expected = output(model, name)
    state = model.state_dict()
    assert set(state) == {n for n, _ in model.named_parameters(remove_duplicate=False)} | {
        n for n, _ in model.named_buffers() if n in state
    }
    save_file(state, tmp_path / "model.safetensors")  # refuses tensors that share memory
    other = adapted(name)
    for parameter in other.parameters():
        parameter.data.normal_()
    assert not torch.allclose(output(other, name), expected, atol=1e-3)
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(output(other, name), expected)


def test_a_tied_weight_is_one_in_the_model_and_two_in_the_state_dict():
    model = adapted("gpt2")
    head, words = "lm_head.weight", "transformer.wte.weight"
    base = model.get_base_model()
    state = model.state_dict(prefix="")
    names = [n for n in state if n.endswith((head, words))]
    assert len(names) == 2
    assert torch.equal(state[names[0]], state[names[1]])
    assert len({state[n].data_ptr() for n in names}) == 2
    assert base.get_parameter(head) is base.get_parameter(words)
    assert copy.deepcopy(model).state_dict().keys() == state.keys()
