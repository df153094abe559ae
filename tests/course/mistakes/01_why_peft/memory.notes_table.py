"""Answers to memory.notes_table."""

from minipeft.course.corpus import right, wrong
from minipeft.lab.counting import training_bytes


def table(full, lora, qlora):
    return {"Full FT": full / 1e9, "LoRA": lora / 1e9, "QLoRA": qlora / 1e9}


@wrong("weights and gradients, no optimizer")
def as_written(n, lora=0):
    return table(4 * n, 2 * n, 0.5 * n)


@wrong("the master copy of the weights is missing")
def twelve(n, lora=0):
    return table(12 * n, 2 * n + 12 * lora, 4.127 / 8 * n + 12 * lora)


@wrong("LoRA is still the frozen weights alone")
def frozen_only(n, lora=0):
    return table(16 * n, 2 * n, 4.127 / 8 * n)


@wrong("LoRA's own parameters are trained: 16 bytes each, not 2")
def two_for_lora(n, lora=0):
    return table(16 * n, 2 * (n + lora), 4.127 / 8 * n + 2 * lora)


@wrong("the scales of the blocks are missing")
def four_bits(n, lora=0):
    return table(16 * n, 2 * n + 16 * lora, 0.5 * n + 16 * lora)


@wrong("4.127 are bits")
def bits(n, lora=0):
    return table(16 * n, 2 * n + 16 * lora, 4.127 * n + 16 * lora)


@right
def one_convention(n, lora=0):
    return table(16 * n, 2 * n + 16 * lora, 4.127 / 8 * n + 16 * lora)


@right
def from_the_package(n, lora=0):
    each = [(0, n, 2), (n, lora, 2), (n, lora, 4.127 / 8)]
    totals = [sum(training_bytes(f, t, bytes_per_frozen=b).values()) for f, t, b in each]
    return table(*totals)
