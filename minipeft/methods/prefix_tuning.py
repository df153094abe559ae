"""Prefix tuning: v virtual tokens whose keys and values every attention layer finds in its cache.

    head_i = softmax(q [Pᴷ; K]ᵀ / √d_h) [Pⱽ; V],   Pᴷ, Pⱽ trained, one pair for each layer

Li and Liang, "Prefix-Tuning: Optimizing Continuous Prompts for Generation" (arXiv 2101.00190),
sections 4.2 and 4.3. Lecture notes: 001_6dba3b3b8af31941.txt, lines 82-97, and
002_bb93127ed381542e.txt, line 32. While training, the pairs may be computed by one MLP from v small
vectors (`prefix_projection`), which the paper found more stable; afterwards only they are needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..checks.errors import ConfigError
from ..checks.rules import flag, one_of, optional, whole
from .config import PeftType, option
from .virtual_tokens import CachePrompt, P, PromptConfig, PromptPlacement


class PrefixEncoder(CachePrompt[P]):
    """(v, 2·L·d) numbers: for each virtual token, a key and a value (d,) in each of L layers.

    prefix_projection: W₂ tanh(W₁ E + b₁) + b₂ with E (v, d), W₁ (h, d), W₂ (2·L·d, h).

    Args:
        num_layers: L.
        num_tokens: v.
        token_dim: d, the width of a layer's keys: number of key heads times their width.
        num_heads: heads of keys and values (fewer than of queries under grouped-query attention).
        prefix_projection: compute the numbers by the MLP.
        projection_size: h; None for d.
        init_weights: "zero" starts all numbers at 0, None at random.
        cross_attention: the layers are a decoder's beside an encoder; see `keys_and_values`.
        device: of all parameters, which are float32.
    """

    def __init__(
        self,
        num_layers: int,
        num_tokens: int,
        token_dim: int,
        num_heads: int = 1,
        *,
        prefix_projection: bool = False,
        projection_size: int | None = None,
        init_weights: str | None = None,
        cross_attention: bool = False,
        device: torch.device | str | None = None,
    ):
        super().__init__()
        self.num_virtual_tokens, self.num_heads = num_tokens, num_heads
        self.num_layers, self.cross_attention = num_layers, cross_attention
        d, width = token_dim, 2 * num_layers * token_dim
        on: dict[str, Any] = {"device": device, "dtype": torch.float32}
        self.embedding = nn.Embedding(num_tokens, d if prefix_projection else width, **on)
        self.transform = None
        if prefix_projection:
            h = projection_size or d
            self.transform = nn.Sequential(
                nn.Linear(d, h, **on), nn.Tanh(), nn.Linear(h, width, **on)
            )
        if init_weights == "zero":
            last = self.embedding if self.transform is None else self.transform[-1]
            for parameter in last.parameters():
                nn.init.zeros_(parameter)

    def virtual_tokens(self) -> Tensor:
        """All keys and values in a row for each token: (v, 2·L·d)."""
        rows: Tensor = self.embedding.weight
        return rows if self.transform is None else self.transform(rows)

    def is_stored(self) -> bool:
        """False while there is an MLP."""
        return self.transform is None

    def forward(self) -> Tensor:
        """(2·L, heads, v, head_dim): key of layer 0, value of layer 0, key of layer 1, …"""
        rows = self.virtual_tokens()  # (v, 2·L·d)
        pairs = rows.view(len(rows), 2 * self.num_layers, self.num_heads, -1)
        return pairs.permute(1, 2, 0, 3)

    def keys_and_values(self) -> list[tuple[Tensor, Tensor]]:
        """K and V of each layer, (heads, v, head_dim).

        Beside an encoder peft reads four rows for a layer, beginning anew when they run out, and
        drops the last two, which were for the cross-attention: layers i and i + L/2 share theirs,
        and half of the numbers are never used. So do we, or its files would mean something else.
        """
        rows = self()
        step = 4 if self.cross_attention else 2
        starts = [step * layer % len(rows) for layer in range(self.num_layers)]
        return [(rows[i], rows[i + 1]) for i in starts]


@dataclass
class PrefixTuningConfig(PromptConfig):
    """What prefix tuning is: peft's names, defaults and meanings.

    Args:
        num_virtual_tokens: v.
        prefix_projection: compute the keys and values by an MLP while training.
        encoder_hidden_size: h, the MLP's inner width; the width of the keys if left out.
        init_weights: "zero" starts at keys and values of 0, None at random ones.
    """

    peft_type: ClassVar[str] = PeftType.PREFIX_TUNING

    prefix_projection: bool = option(False, flag)
    encoder_hidden_size: int | None = option(None, optional(whole(1)))
    init_weights: str | None = option(None, one_of(None, "zero"))


def build(model: Any, config: Any, kind: type[PrefixEncoder[Any]] | None = None) -> Any:
    """The prefix for this model; with `inference_mode`, only the numbers themselves.

    Args:
        model, config: what for; kind: the class, `PrefixEncoder` if left out.
    """
    known = config.of_model(model, keys=True)
    return (kind or PrefixEncoder)(
        known["num_layers"],
        config.tokens,
        known["token_dim"],
        known["num_attention_heads"],
        prefix_projection=config.prefix_projection and not config.inference_mode,
        projection_size=config.encoder_hidden_size,
        init_weights=config.init_weights,
        cross_attention=known["num_transformer_submodules"] == 2,
        device=model.get_input_embeddings().weight.device,
    )


def count(model: Any, config: Any) -> int:
    """2·L·v·d; with the MLP v·d + (d·h + h) + (h·2·L·d + 2·L·d)."""
    known = config.of_model(model, keys=True)
    d, width = known["token_dim"], 2 * known["num_layers"] * known["token_dim"]
    if not config.prefix_projection:
        return int(config.tokens * width)
    h = config.encoder_hidden_size or d
    return int(config.tokens * d + (d * h + h) + (h * width + width))


def demand(config: Any) -> None:
    """Refuse a width for an MLP that is not asked for; peft fills it in, so a file may have it."""
    if config.encoder_hidden_size is not None and not config.prefix_projection:
        raise ConfigError(
            f"encoder_hidden_size={config.encoder_hidden_size} is the width of an MLP that "
            f"prefix_projection=True asks for; give both, or neither"
        )


PREFIX_TUNING = PromptPlacement(PrefixEncoder, build, count, demand=demand)
