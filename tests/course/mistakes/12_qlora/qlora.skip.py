"""Answers to qlora.skip: the four matrices of the block."""

from minipeft.course.corpus import right, wrong

FOUR = ["h.0.attn.c_attn", "h.0.attn.c_proj", "h.0.mlp.c_fc", "h.0.mlp.c_proj"]

head = wrong("lm_head is the output layer")([*FOUR, "lm_head"])
tables = wrong("tables of rows")([*FOUR, "wte"])
norms = wrong("a norm has two vectors")([*FOUR, "ln_f"])
attention = wrong("is missing: GPT-2's Conv1D")(FOUR[:2])
text = wrong("answer with a list")("h.0.attn.c_attn")

listed = right(FOUR)
as_set = right(set(FOUR))
