"""layer_replication together with the rest: packed weights, checkpointing, heads, caches, BERT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import inputs, shake
from kbit_models import quiet
from peft_pairs import BOUNDS, adapters_of, answer
from test_peft_equality import distance
from test_replication import RANGES, batch_of, five, replicated, seven, targets
from torch import Tensor

import minipeft
from minipeft import LoraConfig, PeftModel, get_peft_model, quantize_model
from minipeft.checks.errors import TargetError

BATCH = inputs("llama")


def test_a_state_dict_goes_through():
    model = replicated("llama")
    other = get_peft_model(five("llama"), LoraConfig(r=3, layer_replication=RANGES))
    assert not any(other.load_state_dict(model.state_dict()))
    assert torch.equal(answer(other, BATCH), answer(model, BATCH))


def quantized(make: Any) -> Any:
    model = make("llama")
    quantize_model(model)
    return model


def test_packed_weights_are_shared_too():
    config = LoraConfig(r=3, layer_replication=RANGES, target_modules="all-linear")
    model = get_peft_model(quantized(five), config)
    shake(model)
    layers = model.get_base_model().model.layers
    for one, other in ((2, 4), (3, 5)):
        a, b = (dict(layers[n].named_buffers()) for n in (one, other))
        codes = [key for key in a if key.endswith("codes")]
        assert len(codes) == 7
        assert all(a[key].data_ptr() == b[key].data_ptr() for key in codes)
    like = get_peft_model(quantized(seven), LoraConfig(r=3, target_modules="all-linear"))
    minipeft.set_peft_model_state_dict(like, minipeft.get_peft_model_state_dict(model))
    assert torch.equal(answer(model, BATCH), answer(like, BATCH))


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_checkpointing_recomputes_the_same(name: str):
    found: list[dict[str, Tensor]] = []
    for checkpointed in (False, True):
        model = replicated(name).train()
        if checkpointed:
            model.activation_checkpointing_enable()
            model.enable_input_require_grads()
        model(**batch_of(name), use_cache=False).loss.backward()
        found.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_a_static_cache_has_room_for_all_layers(name: str):
    model, ids = replicated(name), batch_of(name)["input_ids"]
    made = [
        model.generate(ids, max_new_tokens=5, do_sample=False, **options)
        for options in ({}, {"cache_implementation": "static"})
    ]
    assert torch.equal(*made)


def test_a_part_of_one_copy_may_be_trained_whole(peft: Any, tmp_path: Path):
    whole = ["layers.4.mlp.up_proj"]  # layer 2 shares its weight, and keeps it
    config = LoraConfig(r=3, layer_replication=RANGES, modules_to_save=whole)
    model = get_peft_model(five("llama"), config)
    shake(model)
    before = answer(model, BATCH)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "layers.4.mlp.up_proj" in name and "adapters" in name:
                parameter.mul_(-2)
    layers = model.get_base_model().model.layers
    assert torch.equal(
        layers[2].mlp.up_proj.weight, five("llama").model.layers[2].mlp.up_proj.weight
    )
    assert not torch.allclose(answer(model, BATCH), before, atol=0.1)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(five("llama"), tmp_path)
    with quiet():
        read = peft.PeftModel.from_pretrained(five("llama"), tmp_path).eval()
    assert torch.equal(answer(again, BATCH), answer(model, BATCH))
    assert distance(answer(read, BATCH), answer(model, BATCH)) <= BOUNDS[0]


def test_a_bias_in_two_layers_is_trained_in_neither():
    with pytest.raises(TargetError, match=r"share one bias.*lora_only"):
        get_peft_model(five("gpt2"), LoraConfig(layer_replication=RANGES, bias="all"))


def test_the_encoder_of_bert():
    model = get_peft_model(five("bert"), LoraConfig(r=3, layer_replication=RANGES))
    assert len(adapters_of(model)) == 14
    assert model.config.num_hidden_layers == 7
    assert answer(model, inputs("bert")).shape == (2, 3)
    assert not torch.allclose(answer(model, inputs("bert")), answer(five("bert"), inputs("bert")))


def test_a_sum_of_replicated_adapters(tmp_path: Path):
    model = replicated("llama")
    model.add_weighted_adapter(["default"], [2.0], "twice", "cat")
    model.set_adapter("twice")
    model.save_pretrained(tmp_path, selected_adapters=["twice"])
    again = PeftModel.from_pretrained(five("llama"), tmp_path / "twice")
    assert torch.equal(answer(again, BATCH), answer(model, BATCH))


def test_each_row_has_its_adapter_in_each_copy():
    model = replicated("llama")
    model.add_adapter("b", LoraConfig(r=2, layer_replication=RANGES, **targets("llama")))
    shake(model)
    with torch.no_grad():
        found = model(**BATCH, adapter_names=["default", "b"]).logits
        for i, name in enumerate(("default", "b")):
            model.set_adapter(name)
            assert torch.allclose(found[i], model(**BATCH).logits[i], atol=1e-4)
