"""Answers to inside_peft.predict_counts: one adapter is trained, both are in memory."""

from minipeft.course.corpus import right, wrong

GPT2, FIRST, SECOND = 124_439_808, 294_912, 405_504

both_trained = wrong("both adapters are counted")((FIRST + SECOND, GPT2 + FIRST + SECOND))
the_first = wrong("it is no longer active")((FIRST, GPT2 + FIRST + SECOND))
one_c_proj = wrong("also means mlp.c_proj")((12 * 4 * (3072 + 1536), GPT2))
the_other_c_proj = wrong("also means attn.c_proj")((12 * 4 * (3072 + 3840), GPT2))
c_attn_only = wrong("two c_proj of each block are missing")((FIRST // 2, GPT2))
rank_8 = wrong("'second' has r = 4")((2 * SECOND, GPT2))
first_forgotten = wrong("still in memory")((SECOND, GPT2 + SECOND))
base_forgotten = wrong("own 124,439,808 are missing")((SECOND, FIRST + SECOND))
one_number = wrong("asked for is the pair")(SECOND)

pair = right((SECOND, GPT2 + FIRST + SECOND))
as_list = right([12 * 4 * 8448, 125_140_224])
