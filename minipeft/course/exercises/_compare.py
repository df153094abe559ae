"""What the exercises of lesson 14 test."""

from __future__ import annotations

import math
from typing import Any

from ..expect import describe, expect, expect_number

NAMES = (
    "full", "lora", "dora", "qlora", "loftq", "adapter", "ia3", "bitfit", "prefix_tuning",
    "p_tuning_v2", "p_tuning", "prompt_tuning",
)  # fmt: skip


def front(answer: Any) -> str:
    """Six points, drawn on paper: a and e are the front, b and c are beaten, d equals e."""
    points = {
        "wide": (100.0, 0.5),
        "middle": (50.0, 0.2),
        "worse": (50.0, 0.3),  # as many parameters as middle, a higher loss
        "twin": (50.0, 0.2),  # equal to middle in both: neither beats the other
        "small": (10.0, 0.9),
        "best": (80.0, 0.1),
    }
    got = answer(points)
    expect(got is not None, "the result is None: is there a `return`?")
    expect(isinstance(got, list), f"asked for is a list of names; this is {describe(got)}")
    strange = [name for name in got if name not in points]
    expect(not strange, f"the list holds {strange!r}; asked for are names of `points`")
    expect(
        "wide" not in got,
        "'wide' (100 parameters, loss 0.5) is in, and 'middle' (50, 0.2) is better in both: "
        "do you ask for less of both, and not for more?",
    )
    expect(
        "worse" not in got,
        "'worse' (50, 0.3) is in, and 'middle' (50, 0.2) has as many parameters and a lower loss: "
        "at least as good in both and better in one is enough to beat",
    )
    expect(
        {"middle", "twin"} <= set(got),
        "'middle' and 'twin' are both (50, 0.2), and neither is better than the other: both stay",
    )
    missing = sorted({"small", "best"} - set(got))
    expect(
        not missing,
        f"{missing} is missing: 'small' has the fewest parameters, 'best' the lowest loss; "
        "nothing is at least as good as either in both",
    )
    counts = [points[name][0] for name in got]
    expect(counts == sorted(counts), f"the fewest parameters come first; these are {counts}")
    expect(len(got) == len(set(got)), f"a name stands twice: {got}")
    return "six points worked out on paper: two that are beaten, two that are equal"


def _sweep() -> list[dict[str, Any]]:
    """Two methods, two tasks, three rates: validation prefers 2, one task alone 1, the test 3."""
    losses = {  # rate: (validation and test loss on a, then on b)
        1: ((0.1, 0.9), (0.9, 0.9)),
        2: ((0.3, 0.8), (0.3, 0.8)),
        3: ((0.5, 0.05), (0.5, 0.7)),
    }
    return [
        {"method": "lora", "task": task, "lr": lr, "validation": pair[0], "test": pair[1]}
        for lr, pairs in losses.items()
        for task, pair in zip("ab", pairs, strict=True)
    ]


def pick(answer: Any) -> str:
    """Sums of 1.0, 0.6 and 1.0, and then a rate that diverged."""
    got = answer(_sweep())
    expect(got is not None, "the result is None: is there a `return`?")
    expect(isinstance(got, dict), f"asked for is a dictionary; this is {describe(got)}")
    expect(set(got) == {"lora"}, f"the keys are the methods, here 'lora'; these are {sorted(got)}")
    known = [
        (3, "3 has the lowest test loss; the result is measured on the test rows, so the choice "
            "may not look at them: validation"),
        (1, "1 has the lowest validation loss of one task (0.1 on a), and 0.9 on b; the sums are "
            "1.0, 0.6 and 1.0"),
    ]  # fmt: skip
    expect_number(got["lora"], 2, "the rate of lora", known)
    # the diverged rate comes first, so that min() would keep it: NaN is smaller than nothing
    diverged = [
        {"method": "ia3", "task": task, "lr": lr, "validation": loss, "test": loss}
        for lr, pair in ((9, (math.nan, 0.1)), (4, (0.4, 0.4)), (5, (0.6, 0.6)))
        for task, loss in zip("ab", pair, strict=True)
    ]
    rate = answer(diverged + _sweep())
    two = isinstance(rate, dict) and set(rate) == {"ia3", "lora"}
    expect(two, f"with two methods in the rows the keys are ia3 and lora; this is {describe(rate)}")
    nan = [
        (9, "9 diverged on task a (NaN), and was chosen: every comparison with NaN is False, so "
            "`min` keeps what came first; count NaN as infinite"),
        (2, "the rows of the methods are mixed"),
    ]  # fmt: skip
    expect_number(rate["ia3"], 4, "the rate of ia3", nan)
    expect_number(rate["lora"], 2, "the rate of lora beside another method", known)
    return "validation and not test, the sum over the tasks, and a rate that diverged"


