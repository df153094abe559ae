"""The exercises of lesson 09, LoRA's family: scale, DoRA, embedding, convolution, names, counts."""

from __future__ import annotations

from ..exercise import Exercise
from ..lift import lift
from . import _dora as dora
from . import _family as checks
from . import _family_layers as layers

DORA = "minipeft.methods.dora:DoRALayer"
# `factor` calls `row_lengths`, which is decorated, and so is not lifted with the rest.
LENGTHS = "    row_lengths = package.DoRALayer.row_lengths"

NOTES = """\
from torch import nn


class NotesConvLoRA(nn.Module):
    \"\"\"Lecture note 004, lines 115 to 120, made into a class.\"\"\"

    def __init__(self, layer, rank=8, lora_alpha=16):
        super().__init__()
        self.layer = layer.requires_grad_(False)  # a frozen nn.Conv2d, without groups
        self.scaling = lora_alpha / rank
{body}
"""
BUGS = """\
        # YOUR TURN: delete the raise, and mend what follows it.
        raise NotImplementedError("your turn")
        self.lora_a = nn.Conv2d(layer.in_channels, rank, layer.kernel_size, layer.stride)
        self.lora_b = nn.Conv2d(rank, layer.out_channels, conv_size=(1, 1))

    def forward(self, x):
        self.layer(x) + self.lora_a()"""
MENDED = """\
        self.lora_a = nn.Conv2d(
            layer.in_channels,
            rank,
            layer.kernel_size,
            layer.stride,
            padding=layer.padding,
            dilation=layer.dilation,
            padding_mode=layer.padding_mode,
            bias=False,  # ΔW holds no bias
        )
        self.lora_b = nn.Conv2d(rank, layer.out_channels, kernel_size=(1, 1), bias=False)
        nn.init.zeros_(self.lora_b.weight)  # ΔW = 0 before training

    def forward(self, x):
        return self.layer(x) + self.scaling * self.lora_b(self.lora_a(x))"""

