"""The proofs of lesson 07 on what prefix tuning trains: where it stands, its MLP, its size.

The counts of the frozen models are worked out here from their dimensions, so that they do not
depend on the code they check.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...methods.p_tuning_v2 import PTuningV2
from ...methods.prefix_tuning import PrefixEncoder, PrefixTuningConfig
from ...model import get_peft_model
from ..claims import hold, proves
from .lora import LLAMA

LAYERS, WIDTH = 32, 4096  # Llama-2-7B
with torch.device("meta"):
    ONE = PTuningV2(LAYERS, 1, WIDTH)  # with one virtual token


def size(module: nn.Module) -> int:
    """Its parameters."""
    return sum(p.numel() for p in module.parameters())


def tiny_gpt2() -> Any:
    """A random GPT-2 with 3 layers, 2 heads of 8."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=3,
        n_head=2,
        n_embd=16,
        vocab_size=30,
        n_positions=32,
        bos_token_id=0,
        eos_token_id=0,
    )
    model: Any = GPT2LMHeadModel(config)
    model.eval()
    model.set_attn_implementation("eager")  # it returns the attention weights
    return model


@proves("prefix-keys-values")
def keys_values() -> str:
    """Each layer's attention has v more columns, and a gradient reaches each layer's K and V."""
    model = get_peft_model(
        tiny_gpt2(), PrefixTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM")
    )
    out = model(input_ids=torch.arange(6).unsqueeze(0), output_attentions=True)
    shapes = {tuple(a.shape[-2:]) for a in out.attentions}
    hold(shapes == {(6, 10)}, f"the attention is {shapes}")
    out.logits.square().sum().backward()
    (trained,) = [p for p in model.parameters() if p.requires_grad]
    hold(trained.grad is not None, "no gradient")
    gradient = torch.as_tensor(trained.grad).view(4, 6, 16)  # (v, K and V of 3 layers, d)
    reached = [bool((g != 0).any()) for g in gradient.transpose(0, 1)]
    hold(reached == [True] * 6, f"K and V of three layers receive gradients: {reached}")
    return "6 tokens, v = 4: attention (6, 10) in each of 3 layers; K and V of each are trained"


@proves("prefix-only")
def only() -> str:
    """All else stays frozen."""
    model = get_peft_model(
        tiny_gpt2(), PrefixTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM")
    )
    trained = {n: p.numel() for n, p in model.named_parameters() if p.requires_grad}
    hold(list(trained.values()) == [2 * 3 * 4 * 16], f"trained: {trained}")
    return f"trained: 2 · 3 · 4 · 16 = {sum(trained.values())} numbers in one tensor"


@proves("prefix-default")
def default() -> str:
    """The config's default."""
    value = PrefixTuningConfig(num_virtual_tokens=1).prefix_projection
    hold(value is False, f"the default is {value}")
    return f"prefix_projection = {value}"


@proves("prefix-mlp")
def mlp() -> str:
    """What `prefix_projection=True` adds."""
    with torch.device("meta"):
        encoder: PrefixEncoder[Any] = PrefixEncoder(12, 10, 768, prefix_projection=True)
    hold(encoder.transform is not None, "there is no MLP")
    parts = [type(part).__name__ for part in encoder.transform or ()]
    hold(parts == ["Linear", "Tanh", "Linear"], f"the MLP is {parts}")
    hold(size(encoder) == 14_772_480, f"GPT-2 trains {size(encoder):,}")
    return f"one MLP, {' · '.join(parts)}, for all layers; GPT-2 trains {size(encoder):,}"


def share(v: int) -> float:
    """P-tuning v2 on Llama-2-7B, in percent of all parameters."""
    trained = v * size(ONE)
    return 100 * trained / (trained + LLAMA)


@proves("prefix-v2-share")
def v2_share() -> str:
    """How many tokens the table's shares would take."""
    hold(f"{share(20):.3f}" == "0.078", f"20 tokens: {share(20)}")
    low = next(v for v in range(1, 300) if share(v) >= 0.2)
    high = next(v for v in range(300, 0, -1) if share(v) <= 0.5)
    hold((low, high) == (52, 129), f"{low} to {high} tokens")
    return f"20 tokens {share(20):.3f} %; 0.2 to 0.5 % takes {low} to {high} tokens"


@proves("prefix-v2-memory")
def v2_memory() -> str:
    """16 bytes for a trained parameter, 2 for a frozen one; activations come on top."""
    trained = 2 * LAYERS * 20 * WIDTH
    ours, full = 2 * LLAMA + 16 * trained, 16 * LLAMA
    percent = 100 * ours / full
    hold(f"{percent:.1f}" == "12.6", f"{percent} %")
    return f"{ours / 1e9:.1f} of {full / 1e9:.1f} GB, {percent:.1f} %, before activations"


@proves("prefix-keys-width")
def keys_width() -> str:
    """Llama-2-70B: 80 layers, 64 heads of 128, 8 of them with keys."""
    with torch.device("meta"):
        right, hidden = PTuningV2(80, 10, 8 * 128, 8), PTuningV2(80, 10, 64 * 128, 64)
    hold((size(right), size(hidden)) == (1_638_400, 13_107_200), f"{size(right):,}")
    return f"70B, v = 10: {size(right):,}; with d = hidden_size {size(hidden):,}"
