"""layer_replication: [(0, 4), (2, 5)] makes seven layers out of five, which share their weights.

The oracle is a model that was built with seven layers, whose weights are copies: with the same
adapter it does the same operations, so outputs, gradients and tokens are equal to the bit. Hugging
Face peft is asked where it can do it: on Llama.
"""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import inputs, shake, state_of, tiny
from peft_pairs import adapters_of, answer, both_ways, compare, pair, run
from safetensors.torch import load_file
from test_lora_embedding import gemma3
from torch import Tensor

import minipeft
from minipeft import LoraConfig, get_peft_model

RANGES = [(0, 4), (2, 5)]
ORDER = [0, 1, 2, 3, 2, 3, 4]
KINDS = ["sliding_attention", "full_attention", "sliding_attention", "sliding_attention",
         "full_attention"]  # fmt: skip
LAYERS = {"gpt2": "transformer.h", "bloom": "transformer.h"}  # the others: model.layers
NAMES = ["llama", "gpt2", "bloom", "mistral", "gpt_neox", "qwen2", "gemma3"]


def place(name: str) -> str:
    """Where the list of layers stands."""
    return {"gpt_neox": "gpt_neox.layers"}.get(name, LAYERS.get(name, "model.layers"))


def config_of(name: str, depth: int) -> Any:
    """The tiny model's config, with so many layers."""
    config = copy.deepcopy((gemma3() if name == "gemma3" else tiny(name)).config)
    config.num_hidden_layers = depth
    if name == "gemma3":
        order = range(5) if depth == 5 else ORDER
        config.layer_types, config.sliding_window = [KINDS[n] for n in order], 3
    elif getattr(config, "layer_types", None):
        config.layer_types = ["full_attention"] * depth
    return config


def model_of(name: str, config: Any) -> Any:
    """A model of this config with weights large enough to matter."""
    kind: Any = type(gemma3() if name == "gemma3" else tiny(name))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind(config)
        for parameter in model.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
    return model.eval()


def five(name: str) -> Any:
    """A model with five layers."""
    return model_of(name, config_of(name, 5))


def seven(name: str) -> Any:
    """A model with seven layers that are copies of those of `five`, in ORDER."""
    model, source = model_of(name, config_of(name, 7)), five(name)
    state = source.state_dict()
    for key in list(state):
        if key.startswith(f"{place(name)}."):
            del state[key]
    model.load_state_dict(state, strict=False)
    layers = source.get_submodule(place(name))
    for new, old in enumerate(ORDER):
        model.get_submodule(place(name))[new].load_state_dict(layers[old].state_dict())
    return model


def replicated(name: str, **options: Any) -> Any:
    """Five layers made seven, with an adapter that is filled with numbers."""
    config = LoraConfig(**{"r": 3, "layer_replication": RANGES, **targets(name), **options})
    model = get_peft_model(five(name), config).eval()
    shake(model)
    return model


def targets(name: str) -> dict[str, Any]:
    return {"target_modules": ["q_proj", "v_proj", "up_proj"]} if name == "gemma3" else {}


def deep(name: str, like: Any, **options: Any) -> Any:
    """Seven layers of their own with the same adapter."""
    model = get_peft_model(seven(name), LoraConfig(**{"r": 3, **targets(name), **options})).eval()
    minipeft.set_peft_model_state_dict(model, minipeft.get_peft_model_state_dict(like))
    return model


def batch_of(name: str) -> dict[str, Tensor]:
    return inputs("llama" if name == "gemma3" else name)


@pytest.mark.parametrize("options", [{}, {"use_dora": True, "target_modules": "all-linear"}],
                         ids=str)  # fmt: skip
@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_deeper_model(name: str, options: dict[str, Any]):
    model = replicated(name, **options)
    like = deep(name, model, **options)
    (mine, a), (other, b) = run(model, batch_of(name)), run(like, batch_of(name))
    assert torch.equal(mine, other)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not torch.allclose(mine, answer(five(name), batch_of(name)), atol=0.1)
    with model.disable_adapter():
        assert torch.equal(answer(model, batch_of(name)), answer(seven(name), batch_of(name)))


@pytest.mark.parametrize("name", NAMES)
def test_it_generates_with_a_cache_what_it_does_without(name: str):
    model = replicated(name)
    like = deep(name, model)
    ids = {key: batch_of(name)[key] for key in ("input_ids", "attention_mask")}
    made = [
        m.generate(**ids, max_new_tokens=6, do_sample=False, use_cache=cached)
        for m in (model, like)
        for cached in (True, False)
    ]
    assert made[0].shape[1] == ids["input_ids"].shape[1] + 6
    assert all(torch.equal(made[0], one) for one in made[1:])
    cache = model(**ids, use_cache=True).past_key_values
    assert len(cache.layers) == 7
    beams = [m.generate(**ids, max_new_tokens=4, num_beams=3) for m in (model, like)]
    assert torch.equal(*beams)


