"""The proofs of lesson 06: what P-tuning's network is, what it trains, and what is stored of it."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from ...checks.errors import MinipeftWarning
from ...methods.p_tuning import PromptEncoder, PromptEncoderConfig
from ...methods.prompt_tuning import PromptTuning
from ..claims import hold, proves

# bloom-1b4-zh: vocabulary 46145, d = 2048, 24 blocks of 12d² + 13d, two norms outside of them
BLOOM = 46145 * 2048 + 2 * 2048 + 24 * (12 * 2048**2 + 13 * 2048) + 2 * 2048
NOTES: dict[str, Any] = {"encoder_dropout": 0.1, "encoder_num_layers": 2}  # 001:L75-77
V, D, H = 10, 2048, 1024


def layers(head: nn.Module | None) -> list[str]:
    """The names of a network's layers that have parameters."""
    modules = [] if head is None else list(head.modules())
    return [type(m).__name__ for m in modules if list(m.parameters(recurse=False))]


def note_lstm() -> PromptEncoder:
    """The encoder that the note's configuration gives bloom-1b4-zh, on the meta device."""
    return PromptEncoder(V, D, H, "LSTM", num_layers=2, dropout=0.1, device="meta")


def size(module: nn.Module) -> int:
    """All parameters."""
    return sum(p.numel() for p in module.parameters())


@proves("ptuning-network")
def network() -> str:
    """The layers of both kinds."""
    mlp = PromptEncoder(V, 8, reparameterization="MLP")
    lstm = PromptEncoder(V, 8, reparameterization="LSTM")
    found = [layers(head) for e in (mlp, lstm) for head in (e.lstm_head, e.mlp_head)]
    hold(found == [[], ["Linear"] * 3, ["LSTM"], ["Linear"] * 2], f"{found}")
    return "MLP: 3 linear layers and no LSTM; LSTM: an LSTM, then 2 linear layers"


@proves("ptuning-num-layers")
def num_layers() -> str:
    """The MLP's size at 2 and at 5 layers, and what the config says."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        PromptEncoderConfig(num_virtual_tokens=V, encoder_num_layers=5, encoder_dropout=0.1)
    hold([w.category for w in said] == [MinipeftWarning] * 2, f"{said}")
    mlp = {size(PromptEncoder(V, 64, num_layers=n)) for n in (2, 5)}
    lstm = [size(PromptEncoder(V, 64, None, "LSTM", n)) for n in (2, 5)]
    hold(len(mlp) == 1 and lstm[0] < lstm[1], f"{mlp}, {lstm}")
    return f"2 and 5 layers, d = 64: MLP {mlp.pop():,} both; LSTM {lstm[0]:,} and {lstm[1]:,}"


@proves("ptuning-soft-only")
def soft_only() -> str:
    """A prompt that starts from words, and one that a network computes: both are vectors."""
    words = nn.Embedding(50, 8)
    prompts: list[PromptTuning[Any]] = [PromptTuning(V, 8, words), PromptEncoder(V, 8)]
    shapes = []
    for prompt in prompts:
        loss = prompt(torch.randn(1, 3, 8)).square().sum()
        loss.backward()
        hold(all(p.grad is not None for p in prompt.parameters()), "something is not trained")
        shapes.append(tuple(prompt.virtual_tokens().shape))
    hold(shapes == [(V, 8)] * 2, f"{shapes}")
    return f"started from words or computed: {V} trained vectors either way, no text"


@proves("ptuning-small-part")
def small_part() -> str:
    """The note's own configuration on the note's own model."""
    trained = size(note_lstm())
    hold((trained, BLOOM) == (58_777_600, 1_303_111_680), f"{trained:,} of {BLOOM:,}")
    percent = 100 * trained / (BLOOM + trained)
    hold(4.2 < percent < 4.4, f"{percent}")
    return f"{trained:,} beside {BLOOM:,}: {percent:.2f} %, for a prompt of {V * D:,} numbers"


@proves("ptuning-stored")
def stored() -> str:
    """What goes into the file, and what does not."""
    encoder = note_lstm()
    kept = V * D
    hold(not encoder.is_stored() and PromptEncoder(V, D, H, None).is_stored(), "what is stored")
    tokens = PromptEncoder(V, D, H, None, device="meta").virtual_tokens()
    hold(tokens.numel() == kept == 20_480, f"{tokens.shape}")
    return f"{kept:,} of {size(encoder):,} trained numbers, {100 * kept / size(encoder):.3f} %"


def first_step(prompt: PromptTuning[Any], gradient: Tensor, lr: float = 3e-3) -> float:
    """How far a row of P goes in one step of Adam."""
    before = prompt.virtual_tokens().detach().clone()
    optimizer = torch.optim.AdamW(prompt.parameters(), lr=lr, weight_decay=0)
    (prompt.virtual_tokens() * gradient).sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return float((prompt.virtual_tokens().detach() - before).norm(dim=1).mean())


@proves("ptuning-faster")
def faster() -> str:
    """The same gradient and the same learning rate, with and without a network."""
    torch.manual_seed(0)
    gradient = torch.randn(V, 128)
    alone, through = (first_step(kind(V, 128), gradient) for kind in (PromptTuning, PromptEncoder))
    # Adam's first step is lr in every coordinate, so a row moves by lr · √d
    hold(abs(alone - 3e-3 * 128**0.5) < 1e-5, f"{alone}")
    hold(through > 3 * alone, f"{alone} and {through}")
    times = through / alone
    return f"d = 128: the first step of a learning rate moves P {times:.0f} times as far by an MLP"
