"""The exercises of lesson 08, LoRA: initialise, run, wrap, fold and count it."""

from __future__ import annotations

from ..exercise import Exercise
from . import _lora_layers as layers
from . import _lora_sizes as sizes

LAYER = "minipeft.methods.lora:LoRALayer"

NOTES = """\
import math

import torch
from torch import nn


class NotesLoRALayer(nn.Module):
    \"\"\"Lecture note 003, lines 71 to 95: A is stored (in, r), B is stored (r, out).\"\"\"

    def __init__(self, in_features, out_features, rank=16, lora_alpha=32):
        super().__init__()
        self.scaling = lora_alpha / rank
        self.lora_A = nn.Parameter(torch.zeros(in_features, rank))
        self.lora_B = nn.Parameter(torch.zeros(rank, out_features))
{init}
    def forward(self, x, base_output):
        return base_output + (x @ self.lora_A @ self.lora_B) * self.scaling
"""
BUG = """\
        # YOUR TURN: delete the raise, and mend what follows it.
        raise NotImplementedError("your turn")
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        nn.init.zeros_(self.lora_B)
"""
MENDED = """\
        # Kaiming takes dimension 1 for the fan-in; turned over, that is in_features.
        nn.init.kaiming_uniform_(self.lora_A.T, a=math.sqrt(5))
        nn.init.zeros_(self.lora_B)
"""

