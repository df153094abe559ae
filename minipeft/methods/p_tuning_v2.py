"""P-tuning v2: a deep prompt, trained keys and values in every layer, without a projection.

Liu et al., "P-Tuning v2: Prompt Tuning Can Be Comparable to Fine-tuning Universally Across Scales
and Tasks" (arXiv 2110.07602), section 3.2. It is prefix tuning for understanding as well as for
generation: keys and values directly, on any transformer, with the task's head trained along.
Lecture note: 003_2a78d11827cb1020.txt, lines 336-371, whose class puts the prompt before the hidden
states of every layer instead, so that the sequence grows by v in each (lesson 07 shows it).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from torch import nn

from .config import PeftType
from .prefix_tuning import PrefixEncoder, PrefixTuningConfig, build, count, demand
from .virtual_tokens import PromptPlacement


class PTuningV2(PrefixEncoder["PTuningV2Config"]):
    """Keys and values of v virtual tokens for each layer; started near 0, as the notes start them.

    Args:
        num_layers: L.
        num_tokens: v.
        hidden_size: d, the width of a layer's keys.
        num_heads: heads of keys and values.
        options: the other arguments of `PrefixEncoder`.
    """

    def __init__(
        self, num_layers: int, num_tokens: int, hidden_size: int, num_heads: int = 1, **options: Any
    ):
        super().__init__(num_layers, num_tokens, hidden_size, num_heads, **options)
        if self.is_stored() and options.get("init_weights") is None:
            nn.init.normal_(self.embedding.weight, std=0.01)


@dataclass
class PTuningV2Config(PrefixTuningConfig):
    """What P-tuning v2 is: the options of `PrefixTuningConfig`.

    The file says PREFIX_TUNING, as peft has no other name for what it holds, and is read as that
    here too: once trained, the two are the same. They differ in how they start.
    """

    peft_type: ClassVar[str] = PeftType.P_TUNING_V2
    saved_as: ClassVar[str] = PeftType.PREFIX_TUNING


P_TUNING_V2 = PromptPlacement(PTuningV2, partial(build, kind=PTuningV2), count, demand=demand)
