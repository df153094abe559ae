"""The proofs of lesson 08 that run a layer: how it starts, its scale, where the notes' fails."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...methods.lora import LoRALayer, scaling
from ...methods.lora_linear import LoRALinear
from ..claims import hold, proves
from .lora import NotesLoRALayer, NotesLoRALinear


def reach(a: Tensor) -> float:
    """The largest entry of A."""
    return float(a.detach().abs().max())


@proves("lora-no-scale")
def no_scale() -> str:
    """The update of the note's class, divided by B A x."""
    torch.manual_seed(0)
    layer = NotesLoRALayer(8, 4)
    nn.init.normal_(layer.lora_B)
    x, nothing = torch.randn(3, 8), torch.zeros(3, 4)
    factor = (layer(x, nothing) / (x @ layer.lora_A @ layer.lora_B)).mean().item()
    hold(abs(factor - 2) < 1e-5, f"the factor is {factor}")
    return f"the note's code gives {factor:.1f} · BAx"


@proves("lora-zero-start")
def zero_start() -> str:
    """In the note's class and in ours."""
    notes, ours = NotesLoRALayer(64, 32), LoRALayer(64, 32)
    largest = max(reach(notes.lora_A @ notes.lora_B), reach(ours.delta_weight()))
    hold(largest == 0 and reach(ours.lora_A) > 0, f"ΔW reaches {largest}")
    return f"largest entry of ΔW: {largest:.0f}"


@proves("lora-fan-in")
def fan_in() -> str:
    """The largest entry of A, as written and as derived."""
    torch.manual_seed(0)
    notes = reach(NotesLoRALayer(4096, 16).lora_A)
    ours = reach(LoRALayer(4096, 16).lora_A)
    hold(abs(notes - 1 / 4) < 1e-3 and abs(ours - 1 / 64) < 1e-4, f"{notes}, {ours}")
    return f"max|A| {notes:.4f} as written, {ours:.4f} as derived: {notes / ours:.1f} times"


@proves("lora-first-step")
def first_step() -> str:
    """One SGD step on B from the same gradient of the output; the size of ΔW after it."""
    torch.manual_seed(0)
    x, target = torch.randn(64, 1024), torch.randn(64, 32)
    moved = []
    for layer in (NotesLoRALayer(1024, 32), LoRALayer(1024, 32)):
        loss = ((layer(x, torch.zeros(64, 32)) - target) ** 2).mean()
        loss.backward()
        torch.optim.SGD([layer.lora_B], lr=0.01).step()
        a, b = layer.lora_A.detach(), layer.lora_B.detach()
        moved.append(float((a @ b if a.shape[0] == 1024 else b @ a).norm()))
    times = moved[0] / moved[1]
    hold(50 < times < 80, f"{times} times")  # in/r = 64; A is random, so not to the digit
    return f"‖ΔW‖ after one step: {times:.0f} times as derived"


@proves("lora-kaiming")
def kaiming() -> str:
    """The bound that the default initialisation keeps."""
    torch.manual_seed(0)
    ours, relu = reach(LoRALayer(600, 8, rank=64).lora_A), math.sqrt(6 / 600)
    hold(abs(ours * math.sqrt(600) - 1) < 1e-2, f"max|A| is {ours}")
    return f"in = 600: max|A| {ours:.4f} = 1/√600; √(6/600) would be {relu:.4f}"


@proves("lora-alpha")
def alpha() -> str:
    """Both scales at r = 16, α = 32."""
    plain, stable = scaling(32, 16), scaling(32, 16, use_rslora=True)
    hold((plain, stable) == (2.0, 8.0), f"{plain}, {stable}")
    return f"α/r = {plain:g}, α/√r = {stable:g}"


@proves("lora-alpha-2r")
def alpha_2r() -> str:
    """The scale at five ranks."""
    scales = {scaling(2 * r, r) for r in (1, 4, 8, 16, 64)}
    hold(scales == {2.0}, f"{scales}")
    return "s = 2 for r = 1, 4, 8, 16, 64"


@proves("lora-conv1d")
def conv1d() -> str:
    """GPT-2's layer in the note's class, and in ours."""
    from transformers.pytorch_utils import Conv1D

    try:
        NotesLoRALinear(Conv1D(12, 4))  # type: ignore[no-untyped-call]
        raised = ""
    except AttributeError as error:
        raised = f"AttributeError: {error}"
    hold("in_features" in raised, f"the note's class says {raised!r}")
    layer, x = Conv1D(12, 4), torch.randn(2, 4)  # type: ignore[no-untyped-call]
    hold(torch.equal(LoRALinear(layer)(x), layer(x)), "LoRALinear on a Conv1D is not the identity")
    return raised.split("'", 2)[0] + "no 'in_features'; minipeft's LoRALinear takes it"


@proves("lora-half")
def half() -> str:
    """A bfloat16 layer in the note's class, and in ours."""
    layer, x = nn.Linear(4, 3).bfloat16(), torch.randn(2, 4).bfloat16()
    try:
        NotesLoRALinear(layer)(x)
        raised = ""
    except RuntimeError as error:
        raised = f"RuntimeError: {str(error).splitlines()[0]}"
    hold("dtype" in raised, f"the note's class says {raised!r}")
    hold(LoRALinear(layer)(x).dtype == torch.bfloat16, "LoRALinear changes the dtype")
    return f"{raised.partition(':')[0]} (dtypes differ); minipeft's LoRALinear gives bfloat16"
