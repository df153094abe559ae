"""The exercises of lesson 13: merge and undo it, read a file, combine and serve many adapters."""

from __future__ import annotations

from ..exercise import Exercise
from . import _merge as checks
from . import _merge_code as code
from . import _merge_file as files
from . import _merge_many as many

LESSON = "13_merge_swap_share"
EXERCISES = [
    Exercise(
        id="merge.copy",
        lesson=LESSON,
        title='Find the bug: "keeps a copy"',
        task="""\
Note 000 says of merging and undoing that the original copy is kept, and applied again. This class
is written from that sentence. It runs; but after `merge` and `unmerge` the layer is still merged.

Mend it: after `unmerge` every bit of the weight is as before `merge`, in any dtype. `layer.weight`
stays the same parameter throughout, since an optimizer or a second name may hold it.
""",
        hints=(
            "After `self.original = self.layer.weight`, how many weights are there in memory?",
            "Two names of one tensor change together. Keep other memory with the same numbers; "
            "and W + ΔW - ΔW is not W, so subtracting is no way back.",
            "`self.original = self.layer.weight.clone()` before the sum; in `unmerge`, "
            "`self.layer.weight.copy_(...)` writes into the parameter that is there.",
        ),
        check=checks.copy,
        starter=code.COPY.format(merge=code.BUG, unmerge=code.APPLY),
        solution=code.COPY.format(merge=code.MENDED, unmerge=code.APPLY),
        answer="KeepsACopy",
    ),
    Exercise(
        id="merge.forward",
        lesson=LESSON,
        title="Beside the layer, unless merged",
        target="minipeft.tuner.slots:Wrapper.forward",
        task="""\
Run the frozen layer `self.base_layer` with the adapters that act here:

- `self.adapters[name]` has `before(x)`, for what the frozen layer gets, and `after(x, y)`, for what
  comes out of it; several act one after the other, in the order of `self.active`;
- only those in `self.active` act, none if `self.enabled` is False, and **none that is in
  `self.merged`**: it acts in the weights already;
- further arguments are the frozen layer's;
- if `self.rows` is not None, a batch for many users is under way: return
  `self.rows.through(self.adapters, self.base_layer, x, *args, **kwargs)`.
""",
        hints=(
            "Which names are left of `self.active` once the merged ones are taken away? And when "
            "`enabled` is False?",
            "x -> before, each in turn -> frozen layer -> y -> after, each in turn, with the x "
            "that the frozen layer got.",
            "`live = [self.adapters[n] for n in self.active if n not in self.merged]` (none if not "
            "enabled); a loop over `before`, `y = self.base_layer(x, ...)`, a loop over `after`.",
        ),
        check=checks.forward,
    ),
    Exercise(
        id="merge.lost",
        lesson=LESSON,
        title="What the rounding takes",
        task="""\
A weight W is stored in some dtype, perhaps bfloat16; ΔW is float32. Merging adds them in float32
and rounds the sum once, to W's dtype. Return the share of ΔW that is lost,
‖rounded sum - W - ΔW‖ / ‖ΔW‖, worked out in float32, as a Python float. Leave both arguments as
they are.
""",
        hints=(
            "What would the sum be without rounding? In which dtype can you see the difference?",
            "merged = fl(W + ΔW); lost = ‖merged - (W + ΔW)‖ / ‖ΔW‖, all of it in float32 but fl.",
            "`merged = (weight.float() + delta).to(weight.dtype)`, then "
            "`(merged.float() - ... - ...).norm() / delta.norm()`.",
        ),
        check=checks.lost,
        starter=code.LOST.format(body=code.TURN),
        solution=code.LOST.format(body=code.LOST_BODY),
        answer="lost",
    ),
    Exercise(
        id="merge.read",
        lesson=LESSON,
        title="Read a safetensors file by hand",
        task="""\
`raw` holds a whole file: 8 bytes with a length H (unsigned, little-endian), H bytes of JSON, and
the numbers. The JSON has for each tensor `"dtype"` (here always `"F32"`), `"shape"` and
`"data_offsets"`, which begin to count where the numbers begin; and it may have `"__metadata__"`,
which is no tensor. Return `{name: tensor}`, float32, in their shapes.
""",
        hints=(
            "How many bytes stand before the first number?",
            "Tensor: bytes 8 + H + begin to 8 + H + end; as float32; in its shape.",
            '`(length,) = struct.unpack("<Q", raw[:8])`, '
            "`header = json.loads(raw[8 : 8 + length])`, "
            "and `torch.frombuffer(bytearray(...), dtype=torch.float32).view(...)`.",
        ),
        check=files.read,
        starter=code.READ.format(body=code.TURN),
        solution=code.READ.format(body=code.READ_BODY),
        answer="read",
    ),
    Exercise(
        id="merge.predict_bytes",
        lesson=LESSON,
        title="Predict a file's size",
        task="""\
Llama-2-70B has 80 layers; in each, `q_proj` maps 8192 to 8192, and `v_proj` 8192 to 1024 (its
eight heads of values are shared). A LoRA of r = 8 on these two was trained in float32, and is
saved in bfloat16. How many bytes do its numbers take in the file (the header left out)?
""",
        hints=(
            "How many numbers are there, and how many bytes has each in the file?",
            "layers · r · Σ (in + out) numbers, over the two matrices, 2 bytes each.",
            "`answer = 80 * 8 * (8192 + 8192 + 8192 + ...) * ...`",
        ),
        check=files.predict_bytes,
        starter="answer = None  # YOUR TURN: a number, or an expression",
        solution="answer = 80 * 8 * (8192 + 8192 + 8192 + 1024) * 2",
        answer="answer",
    ),
    Exercise(
        id="merge.cat",
        lesson=LESSON,
        title="The exact sum of several adapters",
        target="minipeft.methods.lora_options.weighted:cat",
        task="""\
`parts` holds for each adapter A (rᵢ, in), B (out, rᵢ) and the number wᵢ·sᵢ, which may be negative.
Return the pair A (Σr, in), B (out, Σr) of one adapter with B A = Σ wᵢ sᵢ Bᵢ Aᵢ. The ranks may
differ.
""",
        hints=(
            "A row of A and a column of B belong together. How do the pairs of several adapters "
            "fit into one product?",
            "[B₁ B₂] · [w₁ A₁; w₂ A₂] = w₁ B₁ A₁ + w₂ B₂ A₂: blocks side by side times blocks one "
            "below the other.",
            "`torch.cat([w * a for a, _, w in parts])` for A, and `torch.cat([...], dim=1)` for B.",
        ),
        check=many.cat,
    ),
    Exercise(
        id="merge.svd",
        lesson=LESSON,
        title="The nearest of a given rank",
        target="minipeft.methods.lora_options.weighted:svd",
        task="""\
As before, but return A (rank, in) and B (out, rank) whose product is the *nearest* to the sum
Σ wᵢ sᵢ Bᵢ Aᵢ. `cat(parts)` is there: it gives factors of the sum. Where the sum has a lower rank
than `rank`, or there are fewer directions, the shapes stay as asked for, and the rest is zero.

(The package never forms the sum, (out, in), and takes QR decompositions first. That is faster; for
a right answer you may form it.)
""",
        hints=(
            "Which `rank` directions of a matrix hold most of its length?",
            "B A = U Σ Vᵀ; keep the first `rank`: B = U_k Σ_k (out, k), A = V_kᵀ (k, in).",
            "`a, b = cat(parts)`, `u, sigma, vt = torch.linalg.svd(b @ a, full_matrices=False)`; "
            "`u[:, :n] * sigma[:n]` and `vt[:n]` with `n = min(rank, len(sigma))`, padded.",
        ),
        check=many.svd,
    ),
    Exercise(
        id="merge.rows",
        lesson=LESSON,
        title="One batch for many users",
        target="minipeft.tuner.rows:Rows.through",
        task="""\
`self.of(x, adapters)` gives `{name: rows}`: for each adapter the numbers of its rows of x
(rows, ...), as a tensor of integers. Rows of "__base__" are in none.

Call `layer` **once**, for all rows, and return its output where each adapter has changed its rows:
`adapters[name].before(...)` on its rows before the layer, `adapters[name].after(x, y)` on its rows
of the layer's input and output after it. Change neither `x` nor the layer's output in place.
""",
        hints=(
            "Which rows may an adapter see, and how do its rows get back into their places?",
            "rows -> x[rows] -> before -> back into a copy of x; y = layer(x); then "
            "y[rows] <- after(x[rows], y[rows]).",
            "`x = x.index_copy(0, rows, method.before(x[rows]))` for each; `y = layer(x, ...)`; "
            "the same with `after`. `index_copy` without underscore gives a new tensor.",
        ),
        check=many.rows,
    ),
    Exercise(
        id="merge.choose",
        lesson=LESSON,
        title="cat, linear or svd?",
        task="""\
Two LoRAs of rank 4 are to become one, half of each. Choose the way and the rank:

- `"exact"`: `pair("apart")`, the new rank at most 8;
- `"small"`: `pair("apart")`, the new rank at most 4;
- `"alike"`: `pair("alike")`, the new rank at most 8.

What counts, in this order: the smallest error; then the smallest rank; then the least work, where
`cat` and `linear` take none and `svd` a decomposition per layer. Measure before you choose.
""",
        hints=(
            "What rank does the sum have in each case? `torch.linalg.svdvals(...)` tells.",
            "cat has the rank 4 + 4, linear has 4 and the cross terms, svd any rank, with the "
            "error √(σ²ₖ₊₁ + ...).",
            '`answer = {"exact": ("cat", 8), "small": (..., 4), "alike": (..., ...)}`',
        ),
        check=many.choose,
        starter=code.CHOOSE.format(turn='answer = None  # YOUR TURN: {"exact": ("cat", 8), ...}'),
        solution=code.CHOOSE.format(turn=code.CHOICE),
        answer="answer",
    ),
]