def test_llama_against_peft(peft: Any, tmp_path: Path):
    def make() -> Any:
        return five("llama")

    for options in ({}, {"use_dora": True, "target_modules": "all-linear"}):
        ours, theirs = pair(peft, make, layer_replication=RANGES, **options)
        compare(ours, theirs, batch_of("llama"))
        both_ways(peft, tmp_path / str(len(options)), make, batch_of("llama"), ours, theirs)
    theirs = peft.get_peft_model(make(), peft.LoraConfig(layer_replication=RANGES))
    ours = get_peft_model(make(), LoraConfig(layer_replication=RANGES))
    assert ours.config.num_hidden_layers == theirs.config.num_hidden_layers == 7
    assert list(adapters_of(ours)) == [
        n.removesuffix(".lora_A") for n, _ in theirs.get_base_model().named_modules()
        if n.endswith("lora_A")
    ]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_weights_are_shared_and_the_adapters_are_not(name: str):
    plain = get_peft_model(five(name), LoraConfig(r=3, **targets(name)))
    model = replicated(name)
    (own, all_), (before, base) = (m.get_nb_trainable_parameters() for m in (model, plain))
    assert own * 5 == before * 7
    assert all_ - own == base - before  # the base's parameters cost what they cost
    layers = model.get_base_model().get_submodule(place(name))
    assert len(layers) == model.config.num_hidden_layers == 7
    for one, other in ((2, 4), (3, 5)):
        a, b = (dict(layers[n].named_parameters()) for n in (one, other))
        for key in a:
            same = a[key].data_ptr() == b[key].data_ptr()
            assert same is ("lora_" not in key), key
    used = Counter(p.data_ptr() for p in layers.parameters() if not p.requires_grad)
    assert max(used.values()) == 1  # parameters() names a shared one once
    model(**batch_of(name)).loss.backward()
    a, b = (grads_below(layers[n]) for n in (2, 4))
    assert a.keys() == b.keys()
    assert all(not torch.allclose(a[key], b[key]) for key in a)


def grads_below(layer: Any) -> dict[str, Tensor]:
    return {n: p.grad for n, p in layer.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_loaded_it_is_the_same(tmp_path: Path, name: str):
    model = replicated(name)
    model.save_pretrained(tmp_path)
    keys = load_file(tmp_path / "adapter_model.safetensors").keys()
    assert {int(k.split(f"{place(name)}.")[1].split(".")[0]) for k in keys} == set(range(7))
    again = minipeft.PeftModel.from_pretrained(five(name), tmp_path)
    assert torch.equal(answer(again, batch_of(name)), answer(model, batch_of(name)))
    assert again.peft_config["default"].layer_replication == [list(pair) for pair in RANGES]
    assert again.config.num_hidden_layers == 7


@pytest.mark.parametrize("name", NAMES)
def test_unload_gives_back_the_very_model_and_config(name: str):
    base = five(name)
    layers, config, before = base.get_submodule(place(name)), base.config, state_of(base)
    known = config.to_dict()
    model = get_peft_model(base, LoraConfig(layer_replication=RANGES, **targets(name)))
    shake(model)
    assert model.config.num_hidden_layers == 7
    assert model.unload() is base
    assert base.get_submodule(place(name)) is layers
    assert base.config is config
    assert config.to_dict() == known
    assert state_of(base) == before
    assert all(m.config is config for m in base.modules() if hasattr(m, "config"))
    assert torch.equal(answer(base, batch_of(name)), answer(five(name), batch_of(name)))
    ids = batch_of(name)["input_ids"]
    assert torch.equal(*(m.generate(ids, max_new_tokens=3) for m in (base, five(name))))


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_a_config_that_two_models_share_stays_as_it_was(name: str):
    config = config_of(name, 5)
    first, second = model_of(name, config), model_of(name, config)
    known, expected = config.to_dict(), answer(second, batch_of(name))
    model = get_peft_model(first, LoraConfig(layer_replication=RANGES, **targets(name)))
    assert model.config.num_hidden_layers == 7
    assert config.to_dict() == known
    assert second.config.num_hidden_layers == 5
    assert torch.equal(answer(second, batch_of(name)), expected)
    assert second.generate(batch_of(name)["input_ids"], max_new_tokens=3).shape[1] == 10
