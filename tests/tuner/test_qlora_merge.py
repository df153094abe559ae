"""Merging into packed layers: a plain layer, or a packed one again, takes the place of the old one.

Merged against not merged. bitsandbytes' 8-bit layer rounds its input to 8 bits as well, which a
merged plain layer does not: there the oracle is W alone, for the other kinds the answer.
"""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from conftest import bits, inputs, output, shake, state_of, tiny
from kbit_models import KINDS, lora_on, quantized
from torch import nn
from transformers.pytorch_utils import Conv1D

from minipeft import BitFitConfig, IA3Config, LoraConfig, QuantizedLinear, get_peft_model
from minipeft.checks.errors import MinipeftWarning, StateError
from minipeft.layers.quant import packed
from minipeft.tuner.slots import Wrapper

CLASSES = {"ours": "QuantizedLinear", "4bit": "Linear4bit", "8bit": "Linear8bitLt"}
MERGING = {
    "lora": {"r": 4, "lora_alpha": 6},
    "dora": {"r": 4, "use_dora": True},
    "biases": {"r": 4, "bias": "all"},
}


def wrappers(model: nn.Module) -> dict[str, Any]:
    """The wrapped layers by dotted name."""
    return {n: m for n, m in model.named_modules() if isinstance(m, Wrapper)}


def frozen(model: nn.Module) -> dict[str, tuple[int, bytes, Any]]:
    """The layers' very objects, and the bits of what they hold."""
    return {
        name: (id(w.base_layer), bits(packed.dequantized(w.base_layer)), w.base_layer.bias is None)
        for name, w in wrappers(model).items()
        if packed.kind(w.base_layer)
    }


