"""LoRA's `bias` option against peft: what is trained, its gradients, and its files.

peft trains the biases in place; ours stand beside them. One addition in another place gives
another rounding: float32 numbers of size 1 to 4 differ by an ulp or two (measured below).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import adapted, bits, inputs, logits, output, shake, state_of, tiny
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import minipeft
from minipeft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from minipeft.checks.errors import CheckpointError, TargetError
from minipeft.lab.counting import count
from minipeft.methods.lora_options.bias import TrainedBias

NAMES = ["gpt2", "bloom", "bert", "opt"]
BOTH = ["all", "lora_only"]


def theirs_of(peft: Any, name: str, folder: Path, **options: Any) -> Any:
    """peft's model with the adapter in `folder`, to be trained."""
    return peft.PeftModel.from_pretrained(tiny(name), folder, is_trainable=True).eval()


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """The gradients of all that is trained, under the names that peft's file has."""
    found = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            continue
        name = name.removeprefix("base_model.model.")
        ours = name.replace(".adapters.default.trained_bias.", ".base_layer.")
        for part in (".adapters", ".modules_to_save", ".default", ".lora."):
            ours = ours.replace(part, "." if part == ".lora." else "")
        found[ours.replace("lora_A.weight", "lora_A").replace("lora_B.weight", "lora_B")] = (
            parameter.grad
        )
    return found


# --- alone ---------------------------------------------------------------------------------------


def test_a_bias_worked_by_hand():
    bias = torch.tensor([1.0, 2.0])
    trained = TrainedBias(bias)
    y = torch.tensor([[5.0, 6.0]])
    assert torch.equal(trained(y), y)
    trained.bias.data = torch.tensor([1.5, 0.0])
    assert trained(y).tolist() == [[5.5, 4.0]]
    assert bias.tolist() == [1, 2]
    assert trained.fold(torch.eye(2), bias)[1].tolist() == [1.5, 0]
    assert trained.fold(torch.eye(2), bias + 10)[1].tolist() == [11.5, 10]
    assert list(trained.state_dict()) == ["bias"]  # b is the model's to keep


# --- the oracle ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", BOTH)
@pytest.mark.parametrize("name", NAMES)
def test_outputs_and_gradients_are_pefts(peft: Any, tmp_path: Path, name: str, bias: str):
    ours = adapted(name, bias=bias)
    ours.save_pretrained(tmp_path)
    theirs = theirs_of(peft, name, tmp_path)
    mine, other = ours(**inputs(name)), theirs(**inputs(name))
    a, b = logits(mine).detach(), logits(other).detach()
    # measured 7.5e-7 of the largest logit
    assert torch.allclose(a, b, rtol=0, atol=3e-6 * float(b.abs().max()))
    mine.loss.backward()
    other.loss.backward()
    grads, expected = gradients(ours), gradients(theirs)
    assert grads.keys() == expected.keys()
    scale = max(float(grad.abs().max()) for grad in expected.values())
    # sums in another order, of values that differ by an ulp: measured 2.6e-6 of the largest
    assert max(float((grads[key] - g).abs().max()) for key, g in expected.items()) <= 1e-5 * scale
    assert sum(key.endswith("bias") for key in grads) >= 2


@pytest.mark.parametrize("bias", BOTH)
@pytest.mark.parametrize("name", NAMES)
def test_training_walks_the_way_of_peft(peft: Any, tmp_path: Path, name: str, bias: str):
    ours = get_peft_model(tiny(name), LoraConfig(r=4, bias=bias))
    ours.save_pretrained(tmp_path)
    losses: list[list[float]] = []
    for model in (ours, theirs_of(peft, name, tmp_path)):
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(trained, lr=0.1)
        losses.append([])
        for _ in range(5):
            loss = model(**inputs(name)).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=2e-6)  # measured 4e-7
    assert losses[0][-1] < losses[0][0] - 5e-3


