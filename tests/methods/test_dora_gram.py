"""DoRA's row lengths without V: ‖V‖² = ‖W‖² + 2 s ⟨W Aᵀ, B⟩ + s² ⟨B (A Aᵀ), B⟩, row by row.

The oracle is V = W + s B A, formed in float64.

Tolerances. The three terms can cancel, so an error is measured against what they would be without
signs, (‖w‖ + s ‖b‖ ‖A‖)² for a row w of W and b of B: each of the sums has at most n = max(in, r)
products, whose rounding errors add up to at most n·eps of that, and there are five sums in a row.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from conftest import output, shake
from dora_kinds import dora_conv, dora_embedding
from hypothesis import given, settings
from hypothesis import strategies as st
from peft_pairs import factors
from test_dora_peft import dora
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.pytorch_utils import Conv1D

from minipeft import DoRALayer, LoraConfig, get_peft_model
from minipeft.layers.quant import QuantizedLinear

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 12))
SCALES = st.sampled_from([1e-3, 0.1, 1.0, 30.0])


def layer_of(kind: str, n: int, out: int, dtype: torch.dtype) -> Any:
    """A frozen layer from n to out features, and its W (out, n)."""
    if kind == "Conv1D":
        layer: Any = Conv1D(out, n).to(dtype)
    else:
        layer = nn.Linear(n, out).to(dtype)
    return layer


def matrix(layer: Any) -> Tensor:
    """W (out, in)."""
    w: Tensor = layer.weight.detach()
    if isinstance(layer, Conv1D):
        return w.T
    return w.T if isinstance(layer, nn.Embedding) else w.flatten(1)


def filled(layer: Any, method: Any, w: float, a: float, b: float) -> None:
    """Normal numbers of these sizes in W, A and B."""
    nn.init.normal_(layer.weight, std=w)
    for parameter, size in zip(factors(method), (a, b), strict=True):
        nn.init.normal_(parameter, std=size)


def exact(layer: Any, method: Any) -> tuple[Tensor, Tensor]:
    """‖V‖ by forming V in float64, and ‖w‖ + s ‖b‖ ‖A‖, both (out,)."""
    a, b = (p.detach().double().flatten(1) for p in factors(method))
    w = matrix(layer).double()
    v = w + method.scaling * b @ a
    return v.norm(dim=1), w.norm(dim=1) + method.scaling * b.norm(dim=1) * a.norm()


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(
    SHAPES, SCALES, SCALES, SCALES, st.sampled_from([0.1, 1, 16]),
    st.sampled_from(["Linear", "Conv1D"]), st.sampled_from([torch.float32, torch.float64]),
    st.integers(0, 99),
)  # fmt: skip
def test_the_lengths_are_those_of_v(
    shape: Any, w: float, a: float, b: float, alpha: float, kind: str, dtype: Any, seed: int
):
    torch.manual_seed(seed)
    n, out, r = shape
    layer = layer_of(kind, n, out, dtype)
    method = DoRALayer(layer, r, alpha, dtype=dtype)
    filled(layer, method, w, a, b)
    known, size = exact(layer, method)
    found = method.row_lengths().double().flatten()
    allowed = 5 * max(n, r) * torch.finfo(dtype).eps
    assert ((found.square() - known.square()).abs() <= allowed * size.square()).all()
    ordinary = known > 0.1 * size  # nothing cancels: the length itself is as exact as its square
    limit = 1e-12 if dtype == torch.float64 else 50 * allowed
    assert ((found - known).abs() <= limit * known)[ordinary].all()


@pytest.mark.parametrize("kind", ["embedding", "conv", "conv in groups"])
def test_the_lengths_of_other_layers(kind: str):
    layer, method = other(kind, torch.float64)
    known, size = exact(layer, method)
    found = method.row_lengths().flatten()
    assert found.shape == known.shape
    assert ((found - known).abs() <= 1e-12 * size).all()


def other(kind: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """An embedding or a convolution with its DoRA, filled."""
    if kind == "embedding":
        layer: Any = nn.Embedding(53, 37, dtype=dtype)
        method: Any = dora_embedding(layer, 3, 5, dtype=dtype)
    else:
        groups = 3 if "groups" in kind else 1
        layer = nn.Conv2d(9, 12, (3, 2), groups=groups, dtype=dtype)
        method = dora_conv(layer, 3, 5, dtype=dtype)
    filled(layer, method, 1, 0.5, 0.5)
    return layer, method


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_half_precision_weight_is_measured_in_float32(dtype: torch.dtype):
    layer = nn.Linear(300, 7, dtype=dtype)
    method = DoRALayer(layer, 2, 4)
    filled(layer, method, 100, 1, 1)  # the square of a row's length, 3e6, is infinite in float16
    known, _ = exact(layer, method)
    assert torch.allclose(method.row_lengths().double(), known, rtol=1e-5)


def test_a_packed_weight_is_measured_as_it_is_used():
    linear = nn.Linear(64, 9)
    layer = QuantizedLinear.of(linear.weight, linear.bias)
    method = DoRALayer(layer, 2, 4)
    for parameter in factors(method):
        nn.init.normal_(parameter)
    w = layer(torch.eye(64)).T - layer.bias[:, None]
    a, b = factors(method)
    assert torch.allclose(method.row_lengths(), (w + 2 * b @ a).norm(dim=1), rtol=1e-5)


# --- what is kept of W is never stale ------------------------------------------------------------


CHANGES: dict[str, Any] = {
    "in place": lambda layer, w: layer.weight.requires_grad_(False).copy_(w),
    "through data": lambda layer, w: layer.weight.data.copy_(w),
    "new data": lambda layer, w: setattr(layer.weight, "data", w.clone()),
    "a new parameter": lambda layer, w: setattr(layer, "weight", nn.Parameter(w.clone())),
    "a state dict": lambda layer, w: layer.load_state_dict({"weight": w, "bias": layer.bias}),
    "one entry": lambda layer, w: layer.weight.detach()[0].copy_(w[0]),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("times", [1, 3])
def test_a_changed_weight_is_seen(change: str, times: int):
    layer = nn.Linear(6, 4)
    model = get_peft_model(
        nn.Sequential(layer), LoraConfig(r=2, use_dora=True, target_modules=["0"])
    )
    shake(model)
    method, x = layer_in(model), torch.randn(3, 6)
    for _ in range(times):
        model(x)
        CHANGES[change](layer, 3 * torch.randn(4, 6))
        v = layer.weight + method.scaling * method.lora_B @ method.lora_A
        expected = method.lora_magnitude_vector / v.norm(dim=1) * (x @ v.T) + layer.bias
        assert torch.allclose(method.row_lengths(), v.norm(dim=1), rtol=1e-5)
        assert torch.allclose(model(x), expected, rtol=1e-4, atol=1e-4)


def layer_in(model: Any) -> Any:
    return model.get_base_model()[0].adapters["default"]


def test_another_dtype_and_a_copy_measure_their_own_weight():
    model = dora("llama")
    before, twin = output(model, "llama"), copy.deepcopy(model)
    for module in twin.modules():
        if isinstance(module, nn.Linear):
            module.weight.data.mul_(0.5)
    assert torch.equal(output(model, "llama"), before)
    model.double()
    assert torch.allclose(output(model, "llama"), before.double(), rtol=1e-3, atol=1e-4)
    known = torch.stack([exact(m.base.layer, m)[0].sum() for m in doras(model)])
    found = torch.stack([m.row_lengths().sum() for m in doras(model)])
    assert torch.allclose(found, known, rtol=1e-12)  # measured anew, in float64


def doras(model: nn.Module) -> list[Any]:
    return [m for m in model.modules() if isinstance(m, DoRALayer)]


# --- V is never formed ---------------------------------------------------------------------------


class Sizes(TorchDispatchMode):
    """Collects the sizes of all new tensors; a view of one that was there is not new."""

    def __init__(self, *known: Tensor) -> None:
        super().__init__()
        self.known = {t.untyped_storage().data_ptr() for t in known}
        self.seen: list[tuple[str, tuple[int, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, (tuple, list)) else [found]:
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in self.known:
                self.seen.append((str(func), tuple(tensor.shape)))
        return found


@pytest.mark.parametrize("kind", ["Linear", "Conv1D", "embedding", "conv"])
def test_no_tensor_of_the_weights_size_is_made(kind: str):
    if kind in ("Linear", "Conv1D"):
        layer = layer_of(kind, 53, 37, torch.float32)
        method: Any = DoRALayer(layer, 3, 5)
        filled(layer, method, 1, 0.5, 0.5)
        x = torch.randn(2, 53, requires_grad=True)
    else:
        layer, method = other(kind, torch.float32)
        x = torch.tensor([[4, 7]]) if kind == "embedding" else torch.randn(1, 9, 3, 3)
    size, y = layer.weight.numel(), layer(x).detach()
    with Sizes(layer.weight) as sizes:
        method(x, y).square().sum().backward()
    assert len(sizes.seen) > 5  # it does see what is computed
    assert [(op, s) for op, s in sizes.seen if torch.Size(s).numel() >= size] == []
    with Sizes(layer.weight) as sizes:  # and would see V
        layer.weight + method.scaling * method.delta_weight().view_as(layer.weight)
    assert any(torch.Size(s).numel() >= size for _, s in sizes.seen)
