"""The exercises of lesson 07, prefix tuning and P-tuning v2: attend, compute, arrange, count."""

from __future__ import annotations

from ..exercise import Exercise
from . import _prefix_sizes as sizes
from . import _prefix_tokens as tokens

ENCODER = "minipeft.methods.prefix_tuning:PrefixEncoder"

ATTEND = '''\
import math

import torch


def attend(q, k, v, prefix_k, prefix_v):
    """One attention head with a prefix, causal in the text.

    q, k, v: (t, d), of the t tokens of text, in order.
    prefix_k, prefix_v: (n, d), trained; every token sees them.
    Returns (t, d).
    """
{body}'''
ATTEND_TURN = '    # YOUR TURN\n    raise NotImplementedError("your turn")\n'
ATTEND_BODY = """\
    keys, values = torch.cat([prefix_k, k]), torch.cat([prefix_v, v])  # (n + t, d)
    scores = q @ keys.T / math.sqrt(q.shape[-1])  # (t, n + t)
    # token i sees the n of the prefix and the text up to itself: columns 0 … n + i
    seen = torch.ones_like(scores, dtype=torch.bool).tril(len(prefix_k))
    return scores.masked_fill(~seen, -math.inf).softmax(dim=-1) @ values
"""

NOTES = """\
import torch
from torch import nn


class NotesPTuningV2(nn.Module):
    \"\"\"Lecture note 003, lines 344 to 373.\"\"\"

    def __init__(self, num_layers, num_tokens, hidden_size):
        super().__init__()
        self.num_tokens = num_tokens
        self.prompt_embeddings = nn.ParameterList(
            [nn.Parameter(torch.randn(num_tokens, hidden_size) * 0.01) for _ in range(num_layers)]
        )
        self.prompt_encoder = nn.Sequential(
            nn.Linear(hidden_size, hidden_size // 2),
            nn.Tanh(),
            nn.Linear(hidden_size // 2, hidden_size),
        )

    def forward(self, hidden_states, layer_idx):
        \"\"\"What layer `layer_idx` gets instead of hidden_states (b, length, d).\"\"\"
        prompts = self.prompt_encoder(self.prompt_embeddings[layer_idx])  # (n, d)
        prompts = prompts.unsqueeze(0).expand(hidden_states.size(0), -1, -1)  # (b, n, d)
{body}"""
NOTES_BUG = """\
        # YOUR TURN: delete the raise, and mend what follows it.
        raise NotImplementedError("your turn")
        return torch.cat([prompts, hidden_states], dim=1)
"""
NOTES_MENDED = """\
        if layer_idx > 0:  # the first n positions are the prompts of the layer before
            hidden_states = hidden_states[:, self.num_tokens :]
        return torch.cat([prompts, hidden_states], dim=1)
"""

