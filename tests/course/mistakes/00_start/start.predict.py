"""Answers to start.predict: 8 · (128 + 384)."""

from minipeft.course.corpus import right, wrong

frozen = wrong("that is the frozen matrix")(128 * 384)
a_alone = wrong("that is A alone")(1024)
b_alone = wrong("that is B alone")(3072)
product = wrong("they do not multiply")(8 * 128 * 384)
no_rank = wrong("r is missing")(512)
every_block = wrong("that is all five blocks")(20_480)
a_word = wrong("should be a number")("4096 numbers")

whole = right(4096)
as_float = right(4096.0)
