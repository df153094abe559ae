"""The exercises of lesson 12, QLoRA: a step by hand, LoftQ, counts, bytes, a merge in four bits."""

from __future__ import annotations

from ..exercise import Exercise
from . import _qlora as checks

TURN = '    # YOUR TURN\n    raise NotImplementedError("your turn")'

BACKWARD = '''\
from minipeft.layers.quant import dequantize


def backward(dy, x, q, lora_A, lora_B, s):
    """dy (n, out), x (n, in), q: W (out, in) packed -> dx (n, in), dA (r, in), dB (out, r)."""
{body}
'''
BACKWARD_BODY = """\
    ax, dax = x @ lora_A.T, s * dy @ lora_B  # (n, r), (n, r)
    dx = dy @ dequantize(q) + dax @ lora_A  # (n, in)
    return dx, dax.T @ x, s * dy.T @ ax"""

COUNTER = '''\
from minipeft import QuantizedLinear


def count(model):
    """How many numbers the model has, packed weights counted as the weights they stand for."""
{body}
'''
BUG = """\
    # YOUR TURN: delete the raise, and mend what follows it.
    raise NotImplementedError("your turn")
    return sum(p.numel() for p in model.parameters())"""
MENDED = """\
    total = sum(p.numel() for p in model.parameters())
    for module in model.modules():
        if isinstance(module, QuantizedLinear):  # its codes are buffers, two weights in a byte
            total += module.in_features * module.out_features
    return total"""

REPACK = '''\
from minipeft.layers.quant import dequantize, quantize


def lost(q, lora_A, lora_B, s):
    """W (out, in) packed as `q`, A (r, in), B (out, r) -> a float, 0 if nothing is lost."""
{body}
'''
REPACK_BODY = """\
    change = s * lora_B @ lora_A  # (out, in)
    merged = dequantize(q) + change
    again = quantize(merged, q.quant_type, q.blocksize)
    return float((dequantize(again) - merged).norm() / change.norm())"""

NAMES = """\
names = [
    "wte",
    "wpe",
    "h.0.ln_1",
    "h.0.attn.c_attn",
    "h.0.attn.c_proj",
    "h.0.ln_2",
    "h.0.mlp.c_fc",
    "h.0.mlp.c_proj",
    "ln_f",
    "lm_head",
]
"""
SEVEN = "(6_476_005_376 * (4 + 8 / 64 + 32 / (256 * 64)) / 8 + 2 * 262_410_240) / 1e9"

