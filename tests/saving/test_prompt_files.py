"""Virtual tokens on disk: with their network to train on, with heads, in subfolders, damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import CONFIG, WEIGHTS, files_of, logits, state_of, tiny
from prompt_models import KINDS, NETWORKS, V, config, prompted, rows
from safetensors.torch import load_file, save_file
from torch import Tensor

from minipeft import (
    PeftModel,
    PrefixEncoder,
    PrefixTuningConfig,
    PTuningV2Config,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from minipeft.checks.errors import CheckpointError

ENCODER = "prompt_encoder.safetensors"
HEADS = [
    ("bert", "SEQ_CLS", ["classifier.bias", "classifier.weight"]),
    ("gpt2_cls", "SEQ_CLS", ["score.weight"]),
    ("bert_token", "TOKEN_CLS", ["classifier.bias", "classifier.weight"]),
    ("bert_qa", "QUESTION_ANS", ["qa_outputs.bias", "qa_outputs.weight"]),
]


def answer(model: Any) -> Tensor:
    row = rows()[0]
    with torch.no_grad():  # peft wants the mask
        return logits(model(input_ids=row, attention_mask=torch.ones_like(row)))


def trained(model: torch.nn.Module) -> list[Tensor]:
    return [p for p in model.parameters() if p.requires_grad]


@pytest.mark.parametrize("kind", KINDS)
def test_training_goes_on_bit_for_bit(kind: str, tmp_path: Path):
    def steps(model: Any, n: int) -> None:  # plain SGD has no state to be saved
        optimizer, row = torch.optim.SGD(trained(model), lr=0.1), rows()[0]
        for _ in range(n):
            optimizer.zero_grad()
            model(input_ids=row, labels=row).loss.backward()
            optimizer.step()

    model = get_peft_model(tiny("gpt2"), config(kind))
    steps(model, 2)
    model.save_pretrained(tmp_path, save_encoder=kind in NETWORKS)
    assert (tmp_path / ENCODER).exists() == (kind in NETWORKS)
    resumed = PeftModel.from_pretrained(tiny("gpt2"), tmp_path, is_trainable=True)
    before = [p.clone() for p in trained(model)]
    for uninterrupted in (model, resumed):
        steps(uninterrupted, 3)
    for start, a, b in zip(before, trained(model), trained(resumed), strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, start)
    assert torch.equal(answer(model), answer(resumed))


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_network_in_half_precision_goes_on_as_well(kind: str, dtype: torch.dtype, tmp_path: Path):
    model = prompted("gpt2", kind).to(dtype)
    model.save_pretrained(tmp_path, save_encoder=True)
    resumed = PeftModel.from_pretrained(tiny("gpt2", dtype), tmp_path, is_trainable=True)
    for ours, theirs in zip(trained(model), trained(resumed), strict=True):
        assert torch.equal(ours.float(), theirs)


@pytest.mark.parametrize("kind", NETWORKS)
def test_without_the_network_there_is_no_training_on(kind: str, tmp_path: Path, peft: Any):
    model = prompted("gpt2", kind, task_type="CAUSAL_LM")
    model.save_pretrained(tmp_path, save_encoder=True)
    theirs = peft.PeftModel.from_pretrained(tiny("gpt2"), tmp_path).eval()
    # computed once and stored, where the network computes it in the forward pass: one rounding
    assert torch.allclose(answer(theirs), answer(model), rtol=1e-5, atol=1e-5)
    PeftModel.from_pretrained(tiny("gpt2").to("meta"), tmp_path, is_trainable=True)  # shapes only
    model.save_pretrained(tmp_path)
    assert sorted(files_of(tmp_path)) == [CONFIG, WEIGHTS]  # the old network is gone
    base = tiny("gpt2")
    before = state_of(base)
    with pytest.raises(CheckpointError, match=r"the network that computes them.*save_encoder=True"):
        PeftModel.from_pretrained(base, tmp_path, is_trainable=True)
    assert state_of(base) == before
    loaded = PeftModel.from_pretrained(base, tmp_path)
    assert trained(loaded) == []
    with pytest.raises(CheckpointError, match="save_encoder=True, but adapter 'default' has no"):
        loaded.save_pretrained(tmp_path / "new", save_encoder=True)
    assert not (tmp_path / "new").exists()
    loaded.save_pretrained(tmp_path / "new")
    assert files_of(tmp_path / "new")[WEIGHTS] == files_of(tmp_path)[WEIGHTS]
    loaded.set_adapter("default", inference_mode=False)  # the vectors themselves
    vectors = get_peft_model_state_dict(loaded)["prompt_embeddings"]
    assert [p.numel() for p in trained(loaded)] == [vectors.numel()]


def rewrite(change: Callable[[dict[str, Tensor]], Any]) -> Callable[[Path], Any]:
    def damage(file: Path) -> None:
        tensors = {key: tensor.clone() for key, tensor in load_file(file).items()}
        change(tensors)
        save_file(tensors, file)

    return damage


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "cut": (lambda f: f.write_bytes(f.read_bytes()[:50]), "does not fit the config"),
    "empty": (lambda f: f.write_bytes(b""), "does not fit the config"),
    "noise": (lambda f: f.write_bytes(b"x" * 500), "does not fit the config"),
    "foreign": (rewrite(lambda t: t["embedding.weight"].add_(1)), "computes other virtual tokens"),
    "NaN": (rewrite(lambda t: t["embedding.weight"].fill_(torch.nan)), "computes other virtual"),
    "less": (rewrite(lambda t: t.pop("embedding.weight")), "Missing key"),
    "more": (rewrite(lambda t: t.update(more=torch.ones(2))), "Unexpected key"),
    "wide": (rewrite(lambda t: t["embedding.weight"].resize_(V, 99)), "size mismatch"),
    "folder": (lambda f: (f.unlink(), f.mkdir()), "not the network that computes them"),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_damaged_network_is_refused(kind: str, damage: str, tmp_path: Path):
    model = prompted("gpt2", kind)
    model.save_pretrained(tmp_path, save_encoder=True)
    harm, said = DAMAGE[damage]
    harm(tmp_path / ENCODER)
    base = tiny("gpt2")
    before = state_of(base)
    with pytest.raises(CheckpointError, match=said):
        PeftModel.from_pretrained(base, tmp_path, is_trainable=True)
    assert state_of(base) == before
    assert torch.allclose(  # it is not needed to answer
        answer(PeftModel.from_pretrained(base, tmp_path)), answer(model), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert"])
def test_peft_reads_p_tuning_v2_as_prefix_tuning(name: str, tmp_path: Path, peft: Any):
    task = "SEQ_CLS" if name == "bert" else "CAUSAL_LM"
    model = prompted(name, "v2", task_type=task)
    model.save_pretrained(tmp_path)
    values = json.loads((tmp_path / CONFIG).read_text())
    assert values["peft_type"] == "PREFIX_TUNING"
    theirs = peft.PeftModel.from_pretrained(tiny(name), tmp_path).eval()
    assert type(theirs.peft_config["default"]) is peft.PrefixTuningConfig
    assert torch.equal(answer(theirs), answer(model))
    loaded = PeftModel.from_pretrained(tiny(name), tmp_path, is_trainable=True).eval()
    assert type(loaded.peft_config["default"]) is PrefixTuningConfig
    assert type(loaded.get_base_model().prompt_encoder.adapters["default"]) is PrefixEncoder
    assert torch.equal(answer(loaded), answer(model))
    assert {p.shape for p in trained(loaded)} == {p.shape for p in trained(model)}
    (tmp_path / CONFIG).write_text(json.dumps({**values, "peft_type": "P_TUNING_V2"}))
    named = PeftModel.from_pretrained(tiny(name), tmp_path)
    assert type(named.peft_config["default"]) is PTuningV2Config
    assert torch.equal(answer(named), answer(model))


@pytest.mark.parametrize(("name", "task", "keys"), HEADS)
@pytest.mark.parametrize("kind", KINDS)
def test_heads_travel_both_ways(
    name: str, task: str, keys: list[str], kind: str, tmp_path: Path, peft: Any
):
    model = prompted(name, kind, task_type=task)
    with torch.no_grad():
        for parameter in trained(model):
            parameter.add_(0.1)  # the head is not the base's any more
    expected = answer(model)
    model.save_pretrained(tmp_path / "ours")
    written = [f"base_model.{key}" for key in keys] + ["prompt_embeddings"]
    assert sorted(load_file(tmp_path / "ours" / WEIGHTS)) == written
    theirs = peft.PeftModel.from_pretrained(tiny(name), tmp_path / "ours").eval()
    close = {"rtol": 1e-5, "atol": 1e-5}  # one rounding, as above
    assert torch.allclose(answer(theirs), expected, **close)
    theirs.save_pretrained(tmp_path / "theirs")
    back = PeftModel.from_pretrained(tiny(name), tmp_path / "theirs")
    assert torch.allclose(answer(back), expected, **close)
    assert set(peft.get_peft_model_state_dict(theirs)) == set(get_peft_model_state_dict(model))


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_dict_in_and_out(kind: str):
    model = prompted("bert", kind, task_type="SEQ_CLS")
    with torch.no_grad():
        for parameter in trained(model):
            parameter.add_(0.1)
    tensors = {key: tensor.clone() for key, tensor in get_peft_model_state_dict(model).items()}
    other = get_peft_model(tiny("bert"), config(kind, task_type="SEQ_CLS"))
    before = state_of(other)
    half = {**tensors, "prompt_embeddings": tensors["prompt_embeddings"][:2]}
    less = {key: tensor for key, tensor in tensors.items() if key != "prompt_embeddings"}
    for bad, said in ((half, "of shape"), (less, "lacks 1 tensors"), ({}, "lacks 3 tensors")):
        with pytest.raises(CheckpointError, match=said):
            set_peft_model_state_dict(other, bad)
        assert state_of(other) == before
    if kind in NETWORKS:
        with pytest.raises(CheckpointError, match="are computed by a network, so they cannot be"):
            set_peft_model_state_dict(other, tensors)
        assert state_of(other) == before
    else:
        set_peft_model_state_dict(other, tensors)
        assert torch.equal(answer(other), answer(model))


@pytest.mark.parametrize("name", ["t5", "llama", "vit", "mlp"])
def test_another_base_is_refused_and_named(name: str, tmp_path: Path):
    model = prompted("gpt2", "prefix")
    model.peft_config["default"].base_model_name_or_path = "tiny-gpt2"
    model.save_pretrained(tmp_path)
    base = tiny(name)
    before = state_of(base)
    said = rf"in {tmp_path} does not fit this {type(base).__name__} \(it was made for 'tiny-gpt2'\)"
    with pytest.raises(CheckpointError, match=said):
        PeftModel.from_pretrained(base, tmp_path)
    assert state_of(base) == before


def test_several_in_subfolders(tmp_path: Path):
    model = prompted("gpt2", "mlp")
    model.add_adapter("prefix", config("prefix"))
    model.add_adapter("lstm", config("lstm"))
    with pytest.raises(
        CheckpointError, match=r"adapter 'prefix' has no network.*selected_adapters"
    ):
        model.save_pretrained(tmp_path, save_encoder=True)
    assert files_of(tmp_path) == {}  # not the first one either
    model.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path, ["lstm"], save_encoder=True)
    folders = {"default": tmp_path, "prefix": tmp_path / "prefix", "lstm": tmp_path / "lstm"}
    assert set(files_of(tmp_path)) == {
        *(f"{sub}{file}" for sub in ("", "prefix/", "lstm/") for file in (CONFIG, WEIGHTS)),
        f"lstm/{ENCODER}",
    }
    loaded = PeftModel.from_pretrained(tiny("gpt2"), tmp_path)
    loaded.load_adapter(folders["prefix"], "prefix")
    loaded.load_adapter(folders["lstm"], "lstm", is_trainable=True)
    for name in folders:
        model.set_adapter(name)
        loaded.set_adapter(name)
        assert torch.allclose(answer(loaded), answer(model), rtol=1e-5, atol=1e-5)
        assert (trained(loaded) != []) == (name == "lstm")
