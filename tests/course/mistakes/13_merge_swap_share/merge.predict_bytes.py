"""Answers to merge.predict_bytes: 80 · 8 · 25,600 numbers of 2 bytes."""

from minipeft.course.corpus import right, wrong

float32 = wrong("the file holds bfloat16")(65_536_000)
numbers = wrong("that is how many numbers")(16_384_000)
without_groups = wrong("v_proj has 1,024 outputs")(80 * 2 * 8 * 16384 * 2)
query_only = wrong("q_proj only, or A only")(20_971_520)
value_only = wrong("v_proj only, or B only")(80 * 8 * 9216 * 2)
one_layer = wrong("that is one layer")(409_600)
rank_1 = wrong("the rank is missing")(80 * 25600 * 2)
nothing_like_it = wrong("times as much as asked")(1_000_000)

product = right(80 * 8 * (8192 + 8192 + 8192 + 1024) * 2)
in_megabytes = right(32.768 * 1e6)
