"""IA³: equal to peft to the bit, both ways on disk, folded and taken back, and the paper's reading.

Both libraries multiply by the same vector in the same dtype and round once, so outputs, losses and
gradients are compared bit for bit.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import torch
from conftest import inputs, output, shake, tiny
from safetensors.torch import load_file
from torch import Tensor, nn

from minipeft import IA3, IA3Config, PeftModel, get_peft_model, get_peft_model_state_dict
from minipeft.layers.families import IA3_FEEDFORWARD, IA3_TARGETS

peft = pytest.importorskip("peft")

CAUSAL = ["gpt2", "bloom", "llama", "mistral", "qwen2", "qwen3", "opt", "gpt_neox", "t5"]
FAMILIES = [*CAUSAL, "bert"]
HALVES = [torch.float16, torch.bfloat16]


def scaled(name: str, dtype: torch.dtype = torch.float32, **options: Any) -> PeftModel:
    """A tiny model with an IA³ that changes its output."""
    model = get_peft_model(tiny(name, dtype), IA3Config(**options))
    shake(model)
    return model


def theirs_of(name: str, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    """peft's IA³ on the same tiny model."""
    config = peft.IA3Config(fan_in_fan_out=name == "gpt2", **options)
    model = peft.get_peft_model(tiny(name, dtype), config)
    shake(model, seed=3)
    return model.eval()


def pair(name: str, dtype: torch.dtype = torch.float32, **options: Any) -> tuple[Any, Any]:
    """Ours and peft's with the same vectors, moved as a state dict."""
    ours, theirs = scaled(name, dtype, **options), theirs_of(name, dtype, **options)
    moved = peft.set_peft_model_state_dict(theirs, get_peft_model_state_dict(ours))
    assert not moved.unexpected_keys
    return ours, theirs


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """The gradients of all that is trained, under names that both sides share."""
    named = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    drop = r"\.(adapters|modules_to_save|default|ia3_l|base_layer)\b"
    return {re.sub(drop, "", n): g for n, g in named.items()}


def same(ours: Any, theirs: Any, name: str) -> None:
    """Outputs, loss and gradients equal to the bit."""
    mine, other = ours(**inputs(name)), theirs(**inputs(name))
    assert torch.equal(mine.logits, other.logits)
    assert not torch.equal(mine.logits, tiny(name, mine.logits.dtype)(**inputs(name)).logits)
    mine.loss.backward()
    other.loss.backward()
    a, b = gradients(ours), gradients(theirs)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) and a[key].abs().max() > 0 for key in a)


# --- alone ---------------------------------------------------------------------------------------


def test_alone_by_hand():
    scale, x = IA3(3), torch.tensor([[1.0, 2.0, 3.0]])
    assert torch.equal(scale(x), x)  # starts at one
    with torch.no_grad():
        scale.ia3_l.copy_(torch.tensor([[2.0], [0.0], [-1.0]]))
    assert scale(x).tolist() == [[2.0, 0.0, -3.0]]
    assert torch.equal(scale.before(x), x)
    assert scale.after(x, x).tolist() == [[2.0, 0.0, -3.0]]
    weight, bias = scale.fold(torch.ones(3, 2), torch.tensor([1.0, 1.0, 5.0]))
    assert weight.tolist() == [[2.0, 2.0], [0.0, 0.0], [-1.0, -1.0]]
    assert bias.tolist() == [2.0, 0.0, -5.0]
    assert (tuple(scale.ia3_l.shape), scale.changes_input) == ((3, 1), False)


