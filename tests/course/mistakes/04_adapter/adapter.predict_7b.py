"""Answers to adapter.predict_7b: the smallest m with 64 · (8193 m + 4096) ≥ 1 % of Llama-2-7B."""

import math

from minipeft.course.corpus import right, wrong

rounded_down = wrong("just below 1 %")(128)
not_rounded = wrong("m is a whole number: round up")(0.01 * 6_738_415_616 / 64 / 8193 - 4096 / 8193)
the_notes = wrong("with m = 64 it is 0.502 %")(64)
one_site = wrong("one adapter in each block")(257)
one_adapter = wrong("one adapter alone; there are 64")(8225)
one_matrix = wrong("an adapter has two matrices")(256)
of_the_sum = wrong("1 % of model and adapters together")(130)
three_percent = wrong("that is for 3 %")(386)
a_word = wrong("should be a number, but it is str '129'")("129")

number = right(129)
as_float = right(129.0)
by_trying = right(next(m for m in range(1, 999) if 64 * (8193 * m + 4096) >= 0.01 * 6_738_415_616))
worked_out = right(math.ceil((0.01 * 6_738_415_616 / 64 - 4096) / 8193))
