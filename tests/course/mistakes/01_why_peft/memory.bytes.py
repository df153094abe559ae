"""Answers to memory.bytes."""

from minipeft.course.corpus import right, wrong
from minipeft.lab.counting import BYTES


@wrong("a frozen parameter has no gradient, no master copy")
def sixteen_for_all(frozen, trained, *, convention="mixed", bytes_per_frozen=2):
    sizes = BYTES[convention]
    return {"frozen weights": 16 * frozen, **{p: s * trained for p, s in sizes.items()}}


@wrong("only trained have it")
def gradients_for_all(frozen, trained, *, convention="mixed", bytes_per_frozen=2):
    parts = {p: s * (frozen + trained) for p, s in BYTES[convention].items()}
    return {"frozen weights": bytes_per_frozen * frozen, **parts}


@wrong("is per parameter; there are 10")
def per_parameter(frozen, trained, *, convention="mixed", bytes_per_frozen=2):
    return {"frozen weights": bytes_per_frozen * frozen, **BYTES[convention]}


@wrong("the convention is ignored")
def always_mixed(frozen, trained, *, convention="mixed", bytes_per_frozen=2):
    parts = {p: s * trained for p, s in BYTES["mixed"].items()}
    return {"frozen weights": bytes_per_frozen * frozen, **parts}


@wrong("bytes_per_frozen is ignored")
def always_two(frozen, trained, *, convention="mixed", bytes_per_frozen=2):
    parts = {p: s * trained for p, s in BYTES[convention].items()}
    return {"frozen weights": 2 * frozen, **parts}


@wrong("asked for is a dictionary")
def total(frozen, trained, *, convention="mixed", bytes_per_frozen=2):
    return bytes_per_frozen * frozen + trained * sum(BYTES[convention].values())


@wrong("the order is frozen weights, weights")
def frozen_last(frozen, trained, *, convention="mixed", bytes_per_frozen=2):
    parts = {p: s * trained for p, s in BYTES[convention].items()}
    return {**parts, "frozen weights": bytes_per_frozen * frozen}


@right
def a_loop(frozen, trained, *, convention="mixed", bytes_per_frozen=2):
    out = {"frozen weights": frozen * bytes_per_frozen}
    for part in BYTES[convention]:
        out[part] = trained * BYTES[convention][part]
    return out


@right
def zipped(frozen, trained, convention="mixed", bytes_per_frozen=2):
    names = ["frozen weights", *BYTES[convention]]
    sizes = [bytes_per_frozen * frozen] + [trained * s for s in BYTES[convention].values()]
    return dict(zip(names, sizes, strict=True))
