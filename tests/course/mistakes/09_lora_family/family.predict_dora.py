"""Answers to family.predict_dora: gate, up and down of 32 layers, r = 16, with m."""

from minipeft.course.corpus import right, wrong

LORA = 3 * 16 * (4096 + 11008)

lora = wrong("that is LoRA: DoRA trains m as well")(32 * LORA)
inputs = wrong("not for each input")(32 * (LORA + 4096 + 4096 + 11008))
both = wrong("m has out numbers, not in + out")(32 * (LORA + 3 * (4096 + 11008)))
narrow = wrong("m has out numbers: 11008, 11008 and 4096")(32 * (LORA + 3 * 4096))
of_rank = wrong("m has out numbers, not r")(32 * (LORA + 3 * 16))
scalar = wrong("not one for the matrix")(32 * (LORA + 3))
one_layer = wrong("that is one layer; there are 32")(LORA + 2 * 11008 + 4096)
only_m = wrong("that is m alone")(32 * (2 * 11008 + 4096))
frozen = wrong("that is the frozen matrices")(32 * 3 * 4096 * 11008)
a_word = wrong("should be a number, but it is str '24M'")("24M")

product = right(32 * (LORA + 2 * 11008 + 4096))
by_matrix = right(32 * (2 * (16 * 15104 + 11008) + 16 * 15104 + 4096))
as_float = right(24_035_328.0)