def test_the_feedforward_by_hand():
    scale, x = IA3(2, feedforward=True), torch.tensor([1.0, 3.0])
    with torch.no_grad():
        scale.ia3_l.copy_(torch.tensor([[2.0, -1.0]]))
    assert scale.before(x).tolist() == [2.0, -3.0]
    assert torch.equal(scale.after(x, x), x)
    given = torch.tensor([5.0, 6.0, 7.0])
    weight, bias = scale.fold(torch.ones(3, 2), given)
    assert weight.tolist() == [[2.0, -1.0]] * 3
    assert bias is given
    assert scale.fold(torch.ones(3, 2), None)[1] is None
    assert (tuple(scale.ia3_l.shape), scale.changes_input) == ((1, 2), True)


def test_a_half_precision_input_is_scaled_in_float32_and_rounded_once():
    scale = IA3(1)
    scale.ia3_l.data.fill_(1 + 3 * 2**-10)  # bfloat16 has no such number: rounded first, it is 1
    x = torch.tensor([2 - 2**-7], dtype=torch.bfloat16)  # the last number below 2
    assert scale(x).dtype == torch.bfloat16
    assert scale(x).item() == 2


# --- peft's numbers ------------------------------------------------------------------------------


def test_the_tables_are_those_of_peft():
    theirs = peft.utils.constants
    targets = theirs.TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING
    feedforward = theirs.TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING
    # RefinedWeb: Falcon's name before transformers had it
    known = {k for k in targets if not k.startswith("RefinedWeb")}
    assert {k: set(v) for k, v in IA3_TARGETS.items()} == {k: set(targets[k]) for k in known}
    assert {k: list(v) for k, v in IA3_FEEDFORWARD.items()} == {k: feedforward[k] for k in known}


@pytest.mark.parametrize("name", FAMILIES)
def test_default_targets_are_equal_to_the_bit(name: str):
    same(*pair(name), name)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("name", ["gpt2", "llama", "t5"])
def test_half_precision_is_equal_to_the_bit(name: str, dtype: torch.dtype):
    ours, theirs = pair(name, dtype)
    assert {p.dtype for n, p in ours.named_parameters() if "ia3_l" in n} == {torch.float32}
    same(ours, theirs, name)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gpt2", {"target_modules": ["c_attn", "c_fc"], "feedforward_modules": ["c_fc"]}),
        ("gpt2", {"target_modules": ["c_attn"], "feedforward_modules": []}),
        ("gpt2", {"target_modules": "all-linear"}),
        ("llama", {"target_modules": ["k_proj", "mlp.down_proj"]}),
        ("llama", {"target_modules": r".*\.(k|v)_proj"}),  # peft writes down_proj into the file
        ("llama", {"target_modules": r".*(q|down)_proj", "feedforward_modules": r".*\.down_proj"}),
        ("bert", {"target_modules": ["query", "output.dense"], "task_type": "SEQ_CLS"}),
        ("bloom", {"target_modules": ["dense"], "feedforward_modules": ["dense"]}),
        ("bloom", {"target_modules": ["dense_4h_to_h"]}),  # the default says mlp.dense_4h_to_h
    ],
    ids=str,
)
def test_options_are_equal_to_the_bit_and_travel_both_ways(name, options, tmp_path):
    ours, theirs = pair(name, **options)
    same(ours, theirs, name)
    ours.save_pretrained(tmp_path / "ours")
    again = peft.PeftModel.from_pretrained(tiny(name), tmp_path / "ours")
    assert torch.equal(output(again, name), output(ours, name))
    theirs.save_pretrained(tmp_path / "theirs")
    if options.get("target_modules") == ["k_proj", "mlp.down_proj"]:
        # peft adds its default feed-forward beside the list, and cannot read its own file
        with pytest.raises(ValueError, match="subset"):
            peft.PeftModel.from_pretrained(tiny(name), tmp_path / "theirs")
        return
    back = PeftModel.from_pretrained(tiny(name), tmp_path / "theirs")
    assert torch.equal(output(back, name), output(theirs, name))


