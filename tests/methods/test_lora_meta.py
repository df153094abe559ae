"""Every kind of LoRA on the meta device, where a model has shapes and no numbers: to count it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import tiny
from peft_pairs import base_of, ours_on
from test_lora_conv_models import CNN, made
from test_replication import RANGES, five

from minipeft import LoraConfig, PeftModel, get_peft_model

PLACES: dict[str, tuple[Any, Any]] = {
    "gpt2": (base_of("gpt2"), ["wte", "wpe", "c_attn"]),
    "llama": (base_of("llama"), "all-linear"),
    "vit": (base_of("vit"), ["projection", "q_proj"]),
    "cnn": (made(CNN), ["stem", "conv1", "shortcut", "fc"]),
}


@pytest.mark.parametrize("start", [True, False, "gaussian", "orthogonal"], ids=str)
@pytest.mark.parametrize("use_dora", [False, True])
@pytest.mark.parametrize("place", PLACES)
def test_it_is_counted_without_numbers(place: str, use_dora: bool, start: Any):
    make, targets = PLACES[place]
    config = LoraConfig(r=4, use_dora=use_dora, init_lora_weights=start, target_modules=targets)
    counted = get_peft_model(make().to("meta"), config)
    assert all(p.is_meta for p in counted.parameters())
    known = get_peft_model(make(), config)
    found, expected = (m.get_nb_trainable_parameters()[0] for m in (counted, known))
    assert found == expected


@pytest.mark.parametrize("use_dora", [False, True])
def test_the_verbs_work_on_shapes(tmp_path: Path, use_dora: bool):
    targets = ["embed_tokens", "q_proj"]
    ours_on(base_of("llama"), target_modules=targets, use_dora=use_dora).save_pretrained(tmp_path)
    model = PeftModel.from_pretrained(tiny("llama").to("meta"), tmp_path, is_trainable=True)
    expected = ours_on(base_of("llama"), target_modules=targets, use_dora=use_dora)
    assert model.get_nb_trainable_parameters() == expected.get_nb_trainable_parameters()
    model.merge_adapter()
    model.unmerge_adapter()
    assert all(p.is_meta for p in model.merge_and_unload().parameters())


def test_sums_and_more_layers():
    model = get_peft_model(tiny("gpt2").to("meta"), LoraConfig(r=3), "a")
    for combination in ("cat", "svd", "linear"):
        model.add_weighted_adapter(["a", "a"], [1.0, -2.0], combination, combination)
    ranks = [model.peft_config[name].r for name in ("cat", "svd", "linear")]
    assert ranks == [6, 3, 3]
    deep = get_peft_model(five("llama").to("meta"), LoraConfig(layer_replication=RANGES))
    known = get_peft_model(five("llama"), LoraConfig(layer_replication=RANGES))
    assert deep.get_nb_trainable_parameters() == known.get_nb_trainable_parameters()
