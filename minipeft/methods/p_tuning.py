"""P-tuning: prompt tuning whose vectors a small network computes, so that they move together.

    P = head(E),   E ∈ (v, d) trained, head an MLP or a bidirectional LSTM, trained with it

Liu et al., "GPT Understands, Too" (arXiv 2103.10385), section 3. Lecture note:
001_6dba3b3b8af31941.txt, lines 64-80. Once trained, only P (v, d) is needed: that is what is saved.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..checks import doubts
from ..checks.rules import member, optional, real, whole
from .config import PeftType, option
from .prompt_tuning import PromptTuning
from .virtual_tokens import PromptConfig, PromptPlacement


class PromptEncoderReparameterizationType(str, Enum):
    """The network that computes the prompt."""

    MLP = "MLP"
    LSTM = "LSTM"


class PromptEncoder(PromptTuning["PromptEncoderConfig"]):
    """[head(E); E(x)], where forward(input_embeds) is prompt tuning's.

    MLP:  P = W₃ relu(W₂ relu(W₁ E + b₁) + b₂) + b₃, widths d → h → h → d
    LSTM: P = W₂ relu(W₁ [→h; ←h] + b₁) + b₂, widths 2h → 2h → d, over the v tokens in order

    Args:
        num_tokens: v.
        token_dim: d.
        hidden_size: h; None for d.
        reparameterization: "MLP", "LSTM", or None: P is trained itself (what a file holds).
        num_layers, dropout: of the LSTM; the MLP has neither, as in peft.
        rows: how many rows E has, if more than v.
        device: of all parameters, which are float32.
    """

    def __init__(
        self,
        num_tokens: int,
        token_dim: int,
        hidden_size: int | None = None,
        reparameterization: str | None = "MLP",
        num_layers: int = 2,
        dropout: float = 0.0,
        *,
        rows: int | None = None,
        device: torch.device | str | None = None,
    ):
        nn.Module.__init__(self)  # the vectors are not a parameter here, but an embedding's rows
        self.num_virtual_tokens = num_tokens
        d, h = token_dim, hidden_size or token_dim
        on: dict[str, Any] = {"device": device, "dtype": torch.float32}
        self.embedding = nn.Embedding(rows or num_tokens, d, **on)
        self.lstm_head = self.mlp_head = None
        if reparameterization == "LSTM":
            self.lstm_head = nn.LSTM(
                d, h, num_layers, dropout=dropout, bidirectional=True, batch_first=True, **on
            )
            widths = [2 * h, 2 * h, d]
        elif reparameterization == "MLP":
            widths = [d, h, h, d]
        if reparameterization is not None:
            layers: list[nn.Module] = []
            for i, o in itertools.pairwise(widths):
                layers += [nn.Linear(i, o, **on), nn.ReLU()]
            self.mlp_head = nn.Sequential(*layers[:-1])

    def virtual_tokens(self) -> Tensor:
        """P = head(E), (v, d)."""
        x = self.embedding.weight.unsqueeze(0)  # (1, v, d)
        if self.lstm_head is not None:
            x = self.lstm_head(x)[0]  # (1, v, 2h)
        if self.mlp_head is not None:
            x = self.mlp_head(x)  # (1, v, d)
        return x.squeeze(0)

    def is_stored(self) -> bool:
        """False while there is a network."""
        return self.mlp_head is None


@dataclass
class PromptEncoderConfig(PromptConfig):
    """What P-tuning is: peft's names, defaults and meanings.

    Args:
        num_virtual_tokens: v.
        encoder_reparameterization_type: "MLP" or "LSTM".
        encoder_hidden_size: h; the embedding's width if left out.
        encoder_num_layers: layers of the LSTM; the MLP always has its three linear layers, and a
            number other than 2 warns.
        encoder_dropout: between the LSTM's layers, in [0, 1); the MLP has none, and warns.
    """

    peft_type: ClassVar[str] = PeftType.P_TUNING

    encoder_reparameterization_type: PromptEncoderReparameterizationType | str = option(
        PromptEncoderReparameterizationType.MLP, member(PromptEncoderReparameterizationType)
    )
    encoder_hidden_size: int | None = option(None, optional(whole(1)))
    encoder_num_layers: int = option(2, whole(1))
    encoder_dropout: float = option(0.0, real(0, 1))

    def check(self) -> None:
        """Warn of what the MLP does not have."""
        super().check()
        if self.encoder_reparameterization_type == PromptEncoderReparameterizationType.MLP:
            for name in ("encoder_num_layers", "encoder_dropout"):
                if getattr(self, name) != self.default_of(name):
                    doubts.no_effect_on_the_mlp(name, getattr(self, name))


def build(model: Any, config: Any) -> PromptEncoder:
    """The encoder for this model; with `inference_mode`, only the rows it computed."""
    known = config.of_model(model)
    return PromptEncoder(
        config.tokens,
        known["token_dim"],
        config.encoder_hidden_size,
        None if config.inference_mode else config.encoder_reparameterization_type.value,
        config.encoder_num_layers,
        config.encoder_dropout,
        rows=config.tokens * known["num_transformer_submodules"],
        device=model.get_input_embeddings().weight.device,
    )


def count(model: Any, config: Any) -> int:
    """V·d, and the network's: (d·h + h) + (h·h + h) + (h·d + d) for the MLP.

    For the LSTM, whose four gates read the input and the state, with L layers in two directions:
    8·h·((d + h + 2) + (L - 1)·(3·h + 2)), and for its head (4·h·h + 2·h) + (2·h·d + d).
    """
    known = config.of_model(model)
    d = known["token_dim"]
    h = config.encoder_hidden_size or d
    rows = config.tokens * known["num_transformer_submodules"] * d
    if config.encoder_reparameterization_type == "LSTM":
        lstm = 8 * h * ((d + h + 2) + (config.encoder_num_layers - 1) * (3 * h + 2))
        return int(rows + lstm + (4 * h * h + 2 * h) + (2 * h * d + d))
    return int(rows + (d * h + h) + (h * h + h) + (h * d + d))


P_TUNING = PromptPlacement(PromptEncoder, build, count)
