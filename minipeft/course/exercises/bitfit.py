"""The exercises of lesson 03, BitFit: shift, fold, choose and count the biases."""

from __future__ import annotations

from ..exercise import Exercise
from . import _bitfit as checks

LAYER = "minipeft.methods.bitfit:BitFit"

COUNT = '''\
def decoder_biases(d, layers, embedding_norm=False):
    """All biases of a decoder of that width and depth."""
{body}
'''
COUNT_BODY = """\
    block = (3 + 1 + 4 + 1) * d + 2 * d  # four matrices and two norms
    final_norm = d
    return layers * block + final_norm + (d if embedding_norm else 0)"""
TURN = '    # YOUR TURN\n    raise NotImplementedError("your turn")'

NOTES = '''\
def train_biases(model):
    """Freeze all but the biases; return how many numbers are trained (001, lines 28 to 35)."""
{body}
'''
BUG = """\
    # YOUR TURN: delete the raise, and mend what follows it.
    raise NotImplementedError("your turn")
    num_param = 0
    for name, param in model.named_parameters():
        if "bias" not in name:
            param.requires_grad = False
        else:
            num_param += param.numel()
    return num_param"""
MENDED = """\
    biases = {name for name, _ in model.named_parameters() if name.split(".")[-1] == "bias"}
    if not biases:
        raise ValueError(f"{type(model).__name__} has no biases: there is nothing to train")
    num_param = 0
    for name, param in model.named_parameters():
        if name not in biases:
            param.requires_grad = False
        else:
            num_param += param.numel()
    return num_param"""

EXERCISES = [
    Exercise(
        id="bitfit.forward",
        lesson="03_bitfit",
        title="The shift",
        target=f"{LAYER}.forward",
        task="""\
Return base_output + δb.

- `base_output` is (..., out); δb is `self.delta()`, (out,).
- `along(self.axis, δb, base_output)` gives δb the shape in which it is added: a convolution's
  output is (batch, channels, height, width), and its bias belongs to axis 1.
- The model may run in bfloat16 while δb is float32: add in float32, and round the sum once, to the
  dtype of `base_output`. Do not change `base_output` in place.
""",
        hints=(
            "Which dtype has the sum of bfloat16 and float32, and which should come out?",
            "base_output + δb, (..., out) + (out,), in float32, then to base_output's dtype.",
            "`shift = along(self.axis, self.delta(), base_output)`, then "
            "`return (... + shift).to(...)`.",
        ),
        check=checks.forward,
    ),
    Exercise(
        id="bitfit.delta",
        lesson="03_bitfit",
        title="A third of a bias",
        target=f"{LAYER}.delta",
        task="""\
The small variant trains the queries' biases only. Where one layer computes Q, K and V together,
these are some rows of its bias: `self.rows`, int64, and `self.delta_bias` holds one number for each
of them, (n,).

Return δb in the shape of the bias, `self.shape`: `delta_bias` in its rows, and zero in the others.
Where `self.rows` is None, `delta_bias` is whole already.
""",
        hints=(
            "You need a tensor of zeros that a gradient can flow through, and a way to put n "
            "numbers into it.",
            "δb[rows[i]] = delta_bias[i], else 0: zeros (out,), filled at `rows` (n,).",
            "`zeros = self.delta_bias.new_zeros(self.shape)`, then "
            "`return zeros.index_copy(0, ..., ...)`.",
        ),
        check=checks.delta,
    ),
    Exercise(
        id="bitfit.fold",
        lesson="03_bitfit",
        title="Fold the shift into b",
        target=f"{LAYER}.fold",
        task="""\
Return the pair (W', b') of the one layer that does what the frozen layer and δb do.

`weight` is W (out, in), `bias` is b (out,) or None; without a bias, δb becomes it. δb is
`self.delta()`. Return new tensors where something changes: the wrapper keeps the old ones.
""",
        hints=(
            "W x + b + δb: which of the two, W and b, has to change?",
            "W' = W and b' = b + δb, (out,); with b = None, b' = δb.",
            "`return weight, self.delta() if bias is None else ...`.",
        ),
        check=checks.fold,
    ),
    Exercise(
        id="bitfit.count",
        lesson="03_bitfit",
        title="How many biases",
        task="""\
A decoder of width d has, in each block, four matrices with biases (d to 3d, d to d, d to 4d, 4d to
d) and two norms; after the last block comes one norm more, and in Bloom there is one after the
embedding too (`embedding_norm=True`). Every norm has a bias of d. How many numbers does BitFit
train? Return an `int`.
""",
        hints=(
            "How wide is the bias of a layer from `in` to `out`?",
            "A block has 3d + d + 4d + d in its matrices and 2d in its norms: 11d. Then the norms "
            "outside of the blocks.",
            "`return layers * 11 * d + ...`.",
        ),
        check=checks.count,
        starter=COUNT.format(body=TURN),
        solution=COUNT.format(body=COUNT_BODY),
        answer="decoder_biases",
    ),
    Exercise(
        id="bitfit.filter",
        lesson="03_bitfit",
        title="Find the bug in the notes",
        task="""\
These are lines 28 to 35 of note 001, as a function. A parameter counts as a bias if its name
*contains* "bias". In T5 that trains two tables of `relative_attention_bias.weight`, which are added
to attention scores and are no bias of a layer; in Llama it trains nothing, and says nothing.

Mend it: a bias is a parameter whose own name, the last part of the dotted one, is `bias`. All else
is frozen. A model without any raises `ValueError`, and is left as it was.
""",
        hints=(
            "What is the last part of `encoder.relative_attention_bias.weight`, and of "
            "`h.0.ln_1.bias`?",
            'The last part is `name.split(".")[-1]`. When must you know that there is none?',
            'First `biases = {name for name, _ in ... if name.split(".")[-1] == "bias"}`, then '
            "`if not biases: raise ValueError(...)`, then the loop with `name not in biases`.",
        ),
        check=checks.filter_,
        starter=NOTES.format(body=BUG),
        solution=NOTES.format(body=MENDED),
        answer="train_biases",
    ),
    Exercise(
        id="bitfit.dead",
        lesson="03_bitfit",
        title="Predict which biases cannot matter",
        task="""\
A query q gives the tokens t the shares softmax over t of q · k_t / √d_h, for keys k₁, ..., k_T of
one head of width d_h. A bias of the projection adds one vector to *all* queries, or to all keys,
or to all values. One of the three changes no output whatever it is. Which: `"q"`, `"k"` or `"v"`?
""",
        hints=(
            "What does softmax do when the same number is added to all its entries?",
            "q · (k_t + δ) = q · k_t + q · δ, and (q + δ) · k_t = q · k_t + δ · k_t. In which of "
            "them is the second term the same for every t?",
            'The softmax runs over the keys t, and q · δ does not depend on t: `answer = "..."`.',
        ),
        check=checks.dead,
        starter='answer = None  # YOUR TURN: "q", "k" or "v"',
        solution='answer = "k"',
        answer="answer",
    ),
]
