"""Adapters in a model: training, switching, files, counts, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from conftest import inputs, output, shake, state_of, tiny
from safetensors.torch import load_file, save_file

from minipeft import Adapter, AdapterConfig, LoraConfig, PeftModel, get_peft_model
from minipeft.checks.errors import CheckpointError, StateError
from minipeft.lab.counting import count, meta_model
from minipeft.methods.adapter import adapter_parameters

FAMILIES = ["gpt2", "bloom", "llama", "t5", "bert"]


def with_adapters(name: str, **options: Any) -> PeftModel:
    """A tiny model with adapters that change its output."""
    model = get_peft_model(tiny(name), AdapterConfig(**{"adapter_dim": 4, **options})).eval()
    shake(model)
    return model


def test_the_note_s_config_is_the_default():
    note = AdapterConfig(
        adapter_dim=64, hidden_act="gelu", adapter_dropout=0.1, target_modules=["attention", "mlp"]
    )
    assert note == AdapterConfig()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_adapters_get_gradients_and_the_base_none(name: str):
    model = with_adapters(name)
    model(**inputs(name)).loss.backward()
    for path, parameter in model.named_parameters():
        assert (".adapters." in path) == parameter.requires_grad == (parameter.grad is not None)
        assert parameter.grad is None or parameter.grad.abs().max() > 0, path


def test_its_options_reach_the_module():
    options = {"adapter_dim": 3, "hidden_act": "tanh", "adapter_dropout": 0.25, "init": "xavier"}
    for name in ("gpt2", "bert"):
        model = get_peft_model(tiny(name), AdapterConfig(**options))
        found = [m for m in model.modules() if isinstance(m, Adapter)]
        assert len(found) == 4
        for adapter in found:
            assert isinstance(adapter.activation, torch.nn.Tanh)
            assert (adapter.dropout.p, adapter.down_project.out_features) == (0.25, 3)
            assert adapter.up_project.weight.abs().max() > 0


def test_it_trains():
    model = get_peft_model(tiny("gpt2"), AdapterConfig(adapter_dim=8))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.02)
    losses = []
    for _ in range(8):
        loss = model(**inputs("gpt2")).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5


def test_it_stands_beside_a_lora_and_is_switched():
    model = with_adapters("gpt2")
    alone = output(model, "gpt2")
    model.add_adapter("lora", LoraConfig(r=2, init_lora_weights=False))
    model.eval()
    assert torch.equal(output(model, "gpt2"), alone)
    model.set_adapter(["default", "lora"])
    both = output(model, "gpt2")
    model.set_adapter("lora")
    assert len({tuple(o.flatten().tolist()) for o in (alone, both, output(model, "gpt2"))}) == 3
    with model.disable_adapter():
        assert torch.equal(output(model, "gpt2"), output(tiny("gpt2"), "gpt2"))
    model.set_adapter("default")
    model.delete_adapter("lora")
    assert torch.equal(output(model, "gpt2"), alone)
    assert torch.equal(output(model.unload(), "gpt2"), output(tiny("gpt2"), "gpt2"))


def test_dropout_follows_train_and_eval():
    model = with_adapters("gpt2", adapter_dropout=0.5)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout) and module.p != 0.5:
            module.p = 0.0  # the base model's own
    assert torch.equal(output(model, "gpt2"), output(model, "gpt2"))
    model.train()
    assert not torch.equal(output(model, "gpt2"), output(model, "gpt2"))


@pytest.mark.parametrize("name", ["gpt2", "mlp"])
def test_it_cannot_be_merged_and_nothing_is(name: str):
    model = with_adapters(name, **({"target_modules": ["first"]} if name == "mlp" else {}))
    before = state_of(model)
    with pytest.raises(StateError, match=r"an Adapter cannot be merged: its GELU is not linear"):
        model.merge_adapter()
    with pytest.raises(StateError, match=r"unload\(\)"):
        model.merge_and_unload()
    assert state_of(model) == before


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_it_is_saved_in_the_two_files_and_loaded(name: str, tmp_path):
    options = {"hidden_act": "tanh", "init": "xavier", "adapter_dropout": 0.25}
    ours = with_adapters(name, **options)
    ours.save_pretrained(tmp_path)
    files = sorted(p.name for p in tmp_path.iterdir())
    assert files == ["adapter_config.json", "adapter_model.safetensors"]
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    assert saved["peft_type"] == "ADAPTER"
    assert saved["target_modules"] == ["attention", "mlp"]
    assert {key: saved[key] for key in options} == options
    again = PeftModel.from_pretrained(tiny(name), tmp_path)
    assert torch.equal(output(again, name), output(ours, name))
    assert again.active_peft_config == AdapterConfig(adapter_dim=4, inference_mode=True, **options)


def test_the_names_on_disk_and_a_strict_load(tmp_path):
    with_adapters("gpt2").save_pretrained(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    state = load_file(file)
    first = "base_model.model.transformer.h.0.attn.c_proj."
    assert {k.removeprefix(first): tuple(v.shape) for k, v in state.items() if first in k} == {
        "down_project.weight": (4, 16),
        "down_project.bias": (4,),
        "up_project.weight": (16, 4),
        "up_project.bias": (16,),
    }
    lost = dict(state)
    del lost[f"{first}up_project.bias"]
    for wrong, said in (
        (lost, "lacks 1 tensors"),
        ({**state, "base_model.model.x": torch.zeros(1)}, "has 1 tensors that have no place"),
        ({**state, f"{first}up_project.bias": torch.zeros(8)}, r"of shape \(8,\)"),
        ({**state, f"{first}up_project.bias": torch.full((16,), torch.nan)}, "holds NaN"),
    ):
        save_file(wrong, file)
        base = tiny("gpt2")
        before = state_of(base)
        with pytest.raises(CheckpointError, match=said):
            PeftModel.from_pretrained(base, tmp_path)
        assert state_of(base) == before


# --- counts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "trained"),
    [
        ("gpt2", {}, 2_379_264),
        ("gpt2", {"target_modules": "pfeiffer"}, 12 * (2 * 768 * 64 + 64 + 768)),
        ("llama-2-7b", {}, 33_820_672),
        ("t5-base", {"adapter_dim": 8}, (24 + 36) * (2 * 768 * 8 + 8 + 768)),
        ("bert-base", {"task_type": "SEQ_CLS"}, 2_379_264 + 2 * 768 + 2),
    ],
    ids=str,
)
def test_real_models_by_formula_and_by_building(name: str, options: dict[str, Any], trained: int):
    config = AdapterConfig(**options)
    counted = count(name, config)
    assert counted.trainable == trained
    built = get_peft_model(meta_model(name), config)
    assert built.get_nb_trainable_parameters() == (trained, counted.all)
    assert all(parameter.is_meta for parameter in built.parameters())


def test_the_formula_is_what_the_module_holds():
    for d, m in ((768, 64), (5, 3)):
        held = sum(p.numel() for p in Adapter(d, m).parameters())
        assert held == adapter_parameters(d, m) == 2 * d * m + m + d
    share = 100 * count("llama-2-7b", AdapterConfig()).trainable / 6_738_415_616
    assert f"{share:.3f}" == "0.502"