EXERCISES = [
    Exercise(
        id="family.scaling",
        lesson="09_lora_family",
        title="Two scales",
        target="minipeft.methods.lora:scaling",
        task="""\
Return the scale s of a LoRA with strength α = `lora_alpha` and rank `r`: α/r, and with
`use_rslora=True` that of rank-stabilised LoRA.
""",
        hints=(
            "At r = 4, is the rank-stabilised scale larger or smaller than the plain one?",
            "s = α/√r with use_rslora, s = α/r without; √r is `math.sqrt(r)`.",
            "`return lora_alpha / math.sqrt(r) if use_rslora else ...`",
        ),
        check=checks.scaling,
    ),
    Exercise(
        id="family.dora_forward",
        lesson="09_lora_family",
        title="DoRA's forward",
        target=f"{DORA}.forward",
        task="""\
`base_output` is y = W₀ x + b, (..., out). Return

    h = m ⊙ (V x) / ‖V‖ + b,   V = W₀ + s · B A,

(..., out), in the dtype of `base_output`. `self.factor()` is f = m / ‖V‖, (out,), and
`self.base.bias` is b, (out,), or None. `self.lora(x, z)` is LoRA's z + s · B A x; for other
dtypes than A's give it z in f's dtype. The layer is linear: you do not need `along`.
""",
        hints=(
            "V x is not at hand, y is. What is V x in terms of y, b and s · B A x?",
            "V x = (y - b) + s · B A x, and h = f ⊙ V x + b, all (..., out).",
            "`z = base_output.to(f.dtype)`, minus the bias if there is one; "
            "`vx = self.lora(x, z)`; `h = f * ...`, plus the bias; "
            "`return h.to(base_output.dtype)`.",
        ),
        check=dora.forward,
        starter=f"{lift(f'{DORA}.forward', blank=True)}\n{LENGTHS}",
        solution=f"{lift(f'{DORA}.forward', blank=False)}\n{LENGTHS}",
    ),
    Exercise(
        id="family.row_lengths",
        lesson="09_lora_family",
        title="The row lengths, without V",
        target=f"{DORA}.row_lengths",
        task="""\
Return ‖V‖, (out,): the length of each row of V = W₀ + s · B A. Do not form V, nor B A: both are
(out, in). Where B A cancels W₀, rounding can make a square slightly negative; no NaN may come of
it.

`self.base.matrix()` is W₀ (out, in), `self.lora_A` is A (r, in), `self.lora_B` is B (out, r),
`self.scaling` is s. Leave the `@torch.no_grad()` where it is. `fresh` is True when B A = 0 is
known; you need not make use of it.
""",
        hints=(
            "‖w + u‖² has three terms. For u = s · b A, which of them can be computed without u?",
            "‖Vᵢ‖² = ‖wᵢ‖² + 2 s · (W Aᵀ)ᵢ · Bᵢ + s² · (B A Aᵀ)ᵢ · Bᵢ, with W Aᵀ (out, r) and "
            "A Aᵀ (r, r); the dot is the sum over r.",
            "`cross = ((w @ a.T) * b).sum(1)`, `own = ((b @ (a @ a.T)) * b).sum(1)`, "
            "`squared = w.square().sum(1) + 2 * s * cross + ...`, `squared.clamp(min=0).sqrt()`.",
        ),
        check=dora.row_lengths,
    ),
    Exercise(
        id="family.embedding",
        lesson="09_lora_family",
        title="LoRA on an embedding",
        target="minipeft.methods.lora_options.embedding:LoRAEmbedding.forward",
        task="""\
`x` (...) holds token numbers, `base_output` (..., dim) their embeddings. Return
base_output + s · B A x, (..., dim), where x stands for its one-hot vector, in the dtype of
`base_output`.

`self.lora_A` is A (r, vocab), `self.lora_B` is B (dim, r), `self.scaling` is s. (The package's own
also looks after dropout, padding tokens and Gemma's scaled rows; you need not.)
""",
        hints=(
            "What is A times a one-hot vector, and what does it cost to compute it by a product?",
            "A x is column x of A: (...) -> (..., r); B A x is (..., dim).",
            "`ax = F.embedding(x, self.lora_A.T)`, then `F.linear(ax, self.lora_B)` times "
            "`self.scaling`, added to `base_output`.",
        ),
        check=layers.embedding,
    ),
    Exercise(
        id="family.conv",
        lesson="09_lora_family",
        title="LoRA on a convolution",
        target="minipeft.methods.lora_options.conv:LoRAConv.forward",
        task="""\
Return base_output + s · B * (A * x), for `x` (n, in, height, width) and `base_output`
(n, out, height', width'), in the dtype of `base_output`.

`self.lora_A` is A (r, in/g, k, k), `self.lora_B` is B (out, r, 1, 1), `self.scaling` is s, and
`self.base.layer` is the frozen `nn.Conv2d` with g = `groups`. A meets x as the layer's own kernel
does: `layer._conv_forward(x, kernel, None)` runs the layer with another kernel. With g groups every
group is read by the same A, and each row of B mixes the r numbers of its own group. x may be
bfloat16 while A and B are float32: multiply in A's dtype. (Images only: one dimension less is the
package's business.)
""",
        hints=(
            "Which properties of the layer decide what patch of x a kernel meets? With two groups, "
            "how many channels does A * x have?",
            "A repeated g times is (g · r, in/g, k, k): A * x is (n, g · r, height', width'). Then "
            "a convolution of size 1 with `groups=g`: (n, out, height', width').",
            "`a = self.lora_A.repeat(layer.groups, 1, 1, 1)`, "
            "`ax = layer._conv_forward(x, a, None)`, "
            "`F.conv2d(ax, self.lora_B, groups=layer.groups)` times s.",
        ),
        check=layers.conv,
    ),
    Exercise(
        id="family.notes_conv",
        lesson="09_lora_family",
        title="Find the bugs in the notes: the unfinished convolution",
        task="""\
This is the sketch of note 004, lines 115 to 120, made into a class. Mend it, so that

- it runs, and returns layer(x) + s · B * (A * x);
- before training the output is the layer's own;
- ΔW = s · B A, as one kernel, holds all of the update: folded into the layer it gives the same
  output, whatever stride, padding, padding mode and dilation the layer has.

Keep the names `lora_a` and `lora_b`, both `nn.Conv2d`.
""",
        hints=(
            "What does `nn.Conv2d` call the size of its kernel, what does it start with, and has "
            "it a bias? What does a function without `return` give?",
            "A: in -> r with the layer's kernel size, stride, padding, dilation, padding mode. "
            "B: r -> out, size 1, zero at the start. Neither has a bias. h = y + s · B * (A * x).",
            "`nn.Conv2d(..., padding=layer.padding, dilation=..., padding_mode=..., bias=False)`, "
            "`nn.init.zeros_(self.lora_b.weight)`, "
            "`return self.layer(x) + self.scaling * self.lora_b(self.lora_a(x))`.",
        ),
        check=layers.notes_conv,
        starter=NOTES.format(body=BUGS),
        solution=NOTES.format(body=MENDED),
        answer="NotesConvLoRA",
    ),
    Exercise(
        id="family.meant",
        lesson="09_lora_family",
        title="Which layers a pattern means",
        target="minipeft.methods.lora_options.patterns:meant",
        task="""\
Return whether the key of a `rank_pattern` means the layer called `name`: True if the key is the
whole dotted name, or its end from a dot on. The key is a regular expression.

`"c_attn"` means `h.0.attn.c_attn`, and not `h.0.attn.not_c_attn`; `r"h\\.0\\..*"` means
`transformer.h.0.mlp.c_proj`; `"c_fc|c_proj"` means what ends in one of the two.
""",
        hints=(
            "Where may the key begin in the name, and where must it end?",
            "The name is: nothing or (anything and a dot), then the key, then its end. A key with "
            "`|` in it needs parentheses around it.",
            r'`return re.match(rf"(.*\.)?(...)$", name) is not None`',
        ),
        check=checks.meant,
    ),
    Exercise(
        id="family.order_of",
        lesson="09_lora_family",
        title="Which layers run",
        target="minipeft.methods.lora_options.replication:order_of",
        task="""\
`ranges` is what `layer_replication` is given, a list of (start, end). Return the numbers of the
layers in the order in which they run, a list: `[(0, 4), (2, 5)]` gives `[0, 1, 2, 3, 2, 3, 4]`.
""",
        hints=(
            "Is the end part of the range? Does the second range forget what the first has run?",
            "For each (start, end) in order: start, start + 1, ..., end - 1.",
            "`return [layer for start, end in ranges for layer in range(...)]`",
        ),
        check=checks.order_of,
    ),
    Exercise(
        id="family.predict_dora",
        lesson="09_lora_family",
        title="Predict a count",
        task="""\
Llama-2-7B has 32 layers; in each, `gate_proj` and `up_proj` map 4096 to 11008, and `down_proj` maps
11008 to 4096. How many parameters does DoRA train with r = 16 on these three?
""",
        hints=(
            "What does DoRA train that LoRA does not, and how many numbers of it has a layer?",
            "r · (in + out) + out for each matrix: m has one number for each row of W (out, in).",
            "`answer = 32 * (3 * 16 * (4096 + 11008) + 11008 + 11008 + ...)`",
        ),
        check=checks.predict_dora,
        starter="answer = None  # YOUR TURN: a number, or an expression",
        solution="answer = 32 * (3 * 16 * (4096 + 11008) + 11008 + 11008 + 4096)",
        answer="answer",
    ),
]
