"""What merging into 16 bits loses is measured and said; a merged model is transformers' own again.

The share by hand: with V = W + ΔW in float64 and V' what stands in the layer after merging, it is
√Σ‖V' - V‖² / √Σ‖ΔW‖² over the merged layers. The message rounds it to whole per cent.
"""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import adapted, inputs, output, shake, state_of, tiny
from peft_pairs import adapters_of, answer, base_of, factors, ours_on
from safetensors.torch import save_file
from test_lora_conv_models import Wave, made
from torch import Tensor, nn

import minipeft
from minipeft import BitFitConfig, IA3Config, LoraConfig, get_peft_model
from minipeft.checks.errors import MinipeftWarning, StateError

HALVES = [torch.bfloat16, torch.float16]


def weights_of(model: Any, name: str = "default") -> dict[str, Tensor]:
    """The frozen weights of the adapted layers as they stand, in float64."""
    layers = model.get_base_model()
    found = {path: layers.get_submodule(path).base_layer for path in adapters_of(model, name)}
    return {path: layer.weight.detach().double().clone() for path, layer in found.items()}


def change(model: Any, path: str, name: str) -> Tensor:
    """ΔW of one LoRA in the form in which its layer stores W, in float64."""
    method = adapters_of(model, name)[path]
    a, b = (p.detach().double().flatten(1) for p in factors(method))
    weight = model.get_base_model().get_submodule(path).base_layer.weight
    delta = method.scaling * b @ a
    if weight.dim() == 2 and delta.shape != weight.shape:
        delta = delta.T  # GPT-2's Conv1D and an embedding
    return delta.reshape(weight.shape)


def share(model: Any, before: dict[str, Tensor], names: list[str]) -> float:
    """What was lost, in per cent of ΔW, of a model that is merged now."""
    lost = moved = 0.0
    for path, now in weights_of(model, names[0]).items():
        delta = sum(change(model, path, name) for name in names)
        lost += float((now - before[path] - delta).square().sum())
        moved += float(delta.square().sum())
    return 100 * (lost / moved) ** 0.5


def said(record: Any) -> list[int]:
    """The per cents that were said."""
    texts = [str(w.message) for w in record if issubclass(w.category, MinipeftWarning)]
    return [int(n) for text in texts for n in re.findall(r"(\d+) %", text)]


def scaled(model: Any, size: float) -> Any:
    """Its adapters with B smaller or larger."""
    for module in model.modules():
        if hasattr(module, "lora_B") and isinstance(module.lora_B, nn.Parameter):
            module.lora_B.data.mul_(size)
    return model


MODELS: dict[str, Any] = {
    "llama": (base_of("llama"), {"target_modules": "all-linear"}),
    "gpt2": (base_of("gpt2"), {"r": 2, "target_modules": ["c_attn", "mlp.c_proj"]}),
    "embedding": (base_of("llama"), {"target_modules": ["embed_tokens", "q_proj"]}),
    "conv": (made(Wave), {"target_modules": ["first", "second"]}),
}


@pytest.mark.parametrize("size", [1e-3, 0.01, 0.1])
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("which", MODELS)
def test_the_share_that_is_lost_is_said(which: str, dtype: torch.dtype, size: float):
    make, options = MODELS[which]
    model = scaled(ours_on(lambda: make().to(dtype), **options), size)
    before = weights_of(model)
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        model.merge_adapter()
    expected = share(model, before, ["default"])
    assert expected > 0.01
    if expected > 1.01:
        assert len(said(record)) == 1
        assert abs(said(record)[0] - expected) <= 0.5 + 1e-3 * expected  # ΔW is formed in float32
    elif expected < 0.99:
        assert said(record) == []
    model.unmerge_adapter()
    assert all(torch.equal(weight, before[path]) for path, weight in weights_of(model).items())


def test_a_number_by_hand():
    base = nn.Linear(2, 1, bias=False, dtype=torch.bfloat16)
    base.weight.data = torch.tensor([[1.0, 256.0]], dtype=torch.bfloat16)
    model = get_peft_model(nn.Sequential(base), LoraConfig(r=1, lora_alpha=1, target_modules=["0"]))
    a, b = factors(model.get_base_model()[0].adapters["default"])
    a.data, b.data = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.125]])
    # ΔW = (0.375, 0.5), of length 5/8. bfloat16 has 8 bits: 1.375 fits, 256.5 becomes 256.
    # Lost: 0.5 of 0.625, 80 %.
    with pytest.warns(MinipeftWarning, match=r"\b80 %"):
        model.merge_adapter()
    assert base.weight.tolist() == [[1.375, 256.0]]


