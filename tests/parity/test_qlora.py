"""QLoRA: adapters beside 4-bit and 8-bit layers, ours and bitsandbytes', against Hugging Face peft.

The frozen layers are the very same bitsandbytes layers on both sides, and the scales are powers of
two or one, so that outputs, gradients and files are equal to the bit (see test_peft_equality.py).
DoRA multiplies and adds in another order than peft: float32, largest differences measured 4e-7 for
outputs and 1.3e-6 for gradients; the bounds are four times that.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import WEIGHTS, bits, inputs, output, shake
from kbit_models import KINDS, loaded, lora_on, packed_by_bnb, quantized, quiet
from safetensors.torch import load_file
from torch import Tensor, nn

import minipeft
from minipeft import (
    AdapterConfig,
    BitFitConfig,
    IA3Config,
    LoraConfig,
    PeftConfig,
    PeftModel,
    QuantizedLinear,
    get_peft_model,
)

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("LoraConfig", {"r": 4, "lora_alpha": 8}),
    "lora everywhere": ("LoraConfig", {"r": 2, "lora_alpha": 2, "target_modules": "all-linear"}),
    "dora": ("LoraConfig", {"r": 4, "lora_alpha": 8, "use_dora": True}),
    "ia3": ("IA3Config", {}),
}


def grads(model: nn.Module) -> dict[str, Tensor]:
    """The gradients of what is trained, under names that both libraries share."""
    found = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            name = re.sub(r"\.(adapters|default|base_layer|lora)\b", "", name)
            found[name.removesuffix(".weight")] = parameter.grad.flatten()
    return found


def run(model: Any, name: str) -> tuple[Tensor, dict[str, Tensor]]:
    """Outputs and gradients."""
    model.zero_grad()
    out = model(**inputs(name))
    out.loss.backward()
    return out.logits.detach(), grads(model)


def compare(ours: Any, theirs: Any, name: str, bounds: tuple[float, float] = (0, 0)) -> None:
    """Outputs and gradients within the bounds; 0: to the bit."""
    (mine, a), (other, b) = run(ours, name), run(theirs, name)
    assert (mine - other).abs().max() <= bounds[0] * other.abs().max()
    assert a.keys() == b.keys()
    assert all((a[key] - b[key]).norm() <= bounds[1] * b[key].norm() for key in a)
    assert all(grad.abs().max() > 0 for grad in a.values())
    assert ours.get_nb_trainable_parameters() == theirs.get_nb_trainable_parameters()


# --- equal to peft -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["4bit", "8bit"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "bloom", "t5"])
def test_equal_to_peft_over_the_same_layers(
    peft: Any, tmp_path: Path, name: str, kind: str, method: str
):
    config, options = METHODS[method]
    with quiet():
        ours = get_peft_model(quantized(name, kind), getattr(minipeft, config)(**options))
        theirs = peft.get_peft_model(quantized(name, kind), getattr(peft, config)(**options))
        shake(ours)
        moved = peft.set_peft_model_state_dict(theirs, minipeft.get_peft_model_state_dict(ours))
    assert not moved.unexpected_keys
    theirs.eval()
    compare(ours, theirs, name, (2e-6, 6e-6) if method == "dora" else (0, 0))
    with quiet():
        ours.save_pretrained(tmp_path / "ours")
        theirs.save_pretrained(tmp_path / "theirs")
        read = peft.PeftModel.from_pretrained(quantized(name, kind), tmp_path / "ours").eval()
    mine, other = (load_file(tmp_path / who / WEIGHTS) for who in ("ours", "theirs"))
    assert {k: bits(t) for k, t in mine.items()} == {k: bits(t) for k, t in other.items()}
    back = PeftModel.from_pretrained(quantized(name, kind), tmp_path / "theirs")
    expected = output(ours, name)
    if (kind, method) != ("8bit", "dora"):  # there peft 0.21.2, just loaded, fails in bitsandbytes
        assert torch.equal(output(read, name), output(theirs, name))
    assert torch.equal(output(back, name), expected)
    assert not torch.equal(output(quantized(name, kind), name), expected)


@pytest.mark.slow
@pytest.mark.parametrize("n", [4, 8])
def test_as_transformers_loads_it(peft: Any, tmp_path: Path, n: int):
    models = [loaded(tmp_path / "base", n) for _ in range(2)]
    wrapped = type(models[0].model.layers[0].mlp.up_proj).__name__
    assert wrapped == ("Linear4bit" if n == 4 else "Linear8bitLt")
    ours = lora_on(models[0], lora_alpha=8)
    with quiet():
        config = peft.LoraConfig(r=4, target_modules="all-linear", lora_alpha=8)
        theirs = peft.get_peft_model(models[1], config).eval()
        peft.set_peft_model_state_dict(theirs, minipeft.get_peft_model_state_dict(ours))
    compare(ours, theirs, "llama")
    # transformers' own layers are those that we build by hand
    by_hand = lora_on(quantized("llama", f"{n}bit"), lora_alpha=8)
    assert torch.equal(output(by_hand, "llama"), output(ours, "llama"))


# --- every method, over every kind ---------------------------------------------------------------

ALL = ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]
CONFIGS: dict[str, PeftConfig] = {
    "lora": LoraConfig(r=3, lora_alpha=7, target_modules=ALL),
    "lora with biases": LoraConfig(r=3, target_modules=ALL, bias="all"),
    "dora": LoraConfig(r=3, use_dora=True, target_modules=ALL),
    "ia3": IA3Config(),
    "bitfit": BitFitConfig(),
    "adapter": AdapterConfig(),
}


def dense(model: Any) -> Any:
    """The model with plain layers that have the numbers that the packed ones stand for."""
    from minipeft.layers.quant import packed

    for path, module in list(model.named_modules()):
        if packed.kind(module):
            weight, bias = packed.dequantized(module).float(), module.bias
            parent, _, key = path.rpartition(".")
            plain = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
            plain.weight, plain.bias = nn.Parameter(weight), bias
            setattr(model.get_submodule(parent), key, plain.eval())
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", CONFIGS)
def test_at_the_start_the_model_is_what_it_was(method: str, kind: str):
    before = output(quantized("bloom", kind), "bloom")
    model = get_peft_model(quantized("bloom", kind), CONFIGS[method])
    # DoRA's m / ‖V‖ is 1 up to the rounding of a sum of squares; all others are exact
    atol = 1e-5 if method == "dora" else 0
    assert torch.allclose(output(model, "bloom"), before, rtol=0, atol=atol * before.abs().max())


@pytest.mark.parametrize("kind", ["ours", "4bit"])
@pytest.mark.parametrize("method", CONFIGS)
def test_it_does_what_it_does_beside_plain_layers_with_the_same_weights(method: str, kind: str):
    models = [quantized("bloom", kind), dense(quantized("bloom", kind))]
    results = []
    for base in models:
        model = get_peft_model(base, CONFIGS[method])
        shake(model)
        results.append(run(model, "bloom"))
    (mine, a), (other, b) = results
    # b is added inside or after the product: float32, measured 4e-7 and 3e-6
    assert (mine - other).abs().max() <= 4e-6 * other.abs().max()
    assert a.keys() == b.keys()
    for key in a:
        assert (a[key] - b[key]).norm() <= 3e-5 * b[key].norm(), key
        assert b[key].abs().max() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_by_its_formula(kind: str):
    """h = y + s B A x, and the gradient of x through the frozen layer and through the adapter."""
    weight, b, x = torch.randn(64, 32), torch.randn(64), torch.randn(5, 32, requires_grad=True)
    if kind == "ours":
        layer: Any = QuantizedLinear.of(weight, nn.Parameter(b))
    else:
        layer = packed_by_bnb(weight, b, int(kind[0]))
    model = get_peft_model(
        nn.Sequential(layer), LoraConfig(r=4, lora_alpha=8, target_modules=["0"])
    )
    shake(model)
    lora = model.get_base_model()[0].adapters["default"]
    update = 2 * x @ lora.lora_A.T @ lora.lora_B.T
    expected = (layer(x) + update).detach()
    assert torch.allclose(model(x), expected, atol=1e-5)
    dy = torch.randn(5, 64)
    model(x).backward(dy)
    w = layer.weight if kind == "ours" else None
    if w is not None:
        assert torch.allclose(x.grad, dy @ w + 2 * dy @ lora.lora_B @ lora.lora_A, atol=1e-4)
    assert torch.allclose(lora.lora_B.grad, 2 * dy.T @ (x @ lora.lora_A.T), atol=1e-4)
    assert lora.lora_A.dtype == torch.float32