def overfits(answer: Any) -> str:
    """Five trainings: learned by heart, still learning, a steady gap, broken down, and noise."""
    cases = [
        (
            ([2.0, 0.5, 0.1], [2.0, 1.0, 1.6]),
            True,
            "training 2, 0.5, 0.1 and validation 2, 1, 1.6 is overfitting: the training rows are "
            "known by heart, and validation rises",
        ),
        (
            ([2.0, 1.5, 1.2], [2.0, 1.3, 1.0]),
            False,
            "training 2, 1.5, 1.2 and validation 2, 1.3, 1 (dropout makes the training loss the "
            "higher one) is no overfitting: validation is at its lowest. The note has the two the "
            "wrong way round",
        ),
        (
            ([2.0, 0.8, 0.4], [2.2, 1.3, 1.1]),
            False,
            "training 2, 0.8, 0.4 and validation 2.2, 1.3, 1.1: a gap is no overfitting while "
            "validation still falls; compare it with its own lowest",
        ),
        (
            ([2.0, 0.5, 3.0], [2.0, 0.9, 3.1]),
            False,
            "training 2, 0.5, 3 and validation 2, 0.9, 3.1 broke down: both rose. In overfitting "
            "the training loss ends at its lowest",
        ),
        (
            ([2.0, 0.5, 0.40], [2.0, 1.00, 1.03]),
            False,
            "validation 2, 1, 1.03 ends 3 % above its lowest; more than 5 % was asked for",
        ),
        (
            ([2.0, 0.50, 0.51], [2.0, 1.0, 1.6]),
            True,
            "training 2, 0.5, 0.51 ends within 5 % of its lowest, and validation rose: overfitting",
        ),
    ]
    for losses, want, message in cases:
        got = answer(*losses)
        expect(got is not None, "the result is None: is there a `return`?")
        expect(isinstance(got, bool), f"asked for is True or False; this is {describe(got)}")
        expect(got is want, message)
    return "six trainings: by heart, still learning, a steady gap, a breakdown, and the 5 %"


def customers(answer: Any) -> str:
    """13.48 + 39.98."""
    known = [
        (13_516.808192, "the base is shared: it is stored once, not a thousand times"),
        (13_476.831232, "that is a thousand full fine-tunes; here the base is shared"),
        (39.97696, "that is the adapters alone; the base has to be there once"),
        (13.516808192, "that is one customer; there are a thousand adapters"),
        (93.430751232, "the adapters are in 16 bits too: 2 bytes each, not 4"),
        (106.907582464, "that is 32 bits; everything is in 16: 2 bytes each"),
        (26.726895616, "those are billions of parameters; each takes 2 bytes"),
        (53_453_791_232, "those are bytes; a GB is 10⁹ of them"),
        (53_453.791232, "those are megabytes; a GB is 10⁹ bytes"),
        (49.78, "that is in units of 2³⁰ bytes; asked for is 10⁹"),
    ]
    rough = isinstance(answer, int | float) and abs(answer - 53.453791232) <= 0.06
    if not rough:
        for value, message in known:
            close = isinstance(answer, int | float) and abs(answer - value) < 5e-4 * value
            expect(not close, message)
        expect_number(answer, 53.453791232, "the prediction")
    return "2 bytes · (6,738,415,616 + 1000 · 19,988,480) = 53.45 GB, not 13,477"


# {situation: (what is right, {what is wrong: why}, why anything else is)}
SITUATIONS: dict[str, tuple[tuple[str, ...], dict[str, str], str]] = {
    "one card": (
        ("qlora", "loftq"),
        {"full": "16 bytes for each of 13 billion parameters are 208 GB"},
        "13 billion weights in 16 bits take 26 GB, more than the card has, whatever stands beside "
        "them; only 4 bits (about 8 GB) fit",
    ),
    "thousand users": (
        ("ia3",),
        {
            "full": "a whole model for each user is 27 GB in 32 bits, not 5 MB",
            "bitfit": "Llama-2-7B has no biases: BitFit has nothing to train",
            "prompt_tuning": "41 thousand numbers fit, but virtual tokens were tried, and did not "
            "learn the tasks",
        },
        "2,621,440 parameters or more are over 10 MB in 32 bits; what has fewer and works inside "
        "the blocks?",
    ),
    "sealed server": (
        ("prompt_tuning", "p_tuning"),
        {
            "prefix_tuning": "keys and values of every layer are inside the server; it takes only "
            "embeddings",
            "p_tuning_v2": "keys and values of every layer are inside the server; it takes only "
            "embeddings",
        },
        "it changes something inside the model; the server takes only embeddings",
    ),
    "phone": (
        ("lora", "dora"),
        {
            "adapter": "a nonlinearity stands between its two matrices: it cannot be merged, and "
            "stays as a step of its own",
            "bitfit": "the layers have no biases, and a merged shift would be one",
            "ia3": "it merges, but it was tried; what can change W by more than a factor for each "
            "row or column?",
            "qlora": "four bits are no plain linear layer: merged, the rounding stays in W",
            "loftq": "four bits are no plain linear layer: merged, the rounding stays in W",
            "full": "there is no memory for training all weights",
        },
        "virtual tokens are more positions in every forward pass",
    ),
    "last drop": (
        ("full",),
        {},
        "nothing is scarce here: neither memory, nor rows, nor files. Every other method restricts "
        "what can be learned, to spare what you have",
    ),
}


def choose(answer: Any) -> str:
    """Five situations; a wrong choice is told what it runs into."""
    expect(isinstance(answer, dict), f"give a dictionary; this is {describe(answer)}")
    asked, said = sorted(SITUATIONS), sorted(map(str, answer))
    expect(asked == said, f"the keys are {', '.join(asked)}; these are {', '.join(said)}")
    for situation, (fitting, reasons, otherwise) in SITUATIONS.items():
        name = answer[situation]
        known = isinstance(name, str) and name in NAMES
        expect(known, f"{situation}: {name!r} is no key of METHODS; they are {', '.join(NAMES)}")
        why = reasons.get(name, otherwise)
        expect(name in fitting, f"{situation}: {name} does not fit: {why}")
    return "five situations, each with what is scarce in it"
