"""The exercises of lesson 00: small ones, to meet check, hint and reveal."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..exercise import Exercise
from ..expect import Wrong, expect, expect_number


def scaling(answer: Any) -> str:
    """α/r and α/√r, worked by hand."""
    plain = [
        (32.0, "that is α; it is divided by r"),
        (0.25, "that is r/α, upside down"),
        (256.0, "that is α · r; α is divided by r"),
        (32 / 8**0.5, "that is α/√r, which use_rslora=True asks for"),
    ]
    expect_number(answer(32, 8), 4.0, "the scale for α = 32, r = 8", plain)
    whole = [(0, "for α = 1, r = 4 the scale is 0: `//` drops the fraction, `/` keeps it")]
    expect_number(answer(1, 4), 0.25, "the scale for α = 1, r = 4", whole)
    stable = [
        (2.0, "use_rslora=True changes nothing: it asks for α/√r"),
        (32 / 16**2, "that is α/r²; asked for is α/√r"),
        (2**0.5, "with use_rslora=True that is √(α/r); the root is of r alone, α/√r"),
    ]
    got = answer(32, 16, use_rslora=True)
    expect_number(got, 8.0, "the scale for α = 32, r = 16, use_rslora=True", stable, rel=1e-6)
    return "α/r for (32, 8) and (1, 4), α/√r for (32, 16)"


def freeze(answer: Any) -> str:
    """Only the parameters with the word in their name require a gradient, whatever was before."""
    layers = {"query": nn.Linear(2, 2), "value": nn.Linear(2, 2)}
    layers["query"].weight.requires_grad_(False)
    model = nn.ModuleDict({"block": nn.ModuleDict(layers)})  # names: block.query.weight, ...
    answer(model, "query")
    on = {name for name, p in model.named_parameters() if p.requires_grad}
    every = {name for name, _ in model.named_parameters()}
    mine = {name for name in every if "query" in name}
    if on == every - mine:
        raise Wrong("the other way round: the parameters named 'query' are frozen, the rest train")
    expect(
        on,
        "no parameter requires a gradient any more; those with 'query' in their name should, "
        "such as 'block.query.weight'",
    )
    expect(on != every, "every parameter requires a gradient; only those named 'query' should")
    lost = sorted(mine - on)
    expect(not lost, f"{lost} was frozen before the call and still is: set True as well as False")
    extra = sorted(on - mine)
    expect(not extra, f"{extra} still requires a gradient; only names with 'query' should")
    with torch.no_grad():
        same = all(torch.isfinite(p).all() for p in model.parameters())
    expect(same, "the values of the parameters must stay as they are")
    return "names with 'query' require a gradient, all others do not, whatever was set before"


def predict(answer: Any) -> str:
    """8 · (128 + 384), worked by hand."""
    known = [
        (128 * 384, "that is the frozen matrix, in · out"),
        (8 * 128, "that is A alone; B is trained too"),
        (8 * 384, "that is B alone; A is trained too"),
        (8 * 128 * 384, "the sizes of A and B add; they do not multiply"),
        (512, "r is missing"),
        (5 * 4096, "that is all five blocks; asked for is the LoRA of one layer"),
    ]
    expect_number(answer, 4096, "the prediction", known)
    return "8 · (128 + 384) = 4,096"


EXERCISES = [
    Exercise(
        id="start.scaling",
        lesson="00_start",
        title="A first function",
        target="minipeft.methods.lora:scaling",
        task="""\
LoRA multiplies its update s · B A x by a number s, the scale. Return s = α / r, or, if
`use_rslora` is true, s = α / √r. (α is `lora_alpha`; lesson 08 says why there are two.)
""",
        hints=(
            "What should happen to the scale when r doubles and α stays?",
            "s = α / r; with use_rslora, s = α / √r. `math` is imported.",
            "`return lora_alpha / math.sqrt(r) if use_rslora else ...`",
        ),
        check=scaling,
    ),
    Exercise(
        id="start.freeze",
        lesson="00_start",
        title="Freeze all but a few",
        task="""\
In PyTorch a parameter is trained if its `requires_grad` is true. Make exactly those parameters
of `model` trainable whose name contains `word`, and freeze all others, whatever was set before.
`model.named_parameters()` gives pairs of a name, such as `"block.query.weight"`, and a parameter.
""",
        starter='''\
def train_only(model, word):
    """Train the parameters whose name contains `word`, and no others."""
    # YOUR TURN
    raise NotImplementedError("your turn")
''',
        solution='''\
def train_only(model, word):
    """Train the parameters whose name contains `word`, and no others."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad = word in name
''',
        answer="train_only",
        hints=(
            "`requires_grad` is an attribute of each parameter. Which two values must you set?",
            "for each (name, parameter): requires_grad = (word is in name)",
            "`for name, parameter in model.named_parameters(): parameter.requires_grad = ...`",
        ),
        check=freeze,
    ),
    Exercise(
        id="start.predict",
        lesson="00_start",
        title="Predict before you run",
        task="""\
In each of its five blocks, `tiny-gpt2` has a layer that makes 384 numbers of 128. A LoRA of rank 8
beside one such layer has a matrix A of shape (8, 128) and a matrix B of shape (384, 8). How many
numbers does this one LoRA train? Give a number, or an expression such as `2 * 3`.
""",
        starter="answer = None  # YOUR TURN: a number, or an expression\n",
        solution="answer = 8 * 128 + 384 * 8\n",
        answer="answer",
        hints=(
            "How many entries has a matrix of shape (8, 128)?",
            "r · in + out · r, with r = 8, in = 128, out = 384",
            "`answer = 8 * 128 + ...`",
        ),
        check=predict,
    ),
]