def test_two_adapters_are_measured_together():
    model = scaled(adapted("llama", torch.bfloat16), 0.02)
    model.add_adapter("b", LoraConfig(r=2))
    model.set_adapter(["default", "b"])
    shake(model)
    scaled(model, 0.02)
    before = weights_of(model)
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        model.merge_adapter()
    assert abs(said(record)[0] - share(model, before, ["default", "b"])) <= 0.6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_wide_weights_say_nothing(dtype: torch.dtype):
    for size in (1e-6, 1.0):
        scaled(adapted("llama", dtype), size).merge_adapter()  # warnings are errors here
        scaled(adapted("llama", dtype), size).merge_and_unload()


def test_no_change_says_nothing():
    model = get_peft_model(tiny("llama", torch.bfloat16), LoraConfig(r=2))  # ΔW = 0
    model.merge_adapter()
    model = get_peft_model(tiny("gpt2", torch.bfloat16), BitFitConfig())
    model.merge_adapter()
    model = get_peft_model(tiny("llama", torch.bfloat16), IA3Config())  # times one
    model.merge_adapter()


def test_it_is_said_each_time_and_leaving_says_it_too():
    for verb in ("merge_adapter", "merge_adapter", "merge_and_unload"):
        model = scaled(adapted("llama", torch.bfloat16), 0.01)
        with pytest.warns(MinipeftWarning, match=r"rounding has \d+ %"):
            getattr(model, verb)()
        if verb == "merge_adapter":
            model.unmerge_adapter()
            with pytest.warns(MinipeftWarning, match=r"\d+ %"):
                model.merge_adapter()


# --- tensors put in while merged -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_tensors_are_not_set_while_merged(name: str):
    model = adapted(name)
    state = minipeft.get_peft_model_state_dict(adapted(name, lora_alpha=3))
    state = {key: 2 * tensor for key, tensor in state.items()}
    model.merge_adapter()
    before, answered = state_of(model), output(model, name)
    with pytest.raises(StateError, match=r"merged.*unmerge_adapter\(\)"):
        minipeft.set_peft_model_state_dict(model, state)
    assert state_of(model) == before
    assert torch.equal(output(model, name), answered)
    model.unmerge_adapter()
    minipeft.set_peft_model_state_dict(model, state)
    assert not torch.allclose(output(model, name), answered, atol=0.01)


# --- the merged model is transformers' own -------------------------------------------------------

LEFT: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("AutoModelForCausalLM", {"target_modules": ["c_attn", "c_fc"]}),
    "bloom": ("AutoModelForCausalLM", {"use_dora": True}),
    "llama": ("AutoModelForCausalLM", {"target_modules": ["embed_tokens", "q_proj", "down_proj"]}),
    "t5": ("AutoModelForSeq2SeqLM", {"rank_pattern": {"v": 2}}),
    "bert": ("AutoModelForSequenceClassification", {"task_type": "SEQ_CLS"}),
    "vit": ("AutoModelForImageClassification", {"target_modules": ["projection", "q_proj"]}),
}

READER = """
import sys
sys.modules["minipeft"] = sys.modules["peft"] = None  # importing either is an error
import torch, transformers
from safetensors.torch import load_file
torch.set_num_threads(1)
for name, kind in zip(sys.argv[2::2], sys.argv[3::2]):
    folder = f"{sys.argv[1]}/{name}"
    model = getattr(transformers, kind).from_pretrained(folder).eval()
    given = load_file(f"{folder}.safetensors")
    expected = given.pop("expected")
    with torch.no_grad():
        found = model(**given).logits
    print(name, ((found - expected).abs().max() / expected.abs().max()).item())
"""


@pytest.mark.slow
def test_saved_and_read_where_there_is_no_minipeft(tmp_path: Path):
    for name, (_, options) in LEFT.items():
        model = ours_on(base_of(name), **options)
        before = answer(model, inputs(name))
        plain: Any = model.merge_and_unload()
        expected = answer(plain, inputs(name))
        assert (expected - before).abs().max() <= 5e-5 * before.abs().max()
        assert (expected - answer(tiny(name), inputs(name))).abs().max() > 0.01
        plain.save_pretrained(tmp_path / name)
        assert not [n for n, _ in plain.named_parameters() if "lora" in n or "base_layer" in n]
        given = {key: tensor.clone() for key, tensor in inputs(name).items()}
        save_file({**given, "expected": expected}, tmp_path / f"{name}.safetensors")
    named = [text for name, (kind, _) in LEFT.items() for text in (name, kind)]
    run = subprocess.run(
        [sys.executable, "-c", READER, str(tmp_path), *named],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    found = dict(line.split() for line in run.stdout.splitlines() if line.split()[0] in LEFT)
    assert found.keys() == LEFT.keys()
    assert all(float(gap) <= 1e-6 for gap in found.values())  # float32: the same weights
