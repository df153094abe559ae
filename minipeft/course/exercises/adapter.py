"""The exercises of lesson 04, adapters: run one, place it twice, count, mend and predict."""

from __future__ import annotations

from ..exercise import Exercise
from . import _adapter_layers as layers
from . import _adapter_sizes as sizes

ADAPTER = "minipeft.methods.adapter:Adapter"

BLOCK = """\
def block(x, attention, mlp, norm_1, norm_2, adapter_1, adapter_2):
    \"\"\"A block of GPT-2 or Bloom with Houlsby's two adapters: x (..., d) -> (..., d).\"\"\"
{body}
"""
FROZEN = """\
    # YOUR TURN: delete the raise, and add the adapters to the frozen block.
    raise NotImplementedError("your turn")
    x = x + attention(norm_1(x))
    x = x + mlp(norm_2(x))
    return x"""
PLACED = """\
    x = x + adapter_1(attention(norm_1(x)))
    x = x + adapter_2(mlp(norm_2(x)))
    return x"""

NOTES = """\
from torch import nn


class NotesAdapter(nn.Module):
    \"\"\"Lecture note 003, lines 243 to 262.\"\"\"

    def __init__(self, hidden_size, adapter_size=64, dropout=0.1):
        super().__init__()
        self.down_project = nn.Linear(hidden_size, adapter_size)
        self.activation = nn.GELU()
        self.up_project = nn.Linear(adapter_size, hidden_size)
        self.dropout = nn.Dropout(dropout)
{init}
    def forward(self, x):
        residual = x
        x = self.down_project(x)
        x = self.activation(x)
        x = self.dropout(x)
        x = self.up_project(x)
        return x + residual
"""
BUG = """\
        # YOUR TURN: delete the raise, and mend what follows it.
        raise NotImplementedError("your turn")
        nn.init.xavier_uniform_(self.down_project.weight)
        nn.init.xavier_uniform_(self.up_project.weight)
        nn.init.zeros_(self.down_project.bias)
        nn.init.zeros_(self.up_project.bias)
"""
MENDED = """\
        nn.init.xavier_uniform_(self.down_project.weight)
        nn.init.zeros_(self.up_project.weight)  # the identity; W_down must not be zero as well
        nn.init.zeros_(self.down_project.bias)
        nn.init.zeros_(self.up_project.bias)
"""

EXERCISES = [
    Exercise(
        id="adapter.forward",
        lesson="04_adapter",
        title="Down, across, up, and around",
        target=f"{ADAPTER}.forward",
        task="""\
Return h = x + W_up dropout(σ(W_down x + b_down)) + b_up, for `x` (..., d).

- `self.down_project` holds W_down (m, d) and b_down, `self.up_project` W_up (d, m) and b_up; σ is
  `self.activation`, and dropout is `self.dropout`.
- The model may run in bfloat16 while the adapter is float32: compute in the adapter's dtype, and
  give h back in the dtype of `x`. Do not change `x` in place.
""",
        hints=(
            "Between which two layers does the width change from d to m and back, and what of x "
            "is left if both give zero?",
            "z = dropout(σ(down_project(x))), (..., d) -> (..., m); then h = x + up_project(z), "
            "(..., m) -> (..., d).",
            "`z = self.down_project(x.to(self.down_project.weight.dtype))`, then `self.activation` "
            "and `self.dropout`; `return (x + self.up_project(z)).to(x.dtype)`.",
        ),
        check=layers.forward,
    ),
    Exercise(
        id="adapter.after",
        lesson="04_adapter",
        title="On a frozen layer's output",
        target=f"{ADAPTER}.after",
        task="""\
The wrapper asks every method: the frozen layer got `x` (..., in) and gave `y` (..., out); what
should the next layer get? Return (..., out).

`self(z)` runs the `forward` of the exercise before, which has its own way around the bottleneck.
""",
        hints=(
            "Which of the two has the adapter's width d when the layer goes from 4d to d?",
            "A(y) = y + W_up σ(W_down y + b_down) + b_up, (..., out) -> (..., out).",
            "`return self(...)`: nothing is to be added, the forward adds y already.",
        ),
        check=layers.after,
    ),
    Exercise(
        id="adapter.block",
        lesson="04_adapter",
        title="Into the block",
        task="""\
Add the adapters to the block where Houlsby et al. put them: each on what a sublayer gives, before
that is added to the stream. `adapter_1` belongs to the attention, `adapter_2` to the feed-forward.

All arguments after `x` are functions from (..., d) to (..., d). An adapter goes around its own
bottleneck by itself.
""",
        hints=(
            "The stream x is carried along by `x + ...`. Should it pass through an adapter?",
            "x' = x + A₁(attention(norm₁(x))), then x' + A₂(mlp(norm₂(x'))).",
            "`x = x + adapter_1(...)` around what stands there, and the same once more.",
        ),
        check=layers.block,
        starter=BLOCK.format(body=FROZEN),
        solution=BLOCK.format(body=PLACED),
        answer="block",
    ),
    Exercise(
        id="adapter.count",
        lesson="04_adapter",
        title="How many parameters",
        target="minipeft.methods.adapter:adapter_parameters",
        task="""\
How many numbers does one adapter hold, biases included, with the width `hidden_size` (d) and the
bottleneck `adapter_size` (m)? Return an `int`.
""",
        hints=(
            "Which two matrices are there, and how long is the bias of each layer?",
            "W_down (m, d), b_down (m,), W_up (d, m), b_up (d,).",
            "`return 2 * hidden_size * adapter_size + ... + ...`.",
        ),
        check=sizes.count,
    ),
    Exercise(
        id="adapter.start",
        lesson="04_adapter",
        title="Find the bug in the notes",
        task="""\
This is the class of note 003, lines 243 to 262. It runs and trains; but at d = 768, m = 64 it moves
its input by 36 % before the first step, and 24 of them do so one after the other.

Mend the start: the output must be the input exactly, and training must still reach both matrices.
Leave the shapes and `forward` as they are.
""",
        hints=(
            "What must W_up σ(W_down x + b_down) + b_up be at the start? How many of the four have "
            "to be zero for that?",
            "∂ℒ/∂W_up = g zᵀ with z = σ(W_down x + b_down), and ∂ℒ/∂W_down contains W_up: with "
            "one of the matrices zero, the other one's way to learn stays open; with both zero, "
            "neither learns.",
            "`nn.init.zeros_(self.up_project.weight)` in the place of its Xavier line.",
        ),
        check=sizes.start,
        starter=NOTES.format(init=BUG),
        solution=NOTES.format(init=MENDED),
        answer="NotesAdapter",
    ),
    Exercise(
        id="adapter.predict_7b",
        lesson="04_adapter",
        title="How wide for one percent",
        task="""\
Note 003, line 383, says that adapters train 1 to 3 %. Llama-2-7B has 6,738,415,616 parameters, in
32 blocks of width 4096; each block gets two adapters. What is the smallest bottleneck m with which
they hold at least 1 % as many parameters as the model? (With the note's m = 64 it is 0.502 %.)
""",
        hints=(
            "How many adapters are there, and how much does each grow when m grows by one?",
            "64 · (2 · 4096 · m + m + 4096) ≥ 67,384,156.16; solve for m, and round up.",
            "`answer = math.ceil((67_384_156.16 / 64 - 4096) / 8193)`",
        ),
        check=sizes.predict_7b,
        starter="answer = None  # YOUR TURN: a number, or an expression",
        solution="""\
import math

sites, d = 32 * 2, 4096
answer = math.ceil((0.01 * 6_738_415_616 / sites - d) / (2 * d + 1))""",
        answer="answer",
    ),
]