@pytest.mark.parametrize("bias", BOTH)
@pytest.mark.parametrize("name", [*NAMES, "qwen2"])
def test_as_many_are_trained_as_in_peft(peft: Any, name: str, bias: str):
    options = {"r": 3, "bias": bias}
    theirs = peft.get_peft_model(
        tiny(name), peft.LoraConfig(fan_in_fan_out=name == "gpt2", **options)
    )
    built = get_peft_model(tiny(name), LoraConfig(**options)).get_nb_trainable_parameters()
    assert built[0] == theirs.get_nb_trainable_parameters()[0]
    counted = count(tiny(name), LoraConfig(**options))
    assert built == (counted.trainable, counted.all)


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", BOTH)
@pytest.mark.parametrize(
    ("name", "options"),
    [*((name, {}) for name in NAMES), ("bert", {"task_type": "SEQ_CLS"})],
    ids=str,
)
def test_files_travel_both_ways_with_every_bit(
    peft: Any, tmp_path: Path, name: str, bias: str, options: dict[str, Any]
):
    ours = adapted(name, bias=bias, **options)
    ours.save_pretrained(tmp_path / "ours")
    theirs = theirs_of(peft, name, tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    again = PeftModel.from_pretrained(tiny(name), tmp_path / "theirs")
    first, last = get_peft_model_state_dict(ours), get_peft_model_state_dict(again)
    assert {key: bits(t) for key, t in first.items()} == {key: bits(t) for key, t in last.items()}
    assert torch.equal(output(again, name), output(ours, name))
    files = [load_file(tmp_path / who / "adapter_model.safetensors") for who in ("ours", "theirs")]
    extra = files[1].keys() - files[0].keys()  # peft writes a head's bias three times
    head = "base_model.model.classifier"
    three = {f"{head}.original_module.bias", f"{head}.modules_to_save.bias"}
    assert extra == (three if options and bias == "all" else set())
    assert not files[0].keys() - files[1].keys()


def test_a_bias_that_has_no_place_is_still_refused(tmp_path: Path):
    adapted("bert", bias="all", task_type="SEQ_CLS").save_pretrained(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors["base_model.model.pooler.modules_to_save.bias"] = torch.zeros(16)
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="1 tensors that have no place"):
        PeftModel.from_pretrained(tiny("bert"), tmp_path)


@pytest.mark.parametrize("bias", BOTH)
def test_peft_writes_a_file_without_biases_and_we_read(peft: Any, tmp_path: Path, bias: str):
    peft.get_peft_model(tiny("llama"), peft.LoraConfig(r=4, bias=bias)).save_pretrained(tmp_path)
    ours = PeftModel.from_pretrained(tiny("llama"), tmp_path)
    assert ours.active_peft_config.bias == bias


# --- the base stays ------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", BOTH)
@pytest.mark.parametrize("name", NAMES)
def test_the_base_can_always_be_had_back_to_the_bit(name: str, bias: str):
    plain = tiny(name)
    bare, weights = output(plain, name), [bits(p) for p in plain.parameters()]
    model = adapted(name, bias=bias)
    one = output(model, name)
    assert not torch.allclose(one, bare, atol=1e-3)
    with model.disable_adapter():
        assert torch.equal(output(model, name), bare)
    model.add_adapter("b", LoraConfig(r=2, bias="all"))
    model.set_adapter("b")
    assert torch.equal(output(model, name), bare)  # B = 0 and b' = b
    shake(model, seed=5)
    two = output(model, name)
    model.set_adapter(["default", "b"])
    both, state = output(model, name), state_of(model)
    model.merge_adapter()
    # rounding of merged weights, float32: measured 1.6e-6 of logits up to 7
    assert torch.allclose(output(model, name), both, rtol=0, atol=1e-5)
    model.unmerge_adapter()
    assert state_of(model) == state
    model.delete_adapter("default")
    model.set_adapter("b")
    assert torch.equal(output(model, name), two)
    back = model.unload()
    assert torch.equal(output(back, name), bare)
    assert [bits(p) for p in back.parameters()] == weights
    assert [n for n, _ in back.named_modules()] == [n for n, _ in plain.named_modules()]


def test_where_peft_gives_another_model_back(peft: Any, tmp_path: Path):
    """Why ours stand beside: with peft's adapter switched off, the biases stay changed."""
    adapted("gpt2", bias="all").save_pretrained(tmp_path)
    theirs = theirs_of(peft, "gpt2", tmp_path)
    with (
        pytest.warns(UserWarning, match="does not produce the same output"),
        theirs.disable_adapter(),
    ):
        assert not torch.allclose(output(theirs, "gpt2"), output(tiny("gpt2"), "gpt2"), atol=1e-3)


def test_one_adapters_bias_is_where_another_has_its_lora():
    """`c_attn` gets a LoRA from one adapter and only a bias from the other, saved as its own."""
    model = adapted("gpt2", target_modules=["c_attn"])
    model.add_adapter("b", LoraConfig(r=2, target_modules=["c_proj"], bias="all"))
    keys = get_peft_model_state_dict(model, "b")
    alone = get_peft_model(tiny("gpt2"), LoraConfig(r=2, target_modules=["c_proj"], bias="all"))
    assert keys.keys() == get_peft_model_state_dict(alone).keys()
    assert "base_model.model.transformer.h.0.attn.c_attn.bias" in keys
    assert "base_model.model.transformer.h.0.attn.c_proj.base_layer.bias" in keys


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bias", "name", "said"),
    [
        (
            "all",
            "llama",
            r"bias='all' trains biases, and there are none in LlamaForCausalLM; leave",
        ),
        ("lora_only", "llama", r"bias='lora_only' trains.*none in the 4 adapted layers"),
    ],
)
def test_no_biases_to_train_is_refused(bias: str, name: str, said: str):
    model = tiny(name)
    before = state_of(model)
    for ask in (get_peft_model, count):
        with pytest.raises(TargetError, match=said):
            ask(model, LoraConfig(bias=bias))
    assert state_of(model) == before


def test_a_bias_that_nothing_can_stand_beside_is_refused_with_the_way_out():
    base = nn.ModuleDict({"odd": nn.LSTM(4, 4), "good": nn.Linear(4, 4)})
    with pytest.raises(TargetError, match=r"'odd.bias_ih_l0'.*bias='lora_only' trains those of"):
        get_peft_model(base, LoraConfig(target_modules=["good"], bias="all"))
    model = minipeft.get_peft_model(base, LoraConfig(target_modules=["good"], bias="lora_only"))
    assert model.get_nb_trainable_parameters()[0] == 8 * 8 + 4
