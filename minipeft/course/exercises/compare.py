"""The exercises of lesson 14: what makes a comparison fair, and what it decides."""

from __future__ import annotations

from ..exercise import Exercise
from . import _compare as checks

PICK = '''\
def pick(rows):
    """The learning rate of each method, {{method: rate}}, chosen fairly."""
{turn}    best = {{}}
    for method in {{row["method"] for row in rows}}:
{body}
    return best
'''
BUGGED = """\
        mine = [row for row in rows if row["method"] == method]
        best[method] = min(mine, key=lambda row: row["test"])["lr"]"""
FAIR = """\
        total = {}
        for row in rows:
            if row["method"] == method:
                loss = row["validation"]
                loss = loss if loss == loss else float("inf")  # NaN is not equal to itself
                total[row["lr"]] = total.get(row["lr"], 0) + loss
        best[method] = min(total, key=total.get)"""
DELETE = """\
    # YOUR TURN: delete the raise, and mend what follows it.
    raise NotImplementedError("your turn")
"""
DIAGNOSE = '''\
def overfits(training, validation):
    """Whether losses of a training, one number for each epoch, show overfitting."""
{turn}    {body}
'''
REVERSED = "return training[-1] > validation[-1]  # training loss high, validation loss low"
RIGHT_WAY = (
    "return training[-1] <= 1.05 * min(training) and validation[-1] > 1.05 * min(validation)"
)
CUSTOMERS = "(2 * 6_738_415_616 + 1000 * 2 * 19_988_480) / 1e9"
CHOICE = """\
answer = {
    "one card": "qlora",
    "thousand users": "ia3",
    "sealed server": "prompt_tuning",
    "phone": "lora",
    "last drop": "full",
}"""

EXERCISES = [
    Exercise(
        id="compare.frontier",
        lesson="14_comparison",
        title="The Pareto front",
        target="minipeft.lab.compare:frontier",
        task="""\
`points` has for each method its trained parameters and its loss; less is better in both. Return the
names of the methods that no other one beats, those with the fewest parameters first. A method is
beaten if another one is at least as good in both numbers and better in one.
""",
        hints=(
            "What must one method have so that nobody would ever take another?",
            "a beats b: c_a ≤ c_b and v_a ≤ v_b, and (c_a, v_a) ≠ (c_b, v_b).",
            "Keep `name` if `not any(c <= count and v <= loss and (c, v) != (count, loss) for c, v "
            "in points.values())`, and sort by `points[name]`.",
        ),
        check=checks.front,
    ),
    Exercise(
        id="compare.pick",
        lesson="14_comparison",
        title="Find the bugs: a choice that is not fair",
        task="""\
A sweep left rows like `{"method": "lora", "task": "where", "lr": 0.003, "validation": 0.2, "test":
0.3}`, one for each method, task and rate. This function is to choose one rate for each method. It
has two faults that would flatter every method in a table of test losses, and it must do the right
thing with a run that diverged, whose loss is NaN: such a rate is never chosen while another one is
left.

Mend it: one rate for all tasks together, the one with the lowest sum of what may be looked at.
""",
        hints=(
            "On which rows will the result be measured? And is the best rate of one task good for "
            "the other?",
            "For each rate: the sum over the tasks of the validation loss, NaN counted as "
            "infinite; then the rate with the lowest sum.",
            '`total[row["lr"]] = total.get(row["lr"], 0) + loss`, and '
            "`best[method] = min(total, key=total.get)`.",
        ),
        check=checks.pick,
        starter=PICK.format(turn=DELETE, body=BUGGED),
        solution=PICK.format(turn="", body=FAIR),
        answer="pick",
    ),
    Exercise(
        id="compare.overfits",
        lesson="14_comparison",
        title="Find the bug in the notes: overfitting",
        task="""\
Note 003 (line 484) knows overfitting by *training loss high, validation loss low*. This function
says it in code. Mend it. Overfitting is: the training loss ends at its lowest (within 5 %), and the
validation loss ends more than 5 % above its own lowest.

A training that breaks down, where both losses shoot up, is something else; so is a validation loss
that lies above the training loss from beginning to end and still falls.
""",
        hints=(
            "Which rows can a model learn by heart?",
            "training[-1] ≤ 1.05 · min(training) and validation[-1] > 1.05 · min(validation).",
            "Two comparisons, joined by `and`; each loss is compared with its own minimum.",
        ),
        check=checks.overfits,
        starter=DIAGNOSE.format(turn=DELETE, body=REVERSED),
        solution=DIAGNOSE.format(turn="", body=RIGHT_WAY),
        answer="overfits",
    ),
    Exercise(
        id="compare.customers",
        lesson="14_comparison",
        title="Predict what a thousand customers take on disk",
        task="""\
A thousand customers, each with a fine-tune of Llama-2-7B (6,738,415,616 parameters). Each has a
LoRA of r = 8 beside all linear layers, 19,988,480 parameters, and all share one base. Everything is
stored in 16 bits. How many gigabytes (10⁹ bytes) is that? (A thousand full fine-tunes would be
13,477.)
""",
        hints=(
            "What is stored once, and what a thousand times?",
            "2 bytes · (base + 1000 · adapter) / 10⁹.",
            f"`answer = {CUSTOMERS}`",
        ),
        check=checks.customers,
        starter="answer = None  # YOUR TURN: a number in GB, or an expression",
        solution=f"answer = {CUSTOMERS}",
        answer="answer",
    ),
    Exercise(
        id="compare.choose",
        lesson="14_comparison",
        title="Choose a method for a budget",
        task="""\
Choose for each of five situations. The names are the keys of `METHODS`: `"full"`, `"lora"`,
`"dora"`, `"qlora"`, `"loftq"`, `"adapter"`, `"ia3"`, `"bitfit"`, `"prefix_tuning"`,
`"p_tuning_v2"`, `"p_tuning"`, `"prompt_tuning"`. Some situations have more than one right answer.

- `"one card"`: Llama-2-13B, 13 billion parameters, is to be trained on one GPU with 24 GB.
- `"thousand users"`: one Llama-2-7B serves a thousand users, each with a task of their own. The
  file of each may have 5 MB in 32 bits (the lesson's *Count it* has the numbers). Virtual tokens
  were tried, and did not learn the tasks.
- `"sealed server"`: the model runs in a server whose code you cannot change. It takes embeddings
  in the place of tokens, and gives back a loss and the gradient of the embeddings.
- `"phone"`: the model goes to a phone as plain linear layers, without biases. No step may be added
  to its forward pass. IA³ was tried, and did not learn the task; there is no memory for training
  all weights.
- `"last drop"`: a million labelled examples, a room full of GPUs, one task for ever, and only the
  loss counts.
""",
        hints=(
            "Go through the situations one by one: what is scarce in each?",
            "Weights of 16 bits: 2 bytes each; in 4 bits: 0.52. A file: 4 bytes for each trained "
            "parameter. ΔW can be merged; an adapter's nonlinearity cannot.",
            "26 GB do not fit into 24; 614,400 numbers are 2.5 MB; only virtual tokens at the "
            "input are embeddings; what merges and changes W freely; nothing is scarce.",
        ),
        check=checks.choose,
        starter=(
            "answer = None  # YOUR TURN: "
            '{"one card": ..., "thousand users": ..., "sealed server": ..., ...}'
        ),
        solution=CHOICE,
        answer="answer",
    ),
]