EXERCISES = [
    Exercise(
        id="prefix.attend",
        lesson="07_prefix",
        title="Attention that finds a prefix",
        task="""\
Write one attention head that finds n trained keys and values before those of the text (n virtual
tokens, since `v` stands for the values here; d is the width of the head):

    softmax(q [Pᴷ; K]ᵀ / √d) [Pⱽ; V]

Every token of the text sees the whole prefix, itself, and the text before it.
""",
        hints=(
            "How many columns does row i of the scores have, and which of them may it see?",
            "keys (n + t, d), scores (t, n + t); row i sees the columns 0 … n + i. One softmax "
            "over all of them, so that a row's weights sum to 1.",
            "`scores = q @ keys.T / math.sqrt(q.shape[-1])`; a mask of ones cut by `.tril(n)`; "
            "`masked_fill(~mask, -math.inf)`, `softmax(dim=-1)`, times the values.",
        ),
        check=tokens.attend,
        starter=ATTEND.format(body=ATTEND_TURN),
        solution=ATTEND.format(body=ATTEND_BODY),
        answer="attend",
    ),
    Exercise(
        id="prefix.virtual_tokens",
        lesson="07_prefix",
        title="Trained, or computed",
        target=f"{ENCODER}.virtual_tokens",
        task="""\
Return all numbers of the prefix, (v, 2·L·d): one row for each virtual token.

- Without `prefix_projection`, `self.transform` is None and the rows of `self.embedding` (an
  `nn.Embedding`) are the numbers.
- With it, the rows are E (v, d), and `self.transform` is the MLP that computes the numbers.
""",
        hints=(
            "Which of the two is trained in each case, and what does a gradient have to reach?",
            "P = E without the MLP; P = W₂ tanh(W₁ E + b₁) + b₂ with it, (v, d) -> (v, 2·L·d).",
            "`rows = self.embedding.weight`, then `rows` or `self.transform(rows)`.",
        ),
        check=tokens.virtual_tokens,
    ),
    Exercise(
        id="prefix.forward",
        lesson="07_prefix",
        title="From rows to keys and values",
        target=f"{ENCODER}.forward",
        task="""\
`self.virtual_tokens()` is (v, 2·L·d). In a row stand, one after the other, the key of layer 0, the
value of layer 0, the key of layer 1, ..., each d wide; in each of them the heads, one after the
other, d = heads · head_dim.

Return them as the attention layers want them, (2·L, heads, v, head_dim). `self.num_layers` is L,
`self.num_heads` the number of heads.
""",
        hints=(
            "Into which four sizes does (v, 2·L·d) split, without moving a number?",
            "(v, 2·L·d) -> (v, 2·L, heads, head_dim) by `view`; then the dimensions change places "
            "by `permute`. A `view` straight to (2·L, heads, v, head_dim) mixes tokens and layers.",
            "`rows.view(len(rows), 2 * self.num_layers, self.num_heads, -1).permute(...)`",
        ),
        check=tokens.forward,
    ),
    Exercise(
        id="prefix.count",
        lesson="07_prefix",
        title="How many parameters",
        target="minipeft.methods.prefix_tuning:count",
        task="""\
How many numbers does the method train beside this model? Return an `int`.

- `config.of_model(model, keys=True)` is a dict: `"token_dim"` is d, the width of all keys of a
  layer, `"num_layers"` is L. (Without `keys=True`, `"token_dim"` is the width of a word.)
- `config.tokens` is v, `config.prefix_projection` says whether there is the MLP, and
  `config.encoder_hidden_size` is its inner width h, or None, which means d.
""",
        hints=(
            "Which tensors are trained, with the MLP and without, and what are their shapes?",
            "Without: v · 2·L·d. With: E (v, d), W₁ (h, d), b₁ (h,), W₂ (2·L·d, h), b₂ (2·L·d,).",
            "`width = 2 * L * d`; `return v * width`, or with the MLP "
            "`return v * d + (d * h + h) + (...)`.",
        ),
        check=sizes.count,
    ),
    Exercise(
        id="prefix.notes",
        lesson="07_prefix",
        title="Find the bug in the notes",
        task="""\
This is the class of note 003, lines 344 to 373, to be called on the hidden states before each
layer. It gives each layer its own n prompts, as it should, and puts them before those of the layers
below: in 12 layers with n = 4, a text of 10 tokens becomes 58 positions.

Mend `forward` so that the length is n + t in every layer: layer 0 puts its n prompts before the
text, and each later layer puts its own in the place of the last layer's. (That is deep prompt
tuning on hidden states. P-tuning v2 itself trains keys and values, and the text stays t long.)
""",
        hints=(
            "What stands in the first n positions when layer 1 is called?",
            "Layer 0: (b, t, d) -> (b, n + t, d). Later: (b, n + t, d) -> (b, n + t, d), the "
            "first n replaced, the other t kept.",
            "`if layer_idx > 0: hidden_states = hidden_states[:, self.num_tokens :]`",
        ),
        check=sizes.notes,
        starter=NOTES.format(body=NOTES_BUG),
        solution=NOTES.format(body=NOTES_MENDED),
        answer="NotesPTuningV2",
    ),
    Exercise(
        id="prefix.predict_70b",
        lesson="07_prefix",
        title="Predict the count of a 70B model",
        task="""\
Llama-2-70B has 80 layers and hidden states 8,192 wide, in 64 heads of 128. Only 8 of the heads
have keys and values of their own (grouped-query attention: 8 query heads share one). How many
numbers does prefix tuning train with v = 10 and no projection?
""",
        hints=(
            "A prefix stands in for keys and values. How wide are all keys of one layer here?",
            "2 · L · v · d with d = (heads of keys) · (width of a head).",
            "`answer = 2 * 80 * 10 * ...`, with d = 8 · 128",
        ),
        check=sizes.predict_70b,
        starter="answer = None  # YOUR TURN: a number, or an expression",
        solution="answer = 2 * 80 * 10 * (8 * 128)",
        answer="answer",
    ),
]