@pytest.mark.parametrize("name", CAUSAL)
def test_generate_gives_the_same_tokens(name: str):
    ours, theirs = pair(name)
    batch = {key: inputs(name)[key] for key in ("input_ids", "attention_mask")}
    made = [m.generate(**batch, max_new_tokens=8, do_sample=False) for m in (ours, theirs)]
    assert torch.equal(*made)


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_files_travel_both_ways(name: str, tmp_path):
    ours, theirs = scaled(name), theirs_of(name)
    ours.save_pretrained(tmp_path / "ours")
    assert torch.equal(
        output(peft.PeftModel.from_pretrained(tiny(name), tmp_path / "ours"), name),
        output(ours, name),
    )
    theirs.save_pretrained(tmp_path / "theirs")
    back = PeftModel.from_pretrained(tiny(name), tmp_path / "theirs")
    assert torch.equal(output(back, name), output(theirs, name))
    assert not torch.equal(output(back, name), output(ours, name))


def test_the_two_write_the_same_file(tmp_path):
    ours, theirs = pair("gpt2", task_type="CAUSAL_LM")
    ours.save_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    weights = [tmp_path / who / "adapter_model.safetensors" for who in ("ours", "theirs")]
    (a, b) = map(load_file, weights)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    block = "base_model.model.transformer.h.0"
    assert a[f"{block}.attn.c_attn.ia3_l"].shape == (48, 1)
    assert a[f"{block}.mlp.c_proj.ia3_l"].shape == (1, 64)
    mine, other = (
        json.loads((tmp_path / who / "adapter_config.json").read_text())
        for who in ("ours", "theirs")
    )
    assert not mine.keys() - other.keys()  # peft warns of a key that it does not know
    for key in mine.keys() - {"base_model_name_or_path"}:
        a, b = (sorted(x[key]) if isinstance(x[key], list) else x[key] for x in (mine, other))
        assert a == b, key


def test_the_config_of_the_notes_works_and_peft_can_read_it(tmp_path):
    options = {
        "task_type": "CAUSAL_LM",
        "target_modules": ["query_key_value"],
        "feedforward_modules": ["mlp.dense_4h_to_h"],
    }
    with pytest.raises(ValueError, match="subset"):
        peft.IA3Config(**options)
    ours, default = scaled("bloom", **options), scaled("bloom", task_type="CAUSAL_LM")
    assert torch.equal(output(ours, "bloom"), output(default, "bloom"))
    ours.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    assert saved["target_modules"] == ["query_key_value", "mlp.dense_4h_to_h"]
    assert saved["feedforward_modules"] == ["mlp.dense_4h_to_h"]
    theirs = peft.PeftModel.from_pretrained(tiny("bloom"), tmp_path)
    assert torch.equal(output(theirs, "bloom"), output(ours, "bloom"))


def test_a_feedforward_alone_joins_the_default_targets(tmp_path):
    ours = scaled("gpt2", feedforward_modules=["mlp.c_fc"])
    state = get_peft_model_state_dict(ours)
    shapes = {key.split("h.0.")[-1]: tuple(tensor.shape) for key, tensor in state.items()}
    assert shapes["attn.c_attn.ia3_l"] == (48, 1)
    assert shapes["mlp.c_proj.ia3_l"] == (16, 1)  # a target, and not among the feed-forward now
    assert shapes["mlp.c_fc.ia3_l"] == (1, 16)
    ours.save_pretrained(tmp_path)
    theirs = peft.PeftModel.from_pretrained(tiny("gpt2"), tmp_path)
    assert torch.equal(output(theirs, "gpt2"), output(ours, "gpt2"))


def test_a_plain_model_travels_too(tmp_path):
    model = scaled("mlp", target_modules=["first", "second"], feedforward_modules=["second"])
    alone = scaled("mlp", target_modules=["first"])
    for ours in (model, alone):
        ours.save_pretrained(tmp_path)
        theirs = peft.PeftModel.from_pretrained(tiny("mlp"), tmp_path)
        assert torch.equal(output(theirs, "mlp"), output(ours, "mlp"))