def far(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference, relative to the largest entry."""
    return ((a - b).abs().max() / b.abs().max()).item()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "method"),
    [(n, m) for n in ("gpt2", "bloom", "llama") for m in MERGING if (n, m) != ("llama", "biases")],
)
def test_merged_into_plain_layers_and_back(name: str, kind: str, method: str):
    model = lora_on(quantized(name, kind), **MERGING[method])
    before, there = output(model, name), frozen(model)
    counts = model.get_nb_trainable_parameters()
    updates = {
        n: w.adapters["default"].fold(packed.dequantized(w.base_layer).float(), None)[0]
        for n, w in wrappers(model).items()
        if packed.kind(w.base_layer) and method == "lora"
    }
    model.merge_adapter()
    kinds = {type(w.base_layer) for n, w in wrappers(model).items() if n in there}
    assert kinds == {Conv1D if name == "gpt2" else nn.Linear}
    for n, expected in updates.items():  # W + ΔW in float32, rounded once to W's dtype
        layer = wrappers(model)[n].base_layer
        w = layer.weight.T if isinstance(layer, Conv1D) else layer.weight
        assert torch.equal(w, expected.to(w.dtype))
        assert layer.weight.requires_grad is False
    if kind != "8bit":  # float32, two layers; measured 3e-6
        assert far(output(model, name), before) < 2e-5
    assert model.get_nb_trainable_parameters() == counts
    model.unmerge_adapter()
    assert frozen(model) == there
    assert torch.equal(output(model, name), before)


@pytest.mark.parametrize("kind", KINDS)
def test_biases_alone_leave_packed_layers_packed(kind: str):
    model = get_peft_model(quantized("bloom", kind), BitFitConfig())
    shake(model)
    before, there = output(model, "bloom"), frozen(model)
    assert there
    model.merge_adapter()
    assert frozen(model) == there
    assert far(output(model, "bloom"), before) < 1e-5
    model.unmerge_adapter()
    assert torch.equal(output(model, "bloom"), before)


@pytest.mark.parametrize("kind", KINDS)
def test_packed_again_it_says_what_the_rounding_took(kind: str):
    model = lora_on(quantized("gpt2", kind))
    before, there = output(model, "gpt2"), frozen(model)
    old = {n: packed.dequantized(w.base_layer) for n, w in wrappers(model).items()}
    target = {n: old[n] + w.adapters["default"].delta_weight() for n, w in wrappers(model).items()}
    with pytest.warns(MinipeftWarning, match="merged 8 layers and packed them again") as caught:
        model.merge_adapter(requantize=True)
    new = {n: packed.dequantized(w.base_layer) for n, w in wrappers(model).items()}
    lost = sum((new[n] - target[n]).norm() ** 2 for n in new) ** 0.5
    change = sum((target[n] - old[n]).norm() ** 2 for n in new) ** 0.5
    (percent,) = re.findall(r"has (\d+) % of the length", str(caught[0].message))
    assert int(percent) == round(100 * (lost / change).item())
    assert {type(w.base_layer).__name__ for w in wrappers(model).values()} == {CLASSES[kind]}
    assert caught[0].filename == __file__
    if kind == "ours":
        first = next(iter(wrappers(model).values()))
        old_layer, layer = first.aside.layer, first.base_layer
        assert layer.offset is not None
        assert (layer.blocksize, layer.quant_type) == (old_layer.blocksize, old_layer.quant_type)
        assert far(output(model, "gpt2"), before) < 0.5  # 4 bits: the answer is about the same
    model.unmerge_adapter()
    assert frozen(model) == there
    assert torch.equal(output(model, "gpt2"), before)


def test_packed_again_it_keeps_its_options():
    weight, b = torch.randn(6, 40), torch.randn(6)
    for options in (
        {"quant_type": "nf8", "blocksize": 32, "compute_dtype": torch.bfloat16, "compile": True},
        {"double_quant": True, "source_cls": Conv1D},
    ):
        old = QuantizedLinear.of(weight.bfloat16(), **options)
        new: Any = packed.requantized(old, weight + 1, b)
        for name in ("blocksize", "quant_type", "compute_dtype", "compile_dequantize"):
            assert getattr(new, name) == getattr(old, name), name
        assert (new.source_cls, new.weight_dtype) == (old.source_cls, torch.bfloat16)
        assert (new.offset is None) == (old.offset is None)
        assert bits(new.codes) == bits(QuantizedLinear.of(weight + 1, **options).codes)
        assert torch.equal(new.bias, b)


@pytest.mark.parametrize("kind", KINDS)
def test_merged_for_good_it_is_a_plain_checkpoint(kind: str, tmp_path: Path):
    model = lora_on(quantized("gpt2", kind))
    before = output(model, "gpt2")
    plain = model.merge_and_unload()
    assert {type(m) for n, m in plain.named_modules() if n.endswith(("c_attn", "c_fc"))} == {Conv1D}
    assert {n: p.shape for n, p in plain.named_parameters()} == {
        n: p.shape for n, p in tiny("gpt2").named_parameters()
    }
    answer = output(plain, "gpt2")
    assert kind == "8bit" or far(answer, before) < 2e-5
    for flag in ("is_loaded_in_4bit", "is_loaded_in_8bit"):
        if hasattr(plain, flag):
            setattr(plain, flag, False)
    plain.save_pretrained(tmp_path)
    read = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(output(read, "gpt2"), answer)


@pytest.mark.parametrize("kind", KINDS)
def test_packed_for_good_it_is_adapted_and_merged_again(kind: str):
    model = lora_on(quantized("gpt2", kind))
    with pytest.warns(MinipeftWarning, match="merged 8 layers"):
        base = model.merge_and_unload(requantize=True)
    assert type(base.transformer.h[0].attn.c_attn).__name__ == CLASSES[kind]
    again = lora_on(base, target_modules=["c_attn"])
    again.merge_adapter()  # without a warning of what the first merge rounded
    plain = again.merge_and_unload()
    assert type(plain.transformer.h[0].attn.c_attn) is Conv1D  # which the new layer still knew
    assert type(plain.transformer.h[0].mlp.c_fc).__name__ == CLASSES[kind]


@pytest.mark.parametrize("kind", ["ours", "4bit"])
def test_several_adapters_merge_as_their_sum(kind: str):
    model = lora_on(quantized("gpt2", kind))
    model.add_adapter("b", LoraConfig(r=2, target_modules=["c_attn", "c_fc"]))
    model.set_adapter(["default", "b"])
    shake(model, seed=4)
    both, there = output(model, "gpt2"), frozen(model)
    for part in (["default"], ["b"], None):
        model.merge_adapter(part)
        assert far(output(model, "gpt2"), both) < 2e-5
        model.unmerge_adapter()
        assert frozen(model) == there
    model.set_adapter("b")
    model.delete_adapter("default")
    assert len(wrappers(model)) == 4
    assert far(output(model.merge_and_unload(), "gpt2"), both) > 0.1


def test_with_ia3_in_order():
    model = lora_on(quantized("bloom", "ours"), target_modules=None)
    model.add_adapter("scale", IA3Config())
    model.set_adapter(["default", "scale"])
    shake(model, seed=4)
    before = output(model, "bloom")
    model.merge_adapter()
    assert far(output(model, "bloom"), before) < 2e-5


@pytest.mark.parametrize("requantize", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:merged .* layers and packed them again")
def test_disabled_while_merged_the_base_model_answers(kind: str, requantize: bool):
    bare = output(quantized("gpt2", kind), "gpt2")
    model = lora_on(quantized("gpt2", kind))
    model.merge_adapter(requantize=requantize)
    merged = output(model, "gpt2")
    with model.disable_adapter():
        assert torch.equal(output(model, "gpt2"), bare)
    assert torch.equal(output(model, "gpt2"), merged)
    kinds = {type(w.base_layer).__name__ for w in wrappers(model).values()}
    assert kinds == {CLASSES[kind] if requantize else "Conv1D"}
    assert torch.equal(output(model.unload(), "gpt2"), bare)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_of_a_merged_model_can_be_unmerged(copied: Any):
    model = lora_on(quantized("gpt2", "ours"))
    before = output(model, "gpt2")
    model.merge_adapter()
    other = copied(model)
    other.unmerge_adapter()
    assert torch.equal(output(other, "gpt2"), before)
    assert model.base_model.merged == ("default",)
    assert {type(w.base_layer) for w in wrappers(other).values()} == {QuantizedLinear}


@pytest.mark.parametrize("kind", KINDS)
def test_a_nan_anywhere_is_refused_and_nothing_was_merged(kind: str):
    model = lora_on(quantized("gpt2", kind))
    last = [p for n, p in model.named_parameters() if "lora_B" in n][-1]
    last.data[0, 0] = float("nan")
    before, there = state_of(model), frozen(model)
    for verb in (model.merge_adapter, model.merge_and_unload):
        with pytest.raises(StateError, match="not finite; look for NaN"):
            verb()
        assert (state_of(model), frozen(model)) == (before, there)
    with pytest.raises(StateError, match="not finite"):
        model.merge_adapter(requantize=True)
    assert (state_of(model), frozen(model)) == (before, there)


def test_trained_on_after_a_merge_it_still_learns():
    model = lora_on(quantized("llama", "ours"))
    model.merge_adapter()
    model.unmerge_adapter()
    model(**inputs("llama")).loss.backward()
    grads = [p.grad for n, p in model.named_parameters() if "lora_" in n]
    assert len(grads) == 28
    assert all(g.abs().max() > 0 for g in grads)
