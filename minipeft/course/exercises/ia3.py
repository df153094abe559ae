"""The exercises of lesson 10, IA³: scale, fold, choose rows, count, and do without ℓ_q."""

from __future__ import annotations

from ..exercise import Exercise
from . import _ia3 as checks

FILE = "minipeft.methods.ia3"
TURN = '    # YOUR TURN\n    raise NotImplementedError("your turn")'

COUNT = '''\
def ia3_parameters(layers, d, inner, heads, kv_heads):
    """The trained numbers, by the paper: on keys, on values, inside the feed-forward."""
{body}
'''
COUNT_BODY = """\
    kv_width = d // heads * kv_heads
    return layers * (kv_width + kv_width + inner)"""

WITHOUT_Q = '''\
import torch


def without_q(scale):
    """ℓ (3d, 1) of a fused projection -> ℓ' (3d, 1), the same function with ones on Q."""
{body}
'''
WITHOUT_Q_BODY = """\
    q, k, v = scale.chunk(3)  # (d, 1) each
    return torch.cat([torch.ones_like(q), q * k, v])"""

NOTES = """\
# Note 001, lines 151 to 154, for Bloom:
notes = {{
    "target_modules": ["query_key_value"],
    "feedforward_modules": ["mlp.dense_4h_to_h"],
}}
{turn}"""
MENDED = """\
config = {
    "target_modules": ["query_key_value", "mlp.dense_4h_to_h"],
    "feedforward_modules": ["mlp.dense_4h_to_h"],
}"""

EXERCISES = [
    Exercise(
        id="ia3.forward",
        lesson="10_ia3",
        title="The scale",
        target=f"{FILE}:IA3.forward",
        task="""\
Return ℓ ⊙ x for `x` (..., features).

ℓ is `self.vector()`: as it is stored, (features, 1), or (1, features) on the feed-forward. The
model may run in bfloat16 while ℓ is float32: multiply in float32 and round the product once, to the
dtype of `x`.
""",
        hints=(
            "Which of x's axes does ℓ lie along, and which shape must ℓ have for that?",
            "h[..., i] = ℓ[i] · x[..., i]: (..., features) times (features,), then x's dtype.",
            "`return (x * self.vector().flatten()).to(...)`.",
        ),
        check=checks.forward,
    ),
    Exercise(
        id="ia3.fold",
        lesson="10_ia3",
        title="Fold the scale into W",
        target=f"{FILE}:IA3.fold",
        task="""\
Return the pair (W', b') of the one linear layer that does what the frozen layer and ℓ do together.

`weight` is W (out, in), `bias` is b (out,) or None. Where `self.changes_input`, ℓ (1, in) scales
the layer's input; otherwise ℓ (out, 1) scales its output. ℓ is `self.vector()`. Return new tensors
where something changes.
""",
        hints=(
            "Write out ℓ ⊙ (W x + b) and W (ℓ ⊙ x) + b. In which of them does b stand inside?",
            "Output: W' = ℓ ⊙ W by rows, (out, 1) · (out, in), and b' = ℓ ⊙ b. Input: W' = W ⊙ ℓ "
            "by columns, (out, in) · (1, in), and b stays.",
            "`self.vector() * weight` does both for W; the bias is `bias` if it is None or "
            "`self.changes_input`, else `self.vector().flatten() * bias`.",
        ),
        check=checks.fold,
    ),
    Exercise(
        id="ia3.vector",
        lesson="10_ia3",
        title="Keys and values only",
        target=f"{FILE}:FusedIA3.vector",
        task="""\
Where one layer computes Q, K and V together, the paper's IA³ scales K and V: some rows of the
output, `self.rows`, int64. `self.ia3_l` has one number for each of them, (2d, 1).

Return ℓ for all rows, (self.features, 1): `ia3_l` in its rows, and what changes nothing in the
others.
""",
        hints=(
            "Which number changes nothing when it multiplies?",
            "ℓ[rows[i]] = ia3_l[i], else 1: ones (3d, 1), filled at `rows` (2d,).",
            "`ones = self.ia3_l.new_ones(self.features, 1)`, then "
            "`return ones.index_copy(0, ..., ...)`.",
        ),
        check=checks.vector,
    ),
    Exercise(
        id="ia3.count",
        lesson="10_ia3",
        title="How many parameters",
        task="""\
A decoder of width d has in each layer `k_proj` and `v_proj` (d to the width of the keys), and a
feed-forward whose hidden part has `inner` features; it comes back to d by `down_proj`. The width of
the keys is `kv_heads` heads of d / heads each: with grouped-query attention there are fewer than
`heads`. How many numbers does IA³ train, by the paper? Return an `int`.
""",
        hints=(
            "Three vectors in a layer: how long is each?",
            "ℓ_k and ℓ_v have d / heads · kv_heads entries, ℓ_ff has inner: it scales the *input* "
            "of down_proj.",
            "`return layers * (2 * d // heads * kv_heads + ...)`.",
        ),
        check=checks.count,
        starter=COUNT.format(body=TURN),
        solution=COUNT.format(body=COUNT_BODY),
        answer="ia3_parameters",
    ),
    Exercise(
        id="ia3.config",
        lesson="10_ia3",
        title="Find the bug in the notes",
        task="""\
Handed to Hugging Face peft's `IA3Config`, these lines of note 001 raise *`feedforward_modules`
should be a subset of `target_modules`*. In peft `target_modules` names everything that is scaled,
and `feedforward_modules` says for which of these the input is; the two are compared as strings.

Give the dictionary that scales, in Bloom, the output of `self_attention.query_key_value` and the
input of `mlp.dense_4h_to_h`, and nothing else, in peft too.
""",
        hints=(
            "Which layers does peft scale, and which of the two lists decides that?",
            "Every string of `feedforward_modules` must stand in `target_modules` too, spelled the "
            'same: for peft "dense_4h_to_h" and "mlp.dense_4h_to_h" are different strings.',
            '`"target_modules": ["query_key_value", "mlp.dense_4h_to_h"]`, and the other line as '
            "it is.",
        ),
        check=checks.config,
        starter=NOTES.format(turn="config = None  # YOUR TURN: the dictionary, mended"),
        solution=NOTES.format(turn=MENDED),
        answer="config",
    ),
    Exercise(
        id="ia3.without_q",
        lesson="10_ia3",
        title="Queries need no scale",
        task="""\
peft scales all of a fused projection, Q too. But a score is Σᵢ (ℓ_q,i qᵢ)(ℓ_k,i kᵢ): only the
product of the two scales counts, entry by entry.

Given ℓ as the tensor `scale` (3d, 1), in GPT-2's order, Q, K, V, return ℓ' (3d, 1) that is one on Q
and makes the same scores and the same values. Do not change `scale` in place.
""",
        hints=(
            "What must ℓ'_k be if ℓ'_q = 1 and every product is to stay?",
            "ℓ'_q,i · ℓ'_k,i = ℓ_q,i · ℓ_k,i with ℓ'_q,i = 1, so ℓ'_k = ℓ_q ⊙ ℓ_k; ℓ'_v = ℓ_v.",
            "`q, k, v = scale.chunk(3)`, then `return torch.cat([torch.ones_like(q), ..., v])`.",
        ),
        check=checks.without_q,
        starter=WITHOUT_Q.format(body=TURN),
        solution=WITHOUT_Q.format(body=WITHOUT_Q_BODY),
        answer="without_q",
    ),
]
