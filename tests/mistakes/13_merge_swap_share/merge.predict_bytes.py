"""Answers to merge.predict_bytes: 32 · 2 · 8 · 8192 numbers of 2 bytes."""

from minipeft.course.corpus import right, wrong

float32 = wrong("4 bytes each is float32")(16_777_216)
numbers = wrong("that is how many numbers")(4_194_304)
factor_a = wrong("A only, or B only")(32 * 2 * 8 * 4096 * 2 / 1.0)
one_matrix = wrong("one matrix in each layer")(32 * 8 * 8192 * 2 + 0)
one_layer = wrong("that is one layer")(2 * 8 * 8192 * 2)
rank_16 = wrong("q, k, v and o in float32")(33_554_432)
nothing_like_it = wrong("times as much as asked")(1_000_000)

product = right(32 * 2 * 8 * (4096 + 4096) * 2)
from_the_note = right(16_777_216 * 4 / 8)
