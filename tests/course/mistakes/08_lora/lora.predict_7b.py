"""Answers to lora.predict_7b: 32 layers of q, k, v, o, 4096 to 4096, r = 16."""

from minipeft.course.corpus import right, wrong

the_notes = wrong("it is twice too large, as if r were 32")(33_554_432)
q_and_v = wrong("half of it: that is q and v only")(32 * 2 * 16 * 8192)
one_layer = wrong("that is one layer; there are 32")(4 * 16 * 8192)
one_matrix = wrong("that is one matrix")(16 * 8192)
frozen = wrong("that is the frozen matrices")(32 * 4 * 4096 * 4096)
without_rank = wrong("r is missing")(32 * 4 * 8192)
rounded = wrong("that is rounded")(16.8e6)
something_else = wrong("the prediction is 1,000")(1000)
a_word = wrong("should be a number, but it is str '16.8M'")("16.8M")

product = right(32 * 4 * 16 * (4096 + 4096))
as_float = right(1.6777216e7)
power = right(2**24)
