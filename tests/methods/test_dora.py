"""DoRA: the formula by hand and by differences, and its start.

h = (m / ‖V‖) ⊙ (V x) + b,   V = W₀ + s B A,   ‖V‖ a constant in the backward pass

Against peft: test_dora_peft.py.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import output, shake, tiny
from test_peft_equality import distance
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from minipeft import DoRALayer, LoraConfig, get_peft_model
from minipeft.checks.errors import TargetError
from minipeft.methods.lora import Dropout, lora_parameters

FAMILIES = ["gpt2", "bloom", "llama", "t5", "bert"]


# --- the formula ---------------------------------------------------------------------------------


def by_hand() -> tuple[Any, DoRALayer]:
    """W = [[3, 4], [0, 2]], b = [1, -1], A = [1 2], B = [3 4]ᵀ, s = 2, m = [10, 30]."""
    base = nn.Linear(2, 2)
    base.weight.data = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    base.bias.data = torch.tensor([1.0, -1.0])
    layer = DoRALayer(base, rank=1, lora_alpha=2)
    assert layer.lora_magnitude_vector.tolist() == [5.0, 2.0]  # the lengths of W's rows
    layer.lora_A.data = torch.tensor([[1.0, 2.0]])
    layer.lora_B.data = torch.tensor([[3.0], [4.0]])
    layer.lora_magnitude_vector.data = torch.tensor([10.0, 30.0])
    return base, layer


def test_a_layer_worked_by_hand():
    base, layer = by_hand()
    # V = W + 2 [[3, 6], [4, 8]] = [[9, 16], [8, 18]]; ‖V‖ = √337, √388
    assert layer.row_lengths().tolist() == pytest.approx([337**0.5, 388**0.5])
    x = torch.tensor([1.0, -1.0])
    # V x = (-7, -10); h = (10 / √337 · -7 + 1, 30 / √388 · -10 - 1)
    expected = [-70 / 337**0.5 + 1, -300 / 388**0.5 - 1]
    assert layer(x, base(x)).tolist() == pytest.approx(expected, rel=1e-6)
    w, b = layer.fold(base.weight, base.bias)
    rows = [[90 / 337**0.5, 160 / 337**0.5], [240 / 388**0.5, 540 / 388**0.5]]
    assert w.tolist() == [pytest.approx(row, rel=1e-6) for row in rows]
    assert b is base.bias or torch.equal(b, base.bias)


@pytest.mark.parametrize("which", ["linear", "linear without bias", "Conv1D"])
def test_against_the_matrices_in_float64(which: str):
    base: Any = Conv1D(3, 5) if which == "Conv1D" else nn.Linear(5, 3, which == "linear")
    bias = base.bias is not None
    base = base.double()
    if bias:
        nn.init.normal_(base.bias)
    layer = DoRALayer(base, rank=2, lora_alpha=3, dtype=torch.float64)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    w = base.weight.T if which == "Conv1D" else base.weight
    v = w + 1.5 * layer.lora_B @ layer.lora_A
    x = torch.randn(2, 4, 5, dtype=torch.float64)
    expected = (x @ v.T) * layer.lora_magnitude_vector / v.norm(dim=1)
    expected = expected + base.bias if bias else expected
    assert torch.allclose(layer(x, base(x)), expected, atol=1e-13)
    folded, b = layer.fold(w, base.bias)
    assert torch.allclose(nn.functional.linear(x, folded, b), expected, atol=1e-13)


def test_the_length_is_a_constant_to_the_gradient():
    base = nn.Linear(5, 3).double()
    layer = DoRALayer(base, rank=2, lora_alpha=3, dtype=torch.float64)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    x, y = torch.randn(4, 5, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    layer(x, base(x)).sub(y).square().sum().backward()
    constant = layer.row_lengths()

    def loss(a: Tensor, b: Tensor, m: Tensor, *, full: bool) -> Tensor:
        v = base.weight + 1.5 * b @ a
        h = x @ v.T * m / (v.norm(dim=1) if full else constant) + base.bias
        return (h - y).square().sum()

    parts = [layer.lora_A, layer.lora_B, layer.lora_magnitude_vector]
    for i, part in enumerate(parts):
        for full in (False, True):
            numeric = torch.zeros_like(part)
            for j in range(part.numel()):  # central differences, float64: about 1e-8
                ends = []
                for step in (1e-5, -1e-5):
                    moved = [p.detach().clone() for p in parts]
                    moved[i].view(-1)[j] += step
                    ends.append(loss(*moved, full=full))
                numeric.view(-1)[j] = (ends[0] - ends[1]) / 2e-5
            close = torch.allclose(numeric, part.grad, rtol=1e-6, atol=1e-6)
            assert close is (not full or i == 2)  # m's gradient is the same either way


def test_a_row_of_zeros_stays_finite():
    base = nn.Linear(4, 3)
    base.weight.data[1] = 0
    model = get_peft_model(
        nn.Sequential(base), LoraConfig(r=2, use_dora=True, target_modules=["0"])
    )
    x = torch.randn(5, 4)
    assert torch.allclose(model(x), base(x), atol=1e-6)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):
        model(x).square().sum().backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
        optimizer.step()
        optimizer.zero_grad()
    assert model(x).isfinite().all()
    assert torch.equal(model(x)[:, 1], base.bias[1].expand(5))
    model.eval().merge_adapter()
    assert model(x).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", [*FAMILIES, "opt", "gpt_neox", "vit"])
def test_at_the_start_the_model_is_what_it_was(name: str, dtype: torch.dtype):
    config = LoraConfig(r=4, use_dora=True, target_modules="all-linear")
    model, bare = get_peft_model(tiny(name, dtype), config), output(tiny(name, dtype), name)
    # m / ‖V‖ = 1, exactly: the same numbers divided; the bias is taken off and put back
    exact = distance(bare.float(), output(model, name).float())
    assert exact <= {torch.float32: 5e-5}.get(dtype, 16 * torch.finfo(dtype).eps)
    magnitudes = [p for n, p in model.named_parameters() if "magnitude" in n]
    assert all(p.dtype == torch.float32 and p.requires_grad for p in magnitudes)


def test_dropout_is_on_the_path_of_the_update_only():
    base = nn.Linear(40, 6)
    model = get_peft_model(
        nn.Sequential(base),
        LoraConfig(r=3, lora_alpha=6, use_dora=True, lora_dropout=0.5, target_modules=["0"]),
    ).train()
    shake(model)
    layer, x = model.get_base_model()[0].adapters["default"], torch.randn(4, 40)
    torch.manual_seed(3)
    found = model(x)
    torch.manual_seed(3)
    dropped = Dropout(0.5)(x)
    v = base.weight + 2 * layer.lora_B @ layer.lora_A
    vx = x @ base.weight.T + 2 * dropped @ layer.lora_A.T @ layer.lora_B.T
    expected = vx * layer.lora_magnitude_vector / v.norm(dim=1) + base.bias
    assert torch.allclose(found, expected, atol=1e-5)


def test_the_formulas_count():
    model = get_peft_model(tiny("gpt2"), LoraConfig(r=4, use_dora=True, target_modules=["c_attn"]))
    one = lora_parameters(16, 48, 4) + 48
    assert model.get_nb_trainable_parameters()[0] == 2 * one
    assert sum(p.numel() for p in DoRALayer(nn.Linear(16, 48), rank=4).parameters()) == one


def test_what_shows_no_matrix_is_refused():
    weighted = nn.utils.parametrizations.weight_norm(nn.Linear(3, 4))
    with pytest.raises(TargetError, match=r"DoRA needs .* ParametrizedLinear does not show its W"):
        DoRALayer(weighted)
    with pytest.raises(TargetError, match=r"LayerNorm does not show its W; use_dora=False adapts"):
        DoRALayer(nn.LayerNorm(4))