EXERCISES = [
    Exercise(
        id="qlora.backward",
        lesson="12_qlora",
        title="A step by hand",
        task="""\
A QLoRA layer computes y = x dq(Q)ᵀ + s · x Aᵀ Bᵀ. Given dy = ∂L/∂y and what was kept (x, the packed
W as `q`, A, B), return dx, dA and dB, in this order. W is frozen and gets none.
""",
        hints=(
            "By which two ways does x reach y, and what stands beside x on each?",
            "dx = dy dq(Q) + s dy B A, (n, in). dA = s (dy B)ᵀ x, (r, in). dB = s dyᵀ (x Aᵀ).",
            "`dax = s * dy @ lora_B`; `dx = dy @ dequantize(q) + dax @ lora_A`; dA is `dax.T @ x`, "
            "dB is `s * dy.T @ (...)`.",
        ),
        check=checks.backward,
        starter=BACKWARD.format(body=TURN),
        solution=BACKWARD.format(body=BACKWARD_BODY),
        answer="backward",
    ),
    Exercise(
        id="qlora.loftq",
        lesson="12_qlora",
        title="LoftQ",
        target="minipeft.methods.loftq:loftq",
        task="""\
Return Q, A and B with dq(Q) + s · B A near W. Begin with s · B A = 0, and repeat `iterations`
times: quantize W - s · B A (`quantize(..., QUANT_TYPE[bits])`), then take the best product of rank
r for what is lost, W - dq(Q), from its singular value decomposition. A is (r, in), B is (out, r).
""",
        hints=(
            "With U Σ Vᵀ the decomposition of W - dq(Q): which terms make the best s · B A?",
            "s · B A = U_r Σ_r V_rᵀ: B = U_r √(Σ_r / s), A = √(Σ_r / s) V_rᵀ.",
            "`u, sigma, vt = torch.linalg.svd(w - dequantize(q), full_matrices=False)`; "
            "`root = (sigma[:r] / scaling).sqrt()`; `lora_B = u[:, :r] * root`.",
        ),
        check=checks.loftq,
    ),
    Exercise(
        id="qlora.counter",
        lesson="12_qlora",
        title="Find the bug: the counter that misses packed weights",
        task="""\
The note counts a model by p.numel() (002:L131-145). For a model with `QuantizedLinear` layers that
is far too small. Mend it, so that the count is the same before and after quantization.
""",
        hints=(
            "What of a `QuantizedLinear` is a parameter, and what is a buffer?",
            "Its W stands for in_features · out_features numbers, and `parameters()` shows none.",
            "Add `module.in_features * module.out_features` for each module that "
            "`isinstance(module, QuantizedLinear)`.",
        ),
        check=checks.counter,
        starter=COUNTER.format(body=BUG),
        solution=COUNTER.format(body=MENDED),
        answer="count",
    ),
    Exercise(
        id="qlora.predict_7b",
        lesson="12_qlora",
        title="Predict what Llama-2-7B holds",
        task="""\
The linear layers of Llama-2-7B's blocks have 6,476,005,376 weights; embeddings, norms and the head
have 262,410,240. How many gigabytes (10⁹ bytes) do they take in QLoRA: NF4 in blocks of 64 with
double quantization, and 16 bits for what is not quantized? Two decimals are enough.
""",
        hints=(
            "How many bits has a quantized weight with its share of the scales, and the others?",
            "linear · (4 + 8/64 + 32/(256 · 64)) / 8 + 2 · others, over 10⁹.",
            "`answer = (6_476_005_376 * 4.127 / 8 + 2 * ...) / 1e9`",
        ),
        check=checks.predict_7b,
        starter="answer = None  # YOUR TURN: a number in GB, or an expression",
        solution=f"answer = {SEVEN}",
        answer="answer",
    ),
    Exercise(
        id="qlora.skip",
        lesson="12_qlora",
        title="Choose what is quantized",
        task="""\
These are the modules of a GPT-2 with one block. Which does `quantize_model` replace? Answer with a
list of names, after thinking of why the others stay.
""",
        hints=(
            "Which of them multiply by a matrix, and what comes after each?",
            "Conv1D is a linear layer. The output layer stays: it is tied to wte, and what it "
            "rounds goes into every logit.",
            "The four matrices of the block: two in `attn`, two in `mlp`.",
        ),
        check=checks.skip,
        starter=NAMES + "answer = None  # YOUR TURN: a list of names",
        solution=NAMES
        + 'answer = [name for name in names if name.startswith(("h.0.attn", "h.0.mlp"))]',
        answer="answer",
    ),
    Exercise(
        id="qlora.repack",
        lesson="12_qlora",
        title="What is lost by packing a merge again",
        task="""\
A layer holds W packed as `q` and a trained LoRA. Merged, its weight is dq(Q) + s · B A; to stay in
four bits it must be quantized again (as `q` was: `q.quant_type`, `q.blocksize`). Return the length
of the rounding that this adds, over the length of the change s · B A: the number that
`merge_adapter(requantize=True)` warns with. A length is ‖·‖, the root of the sum of squares.
""",
        hints=(
            "Which matrix should the layer hold after the merge, and which one does it hold?",
            "M = dq(Q) + s · B A, and ‖dq(quantize(M)) - M‖ / ‖s · B A‖.",
            "`again = quantize(merged, q.quant_type, q.blocksize)`, then the `.norm()` of "
            "`dequantize(again) - merged` over that of the change, as a `float`.",
        ),
        check=checks.repack,
        starter=REPACK.format(body=TURN),
        solution=REPACK.format(body=REPACK_BODY),
        answer="lost",
    ),
]
