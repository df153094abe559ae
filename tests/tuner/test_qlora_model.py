"""Packed models as models: all-linear, files, opaque layers, several adapters, other verbs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import MLP, WEIGHTS, bits, inputs, logits, output, shake, state_of, tiny
from kbit_models import KINDS, loaded, lora_on, quantized, quiet
from safetensors.torch import load_file
from test_peft_equality import distance
from torch import Tensor, nn

import minipeft
from minipeft import (
    AdapterConfig,
    BitFitConfig,
    IA3Config,
    LoraConfig,
    LoRALinear,
    PeftModel,
    QuantizedLinear,
    get_peft_model,
    quantize_model,
)
from minipeft.checks.errors import StateError, TargetError
from minipeft.layers.quant import packed
from minipeft.tuner.slots import Wrapper


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["gpt2", "llama", "bloom", "t5"])
def test_all_linear_means_the_packed_layers_and_no_head(name: str, kind: str):
    model, plain = lora_on(quantized(name, kind)), lora_on(tiny(name))
    where, known = (
        [n for n, m in made.named_modules() if isinstance(m, Wrapper)] for made in (model, plain)
    )
    assert where == known
    assert not any("lm_head" in n for n in where)
    assert model.get_nb_trainable_parameters() == plain.get_nb_trainable_parameters()
    loss = model(**inputs(name)).loss
    loss.backward()
    assert all(p.grad.abs().max() > 0 for n, p in model.named_parameters() if "lora_" in n)


CONFIGS = {
    "lora": LoraConfig(r=3, target_modules=["c_attn", "c_proj"]),
    "dora": LoraConfig(r=3, use_dora=True, target_modules=["c_attn", "c_proj"]),
    "ia3": IA3Config(),
    "adapter": AdapterConfig(),
    "bitfit": BitFitConfig(),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", CONFIGS)
def test_saved_and_loaded(method: str, kind: str, tmp_path: Path):
    model = get_peft_model(quantized("gpt2", kind), CONFIGS[method])
    shake(model)
    expected = output(model, "gpt2")
    model.save_pretrained(tmp_path)
    read = PeftModel.from_pretrained(quantized("gpt2", kind), tmp_path)
    assert torch.equal(output(read, "gpt2"), expected)
    assert not torch.equal(output(quantized("gpt2", kind), "gpt2"), expected)
    # an adapter belongs to a model, however that is packed
    near = output(PeftModel.from_pretrained(tiny("gpt2"), tmp_path), "gpt2")
    assert 0 < distance(expected, near) < 1
    if method != "adapter":  # what is merged is saved as it is beside the layer
        before = load_file(tmp_path / WEIGHTS)
        model.merge_adapter()
        model.save_pretrained(tmp_path)
        after = load_file(tmp_path / WEIGHTS)
        assert {k: bits(t) for k, t in after.items()} == {k: bits(t) for k, t in before.items()}
    read.load_adapter(tmp_path, "second", is_trainable=True)
    read.set_adapter("second")
    assert torch.equal(output(read, "gpt2"), expected)
    assert sum(p.requires_grad for p in read.parameters()) > 0


@pytest.mark.slow
@pytest.mark.parametrize("n", [4, 8])
def test_saved_and_loaded_beside_transformers_own(tmp_path: Path, n: int):
    model = lora_on(loaded(tmp_path / "base", n))
    expected = output(model, "llama")
    model.save_pretrained(tmp_path / "adapter")
    read = PeftModel.from_pretrained(loaded(tmp_path / "base", n), tmp_path / "adapter")
    assert torch.equal(output(read, "llama"), expected)
    assert read.peft_config["default"].base_model_name_or_path == str(tmp_path / "base")


def test_a_quantized_model_is_saved_by_its_state():
    """With the adapter in it, and read back into a model that was quantized in the same way."""
    model = lora_on(quantized("llama", "ours"))
    state = {n: t.clone() for n, t in model.state_dict().items()}
    assert sum(n.endswith(".codes") for n in state) == 14
    other = tiny("llama")
    nn.init.zeros_(other.model.layers[0].mlp.up_proj.weight)
    quantize_model(other)
    second = get_peft_model(other, LoraConfig(r=4, target_modules="all-linear"))
    assert not torch.equal(output(second, "llama"), output(model, "llama"))
    second.load_state_dict(state)
    assert torch.equal(output(second, "llama"), output(model, "llama"))


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_beside_each_other(kind: str):
    bare = output(quantized("bloom", kind), "bloom")
    model = lora_on(quantized("bloom", kind), target_modules=None)
    first = output(model, "bloom")
    model.add_adapter("b", LoraConfig(r=2, target_modules="all-linear", use_dora=True))
    model.set_adapter("b")
    shake(model, seed=5)
    second = output(model, "bloom")
    assert distance(second, first) > 1e-3
    model.set_adapter("default")
    shake(model, seed=2)
    with model.disable_adapter():
        assert torch.equal(output(model, "bloom"), bare)
    model.delete_adapter("b")
    assert torch.equal(output(model.unload(), "bloom"), bare)


@pytest.mark.parametrize("kind", KINDS)
def test_generate(kind: str):
    model = lora_on(quantized("gpt2", kind))
    batch = {k: v for k, v in inputs("gpt2").items() if k != "labels"}
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    with quiet():
        made = model.generate(**batch, **options)
    ids = batch["input_ids"]
    for _ in range(4):
        with torch.no_grad():
            row = logits(model(input_ids=ids))[:, -1].argmax(-1, keepdim=True)
        ids = torch.cat([ids, row], 1)
    assert torch.equal(made, ids)


def test_the_notes_layer_stands_on_a_packed_one():
    layer = QuantizedLinear.of(torch.randn(6, 8), nn.Parameter(torch.randn(6)))
    x = torch.randn(3, 8)
    linear = LoRALinear(layer, rank=2, lora_alpha=4)
    assert torch.equal(linear(x), layer(x))
    linear.lora.lora_B.data.normal_()
    expected = layer(x) + 2 * x @ linear.lora.lora_A.T @ linear.lora.lora_B.T
    assert torch.allclose(linear(x), expected, atol=1e-5)


def test_prompts_stand_before_a_packed_model():
    config = minipeft.PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")
    model = get_peft_model(quantized("gpt2", "ours"), config)
    model(**inputs("gpt2")).loss.backward()
    (prompt,) = [p for p in model.parameters() if p.requires_grad]
    assert prompt.grad.abs().max() > 0
    assert model.get_nb_trainable_parameters() == (
        48,
        48 + sum(p.numel() for p in tiny("gpt2").parameters()),
    )


# --- layers of which only the widths are known ---------------------------------------------------


class Opaque(nn.Module):
    """A packed layer of somebody else's, as GPTQ's: integers, scales and a forward."""

    def __init__(self, dense: nn.Linear):
        super().__init__()
        self.in_features, self.out_features = dense.in_features, dense.out_features
        scale = dense.weight.detach().abs().amax(1, keepdim=True) / 127
        self.register_buffer("qweight", (dense.weight.detach() / scale).round().to(torch.int8))
        self.register_buffer("scales", scale)
        self.bias = dense.bias

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.qweight * self.scales).T + self.bias


def opaque_model() -> nn.Module:
    """Two layers, one of them opaque."""
    torch.manual_seed(7)
    model = MLP()
    model.first = Opaque(model.first)
    return model


BOTH = ["second", "first"]


def test_an_opaque_layer_takes_a_lora_and_is_not_merged_into():
    base = opaque_model()
    x, bare = inputs("mlp")["x"], opaque_model()(inputs("mlp")["x"])
    model = get_peft_model(base, LoraConfig(r=2, lora_alpha=4, target_modules=BOTH))
    assert torch.equal(model(x), bare)
    shake(model)
    lora = base.first.adapters["default"]
    assert lora.lora_A.dtype == torch.float32
    hidden = base.first.base_layer(x) + 2 * x @ lora.lora_A.T @ lora.lora_B.T
    assert torch.allclose(base.first(x), hidden, atol=1e-5)
    model(x).sum().backward()
    assert lora.lora_A.grad.abs().max() > 0
    before = state_of(model)
    for verb in (model.merge_adapter, model.merge_and_unload):
        with pytest.raises(StateError, match="Opaque cannot take a merge"):
            verb()
        assert state_of(model) == before
    with pytest.raises(StateError, match="Opaque cannot take a merge"):
        model.merge_adapter(requantize=True)
    assert state_of(model) == before


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"use_dora": True}, TargetError, "DoRA needs .* Opaque does not show its W; use_dora=Fa"),
        ({"init_lora_weights": "loftq"}, TargetError, "first is a opaque linear layer; give the m"),
    ],
    ids=["dora", "loftq"],
)
def test_an_opaque_layer_takes_nothing_that_reads_w(
    options: dict[str, Any], error: type[Exception], said: str
):
    base = opaque_model()
    before = state_of(base)
    with pytest.raises(error, match=said):
        get_peft_model(base, LoraConfig(r=2, target_modules=BOTH, **options))
    assert state_of(base) == before
    model = get_peft_model(base, LoraConfig(r=2, target_modules=BOTH))
    before = state_of(model)
    with pytest.raises(error, match=said):
        model.add_adapter("b", LoraConfig(r=2, target_modules=BOTH, **options))
    assert state_of(model) == before


def test_what_is_packed_is_told_by_kind():
    assert packed.kind(QuantizedLinear.of(torch.ones(2, 64))) == "nf4 QuantizedLinear"
    assert packed.kind(nn.Linear(2, 2)) == packed.kind(opaque_model().first) == ""