EXERCISES = [
    Exercise(
        id="lora.init",
        lesson="08_lora",
        title="Start at zero",
        target=f"{LAYER}.reset_parameters",
        task="""\
Fill `self.lora_A` (r, in) and `self.lora_B` (out, r) so that the update ΔW = s · B A is zero when
training starts and can still learn. The class around it is the package's: below `# YOUR TURN` is
all that you write, here and in the exercises after it.

| `init_lora_weights` | A | B |
|---|---|---|
| `True` | uniform in ±1/√in | zero |
| `"gaussian"` | normal, standard deviation 1/r | zero |
| `False` (for tests) | uniform in ±1/√in | uniform in ±1/√r |

r and in are `self.lora_A.shape`. (Leave `"orthogonal"` and `"loftq"` out: later lessons.)
""",
        hints=(
            "B A is zero if one factor is. Which gradient is zero too if both are?",
            "Kaiming's bound is √(6 / ((1 + a²) · fan_in)); a = √5 makes it 1/√fan_in. "
            "For a matrix (rows, columns) torch takes fan_in = columns: in for A (r, in), "
            "r for B (out, r).",
            '`nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))`, or for "gaussian" '
            "`nn.init.normal_(self.lora_A, std=...)`; then `nn.init.zeros_(self.lora_B)`, or for "
            "False the Kaiming line with B.",
        ),
        check=sizes.init,
    ),
    Exercise(
        id="lora.forward",
        lesson="08_lora",
        title="The update beside the frozen output",
        target=f"{LAYER}.forward",
        task="""\
Return h = base_output + s · B A x, for `x` (..., in) and `base_output` (..., out). The last
dimension of `x` is one token, so a token is a row.

- A is `self.lora_A` (r, in), B is `self.lora_B` (out, r), s is `self.scaling`.
- The model may run in bfloat16 while A and B are float32: multiply in A's dtype, and give the sum
  back in the dtype of `base_output`. Do not change `base_output` in place.
- Dropout is not yours here: `after`, the package's, applies it to `x` before it calls `forward`.
""",
        hints=(
            "Which of x's dimensions meets A first, and what shape is left after it?",
            "For rows x: x (..., in) · Aᵀ (in, r) -> (..., r), then · Bᵀ (r, out) -> (..., out), "
            "times s.",
            "`update = x.to(self.lora_A.dtype) @ self.lora_A.T @ ...`, times `self.scaling`; "
            "`return (base_output + update).to(base_output.dtype)`.",
        ),
        check=layers.forward,
    ),
    Exercise(
        id="lora.linear",
        lesson="08_lora",
        title="A frozen layer and its LoRA",
        target="minipeft.methods.lora_linear:LoRALinear.forward",
        task="""\
Run the frozen layer `self.base_layer` on `x` (..., in), and let `self.lora` add its update.

`self.lora(x, base_output)` is the forward of the exercise before: it adds to `base_output`.
Dropout (`self.dropout`) is for the LoRA path only: the frozen path has learnt its job.
""",
        hints=(
            "Which of the two paths should be the same in training and in evaluation?",
            "h = W₀ x + b + s · B A · dropout(x); `self.lora(z, y)` returns y + s · B A z.",
            "`base_output = self.base_layer(x)`, then `return self.lora(..., base_output)`.",
        ),
        check=layers.linear,
    ),
    Exercise(
        id="lora.fold",
        lesson="08_lora",
        title="Fold the update into W",
        target=f"{LAYER}.fold",
        task="""\
Return the pair (W', b') of the one linear layer that does what the frozen layer and the LoRA do.

`weight` is W (out, in), `bias` is b (out,) or None; LoRA leaves b as it is. Return a new weight:
the wrapper keeps the old one, so that unmerging is exact to the bit.
""",
        hints=(
            "W x + s · B A x is (something) · x. What is the something, and its shape?",
            "W' = W + s · B A: (out, in) + (out, r) · (r, in). The bias stays.",
            "`return weight + self.scaling * (...), bias`, or use `self.delta_weight()`.",
        ),
        check=layers.fold,
    ),
    Exercise(
        id="lora.count",
        lesson="08_lora",
        title="How many parameters",
        target="minipeft.methods.lora:lora_parameters",
        task="""\
How many numbers are trained in one LoRA of rank r beside a layer from `in_features` to
`out_features`? Return an `int`.
""",
        hints=(
            "Which two matrices are trained, and what are their shapes?",
            "A (r, in) has r · in entries, B (out, r) has out · r.",
            "`return r * (... + ...)`.",
        ),
        check=sizes.count,
    ),
    Exercise(
        id="lora.fan_in",
        lesson="08_lora",
        title="Find the bug in the notes",
        task="""\
This is the class of lecture note 003, lines 71 to 95. It runs, ΔW is zero at the start, and it
trains; but A starts √(in/r) times larger than derived, 16 times on a 4096-wide layer with r = 16,
and the first gradient of B is larger by the same factor.

Mend the initialisation: A uniform in ±1/√in, B zero. You may keep the notes' layout, A (in, r) and
B (r, out), or turn both over and change `forward` to match.
""",
        hints=(
            "`kaiming_uniform_` gets nothing but the tensor. Where does it read the fan-in from?",
            "torch takes fan_in = tensor.shape[1]. For A (in, r) that is r: the bound is 1/√r. "
            "Asked for is 1/√in.",
            "Hand over the transpose, `nn.init.kaiming_uniform_(self.lora_A.T, ...)`: it fills the "
            "same memory. Or `nn.init.uniform_(self.lora_A, -bound, bound)`.",
        ),
        check=sizes.fan_in,
        starter=NOTES.format(init=BUG),
        solution=NOTES.format(init=MENDED),
        answer="NotesLoRALayer",
    ),
    Exercise(
        id="lora.predict_7b",
        lesson="08_lora",
        title="Predict the count of a 7B model",
        task="""\
Llama-2-7B has 32 layers; in each, `q_proj`, `k_proj`, `v_proj` and `o_proj` map 4096 to 4096. How
many parameters does LoRA train with r = 16 on these four? (Note 003 prints a number at line 157.
The lesson's table of claims has it, and whether it is right: work yours out before you look.)
""",
        hints=(
            "How many matrices get a LoRA, in one layer and in all?",
            "layers · matrices · r · (in + out), with r · (in + out) = 16 · 8192 = 131,072.",
            "`answer = 32 * 4 * 131_072`",
        ),
        check=sizes.predict_7b,
        starter="answer = None  # YOUR TURN: a number, or an expression",
        solution="answer = 32 * 4 * 16 * (4096 + 4096)",
        answer="answer",
    ),
]
