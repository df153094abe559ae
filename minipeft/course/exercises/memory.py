"""The exercises of lesson 01: what training holds in memory, and what freezing saves."""

from __future__ import annotations

from ..exercise import Exercise
from . import _memory as checks

HELD = '''\
def held(model, optimizer):
    """Bytes of the parameters, of their gradients, and of the optimizer's moments."""
{body}
'''
HELD_BODY = """\
    params = list(model.parameters())
    return {
        "parameters": sum(p.nbytes for p in params),
        "gradients": sum(p.grad.nbytes for p in params if p.grad is not None),
        "moments": sum(
            state[key].nbytes
            for state in optimizer.state.values()
            for key in ("exp_avg", "exp_avg_sq")
        ),
    }"""
TURN = '    # YOUR TURN\n    raise NotImplementedError("your turn")'

FITS = '''\
def most_trained(budget, total, bytes_per_frozen=2):
    """The largest whole number of trained parameters that fits into `budget` bytes."""
{body}
'''
FITS_BODY = """\
    left = budget - bytes_per_frozen * total  # with all of them frozen
    if left < 0:
        return 0
    return min(total, int(left // (16 - bytes_per_frozen)))"""

TABLE = '''\
def memory_table(n, lora=0):
    """Gigabytes for a model of n parameters, and `lora` parameters beside it."""
{turn}    return {{
        "Full FT": {full} / 1e9,
        "LoRA": {with_lora} / 1e9,
        "QLoRA": {qlora} / 1e9,
    }}
'''
DELETE = """\
    # YOUR TURN: delete the raise, and mend what follows it.
    raise NotImplementedError("your turn")
"""

EXERCISES = [
    Exercise(
        id="memory.bytes",
        lesson="01_why_peft",
        title="Bytes, part by part",
        target="minipeft.lab.counting:training_bytes",
        task="""\
Return the bytes that training holds as a dictionary, `{part: bytes}`: first `"frozen weights"`,
then the parts of `BYTES[convention]` for the trained parameters, in their order.

`BYTES` is the table shown in the lesson, `{convention: {part: bytes per trained parameter}}`. You
may leave out the errors for wrong arguments.
""",
        hints=(
            "Which of the five parts exist for a parameter that never changes?",
            "frozen weights: bytes_per_frozen · frozen. Each part of the convention: its bytes · "
            "trained.",
            "`parts = {part: size * trained for part, size in BYTES[convention].items()}`, and "
            '`{"frozen weights": ..., **parts}`.',
        ),
        check=checks.training,
    ),
    Exercise(
        id="memory.held",
        lesson="01_why_peft",
        title="Weigh a real training step",
        task="""\
After `loss.backward()` and `optimizer.step()`, weigh what is in memory. Return a dictionary with
the bytes of

- `"parameters"`: all parameters of the model, frozen ones too;
- `"gradients"`: of those that have one (`p.grad` is None for a frozen one);
- `"moments"`: Adam's `exp_avg` and `exp_avg_sq`, in `optimizer.state`, which maps each trained
  parameter to a dictionary.

Parameters may be of different dtypes.
""",
        hints=(
            "How many bytes does a tensor of n numbers take? It depends on something else, too.",
            "t.nbytes = t.numel() · t.element_size(): 4 each for float32, 2 for bfloat16. "
            '`optimizer.state[p]` holds "step", "exp_avg" and "exp_avg_sq".',
            "`sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)`, and for the "
            "moments a sum over `optimizer.state.values()` and the two keys.",
        ),
        check=checks.held,
        starter=HELD.format(body=TURN),
        solution=HELD.format(body=HELD_BODY),
        answer="held",
    ),
    Exercise(
        id="memory.fits",
        lesson="01_why_peft",
        title="What fits",
        task="""\
You have `budget` bytes and a model with `total` parameters. T of them may be trained, at 16 bytes
each; the others are frozen, at `bytes_per_frozen`. Return the largest T that fits (an `int`, at
most `total`), and 0 where not even the frozen model fits. Activations are left out.
""",
        hints=(
            "How many bytes more does a parameter take if it is trained and not frozen?",
            "16 T + b (total − T) ≤ budget, so T ≤ (budget − b · total) / (16 − b).",
            "`int((budget - b * total) // (16 - b))`, kept between 0 and total.",
        ),
        check=checks.fits,
        starter=FITS.format(body=TURN),
        solution=FITS.format(body=FITS_BODY),
        answer="most_trained",
    ),
    Exercise(
        id="memory.notes_table",
        lesson="01_why_peft",
        title="Find the bug in the notes",
        task="""\
This function gives the first two columns of the table at 003:L223-227 (28, 14 for 7B) and, for
the third, the bare 4-bit weights. Its columns mix conventions: full fine-tuning has weights and
gradients but no optimizer, LoRA has the frozen weights and nothing of what is trained.

Mend it so that every column follows the lesson's convention: 16 bytes for a trained parameter, 2
for a frozen one, 4.127 / 8 for a frozen one in 4 bits. `lora` is the number of parameters that
LoRA adds and trains.
""",
        hints=(
            "What does each column hold besides the weights of the model?",
            "Full: 16 n. LoRA: 2 n frozen and 16 · lora trained. QLoRA: the same with 4.127 / 8.",
            "`16 * n`, `2 * n + 16 * lora`, and the last with `4.127 / 8 * n`.",
        ),
        check=checks.notes_table,
        starter=TABLE.format(turn=DELETE, full="4 * n", with_lora="2 * n", qlora="0.5 * n"),
        solution=TABLE.format(
            turn="",
            full="16 * n",
            with_lora="(2 * n + 16 * lora)",
            qlora="(4.127 / 8 * n + 16 * lora)",
        ),
        answer="memory_table",
    ),
    Exercise(
        id="memory.predict_65b",
        lesson="01_why_peft",
        title="Predict the least memory of LoRA on 65B",
        task="""\
LLaMA-65B has 65,285,660,672 parameters. A LoRA of r = 16 beside q, k, v and o of its 80 layers has
83,886,080. How many gigabytes (10⁹ bytes) do frozen 16-bit weights and the trained LoRA take
together, without activations? One decimal is enough. (The note prints "~80GB" at 003:L217.)
""",
        hints=(
            "Which of the two numbers of parameters do you multiply by 2, and which by 16?",
            "2 · frozen + 16 · trained, over 10⁹.",
            "`answer = (2 * 65_285_660_672 + 16 * 83_886_080) / 1e9`",
        ),
        check=checks.predict_65b,
        starter="answer = None  # YOUR TURN: a number in GB, or an expression",
        solution="answer = (2 * 65_285_660_672 + 16 * 83_886_080) / 1e9",
        answer="answer",
    ),
    Exercise(
        id="memory.predict_speed",
        lesson="01_why_peft",
        title="Predict the largest saving of time",
        task="""\
The forward pass multiplies an input by W. The backward pass makes two products of the same size:
the gradient of the input, and the gradient of W. Freeze W. By what factor does the number of
multiply-adds of forward and backward shrink, at most? (The note says 3 to 5 times, 003:L32.)
""",
        hints=(
            "Which of the three products is no longer needed? Why must the other gradient stay?",
            "before / after = 3 products / 2 products.",
            "`answer = 3 / 2`",
        ),
        check=checks.predict_speed,
        starter="answer = None  # YOUR TURN: the factor",
        solution="answer = 3 / 2",
        answer="answer",
    ),
]
