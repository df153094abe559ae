"""The proofs of lesson 03: the notes' filter, run on the skeletons of published models."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...checks.errors import TargetError
from ...lab.counting import count, meta_model, parameters
from ...methods.bitfit import BitFitConfig
from ...methods.lora import LoraConfig
from ...model import get_peft_model
from ..claims import hold, proves


def notes_filter(model: nn.Module) -> int:
    """001:L28-33, on a model already loaded."""
    num_param = 0
    for name, param in model.named_parameters():
        if "bias" not in name:
            param.requires_grad = False
        else:
            num_param += param.numel()
    return num_param


def refused(name: str) -> bool:
    """Whether minipeft's BitFit says that the model has no biases."""
    try:
        count(name, BitFitConfig())
    except TargetError as error:
        return "has no biases" in str(error)
    return False


@proves("bitfit-count")
def bitfit_count() -> str:
    """24 blocks of 11·2048, and two norms outside of them."""
    model = meta_model("bloom-1b4-zh")
    n, formula = notes_filter(model), 24 * 11 * 2048 + 2 * 2048
    ours = count("bloom-1b4-zh", BitFitConfig()).trainable
    hold(n == formula == ours == 544_768, f"{n:,}, {formula:,}, {ours:,}")
    share = 100 * n / parameters(model)
    hold(f"{share:.4f}" == "0.0418", f"{share} %")
    return f"{n:,}, {share:.4f} % of {parameters(model):,}"


@proves("bitfit-head")
def head() -> str:
    """BERT with a classifier that was never trained."""
    model: Any = meta_model("bert-base")
    notes_filter(model)
    weight, bias = model.classifier.weight, model.classifier.bias
    hold(not weight.requires_grad and bias.requires_grad, "the filter trains the classifier")
    ours = count("bert-base", BitFitConfig(task_type="SEQ_CLS"))
    hold(ours.heads == weight.numel() + bias.numel() == 1538, f"{ours.heads}")
    return f"frozen as it was drawn: classifier.weight, {weight.numel():,}; minipeft trains it"


@proves("bitfit-llama")
def llama() -> str:
    """Llama-2-7B has no biases."""
    model = meta_model("llama-2-7b")
    n = notes_filter(model)
    left = sum(p.requires_grad for p in model.parameters())
    hold(n == left == 0, f"{n:,} numbers in {left} tensors")
    hold(refused("llama-2-7b"), "minipeft accepts BitFit on Llama")
    return "trains 0 parameters and says nothing; minipeft raises TargetError"


@proves("bitfit-t5")
def t5() -> str:
    """T5-base has none either; the filter finds two tables."""
    model = meta_model("t5-base")
    n = notes_filter(model)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    tables = [name for name in trained if name.endswith(".relative_attention_bias.weight")]
    hold(n == 768 and trained == tables and len(tables) == 2, f"{n:,} in {trained}")
    hold(refused("t5-base"), "minipeft accepts BitFit on T5")
    return f"trains {n} numbers of {len(tables)} tables of relative positions; none is a bias"


@proves("bitfit-none")
def bias_none() -> str:
    """A layer under a LoRA with bias="none", B = 0: does its bias still count?"""
    torch.manual_seed(0)
    layer, x = nn.Linear(4, 3), torch.randn(2, 4)
    y, shift = layer(x), layer.bias.detach().clone()
    config = LoraConfig(r=1, target_modules=["0"], bias="none")
    model = get_peft_model(nn.Sequential(layer), config)
    hold(torch.equal(model(x), y), "the output changed")
    hold(not layer.bias.requires_grad, "the bias is trained")
    hold(bool((shift != 0).all()), "the bias is zero")
    return "the output still holds W x + b to the bit; b is frozen, not removed"


@proves("bias-kinds")
def bias_kinds() -> str:
    """Which biases each value trains, on a model with three, one of them adapted."""
    found = {}
    for kind in ("none", "all", "lora_only"):
        net = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2))
        model: Any = get_peft_model(net, LoraConfig(r=1, target_modules=["0"], bias=kind))
        found[kind] = model.get_nb_trainable_parameters()[0] - (4 + 8)
    hold(found == {"none": 0, "all": 8 + 8 + 2, "lora_only": 8}, f"{found}")
    return (
        f"of 18 numbers in three biases: {found['all']} with 'all', {found['lora_only']} with "
        f"'lora_only'"
    )
