"""The class `Adapter` alone: against the note's, by hand, and its options."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from conftest import shake, tiny
from transformers.activations import ACT2FN

from minipeft import Adapter, AdapterConfig, get_peft_model
from minipeft.course.proofs.adapter import NotesAdapter
from minipeft.methods.adapter import ACTIVATIONS

# --- the note's class ----------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_it_is_the_note_s_class_with_the_same_seed(training: bool):
    torch.manual_seed(4)
    note = NotesAdapter(24, 6).train(training)
    torch.manual_seed(4)
    ours = Adapter(24, 6, init="xavier").train(training)
    assert ours.state_dict().keys() == note.state_dict().keys()
    x = torch.randn(3, 5, 24)
    answers = []
    for module in (note, ours):
        torch.manual_seed(5)  # the same entries dropped
        answers.append(module(x))
        answers[-1].square().sum().backward()
    assert torch.equal(*answers)
    for a, b in zip(note.parameters(), ours.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)


def test_by_hand():
    adapter = Adapter(2, 1, hidden_act="relu")
    with torch.no_grad():
        adapter.down_project.weight.copy_(torch.tensor([[1.0, -1.0]]))
        adapter.down_project.bias.fill_(0.5)
        adapter.up_project.weight.copy_(torch.tensor([[2.0], [3.0]]))
        adapter.up_project.bias.copy_(torch.tensor([0.0, 1.0]))
    adapter.eval()
    x = torch.tensor([[4.0, 1.0], [1.0, 4.0]])
    # σ(4 - 1 + ½) = 3.5: (4 + 7, 1 + 10.5 + 1); σ(1 - 4 + ½) = 0: (1, 4 + 1)
    assert adapter(x).tolist() == [[11.0, 12.5], [1.0, 5.0]]
    assert torch.equal(adapter.after(torch.zeros(0), x), adapter(x))
    assert torch.equal(adapter.before(x), x)


def test_how_far_the_start_moves_the_output():
    x = torch.randn(512, 768)
    ours, note = Adapter(768).eval(), Adapter(768, init="xavier").eval()
    assert torch.equal(ours(x), x)
    moved = ((note(x) - x).norm() / x.norm()).item()
    # By variances: 768·2/832 = 1.846 of W_down x; E[σ²] = 0.845 there, integrated below; times
    # 64·2/832 of W_up: √0.1300 = 0.3605.
    z = torch.linspace(-12, 12, 200_001, dtype=torch.float64) * (768 * 2 / 832) ** 0.5
    density = torch.exp(-(z**2) / (2 * 768 * 2 / 832))
    square = (F.gelu(z) ** 2 * density).sum() / density.sum()
    expected = (square * 64 * 2 / 832).sqrt().item()
    assert expected == pytest.approx(0.3605, abs=1e-4)
    # one draw of the weights and of x: ten seeds gave 0.3566 to 0.3639
    assert moved == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_every_activation_is_the_one_that_its_name_means(name: str):
    x = torch.linspace(-4, 4, 41)
    known = ACT2FN[name](x) if name in ACT2FN else getattr(F, name)(x)
    assert torch.allclose(ACTIVATIONS[name]()(x), known, atol=1e-6)  # gelu_new: other order
    adapter = Adapter(3, 2, hidden_act=name)
    adapter(torch.randn(4, 3)).sum().backward()
    assert adapter.up_project.weight.grad.abs().max() > 0


def test_dropout_acts_in_training_only_and_inside_the_bottleneck():
    adapter = Adapter(8, 4, dropout=0.5, init="xavier")
    x = torch.randn(64, 8)
    assert not torch.equal(adapter(x), adapter(x))
    z = adapter.activation(adapter.down_project(x))
    torch.manual_seed(3)
    dropped = F.dropout(z, 0.5)
    torch.manual_seed(3)
    assert torch.equal(adapter(x), x + adapter.up_project(dropped))
    adapter.eval()
    assert torch.equal(adapter(x), x + adapter.up_project(z))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_the_dtypes(dtype: torch.dtype):
    config = AdapterConfig(adapter_dim=4, target_modules=["first"])
    model = get_peft_model(tiny("mlp"), config).eval()
    shake(model)
    half = get_peft_model(tiny("mlp", dtype), config)
    wanted = torch.float64 if dtype == torch.float64 else torch.float32
    method = half.first.adapters["default"].eval()
    assert {p.dtype for p in method.parameters()} == {wanted}
    method.load_state_dict(model.first.adapters["default"].state_dict())
    y = torch.randn(3, 8).to(dtype)
    exact = method.double()(y.double())
    assert method.to(wanted)(y).dtype == dtype
    # one rounding of an exact number: half a unit in the last place, and float32's error on top
    bound = 0.51 * torch.finfo(dtype).eps * exact.abs() + 1e-6
    assert ((method(y).double() - exact).abs() <= bound).all()
