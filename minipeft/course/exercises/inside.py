"""The exercises of lesson 02: layers as matrices, counts, fused projections, names."""

from __future__ import annotations

from ..exercise import Exercise
from . import _inside as checks

TURN = '    # YOUR TURN\n    raise NotImplementedError("your turn")\n'

WIDTHS = '''\
from transformers.pytorch_utils import Conv1D


def widths(base_layer):
    """(in, out) of an nn.Linear or a Conv1D; the notes' two lines, 003:L109-110."""
{body}    return in_features, out_features
'''
WIDTHS_NOTES = """\
    # YOUR TURN: delete the raise, and mend what follows it.
    raise NotImplementedError("your turn")
    in_features = base_layer.in_features
    out_features = base_layer.out_features
"""
WIDTHS_MENDED = """\
    if isinstance(base_layer, Conv1D):
        in_features, out_features = base_layer.weight.shape
    else:
        out_features, in_features = base_layer.weight.shape
"""

QKV = '''\
def split_qkv(fused, heads, model):
    """Queries, keys and values, each (batch, heads, time, width); model is "gpt2" or "bloom"."""
{body}'''
QKV_BODY = """\
    batch, time, _ = fused.shape
    if model == "gpt2":  # [Q | K | V], the heads inside each third
        parts = fused.reshape(batch, time, 3, heads, -1).permute(2, 0, 3, 1, 4)
    else:  # q, k, v of head 0, then of head 1, ...
        parts = fused.reshape(batch, time, heads, 3, -1).permute(3, 0, 2, 1, 4)
    q, k, v = parts
    return q, k, v
"""

EXERCISES = [
    Exercise(
        id="inside.conv1d",
        lesson="02_inside",
        title="A Conv1D as one matrix W (out, in)",
        target="minipeft.layers.bases:Conv1D.matrix",
        task="""\
Return W (out, in) of GPT-2's `Conv1D`, which computes y = x · weight + b with `self.layer.weight`
stored as (in, out). Return a view, not a copy: writing into it must write into the layer, since
that is how a LoRA is merged.
""",
        hints=(
            "nn.Linear computes x Wᵀ + b, Conv1D computes x · weight + b. So what is weight?",
            "weight = Wᵀ, (in, out); W = weightᵀ, (out, in). `.T` shares the memory.",
            "`return self.layer.weight.T`",
        ),
        check=checks.conv1d,
    ),
    Exercise(
        id="inside.widths",
        lesson="02_inside",
        title="Find the bug in the notes",
        task="""\
The notes' `LoRALinear` (003:L109-110) asks its base layer for `in_features` and `out_features`.
GPT-2's layers are `Conv1D`, which has neither, so the class fails on the very model of note 002.

Mend the function: it returns (in, out) for an `nn.Linear` and for a `Conv1D`.
""",
        hints=(
            "Both classes have a weight of two dimensions. What does its shape mean in each?",
            "nn.Linear: weight (out, in). Conv1D: weight (in, out).",
            "`if isinstance(base_layer, Conv1D): in_features, out_features = "
            "base_layer.weight.shape`, and else the other way round.",
        ),
        check=checks.widths,
        starter=WIDTHS.format(body=WIDTHS_NOTES),
        solution=WIDTHS.format(body=WIDTHS_MENDED),
        answer="widths",
    ),
    Exercise(
        id="inside.parameters",
        lesson="02_inside",
        title="Count with a tied head",
        target="minipeft.lab.counting:parameters",
        task="""\
Return the number of parameters of `model`, frozen ones too. A tensor that two modules share (a
tied head) counts once; buffers are no parameters.
""",
        hints=(
            "Which of `state_dict()`, `parameters()` and a walk over `modules()` meets a shared "
            "tensor twice?",
            "`model.parameters()` yields each tensor once; `p.numel()` is its size.",
            "`return sum(p.numel() for p in ...)`",
        ),
        check=checks.parameters,
    ),
    Exercise(
        id="inside.predict_gpt2",
        lesson="02_inside",
        title="Predict the size of GPT-2",
        task="""\
GPT-2 small has width 768, 12 blocks, 50,257 tokens and 1,024 learned positions; its head is tied,
and there is a norm behind the last block. How many parameters does it have? (002:L50 says 110M.)
""",
        hints=(
            "What are the four parts of the sum, and which of them is there 12 times?",
            "V·d + P·d + L·(12d² + 13d) + 2d.",
            "`answer = (50257 + 1024) * 768 + 12 * (12 * 768**2 + 13 * 768) + ...`",
        ),
        check=checks.predict_gpt2,
        starter="answer = None  # YOUR TURN: a number, or an expression",
        solution="answer = (50257 + 1024) * 768 + 12 * (12 * 768**2 + 13 * 768) + 2 * 768",
        answer="answer",
    ),
    Exercise(
        id="inside.qkv",
        lesson="02_inside",
        title="Split a fused projection",
        task="""\
`fused` is the output of `c_attn` or `query_key_value`, (batch, time, 3 · heads · width). Return
the triple (q, k, v), each (batch, heads, time, width).

- `model == "gpt2"`: the last dimension is [Q | K | V], and each third is head 0, head 1, ...
- `model == "bloom"`: it is q, k, v of head 0, then q, k, v of head 1, ...
""",
        hints=(
            "The last dimension is three nested loops. In which order do they run in each model?",
            "gpt2: (batch, time, 3, heads, width). bloom: (batch, time, heads, 3, width). Then the "
            "3 to the front, and heads before time.",
            "`fused.reshape(batch, time, 3, heads, -1).permute(2, 0, 3, 1, 4)` for gpt2; for bloom "
            "reshape to `(batch, time, heads, 3, -1)` and permute accordingly.",
        ),
        check=checks.qkv,
        starter=QKV.format(body=TURN),
        solution=QKV.format(body=QKV_BODY),
        answer="split_qkv",
    ),
    Exercise(
        id="inside.matches",
        lesson="02_inside",
        title="Which modules a name means",
        target="minipeft.methods.config:matches",
        task="""\
Does `target_modules=target` mean the module with the dotted name `name`? Return True or False.

- `target` is a string: a regular expression that must match the whole name.
- `target` is a list: some entry is the whole name, or the name ends in "." and the entry.
""",
        hints=(
            'Why does the entry "proj" not mean "h.0.attn.c_proj"?',
            'string: re.fullmatch(target, name). list: name == entry, or name ends in "." + entry.',
            "`if isinstance(target, str): return re.fullmatch(...) is not None`, else `any(...)`.",
        ),
        check=checks.matches,
    ),
]
