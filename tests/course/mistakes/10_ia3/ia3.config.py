"""Answers to ia3.config: both lists name the feed-forward's layer, by the same string."""

from minipeft.course.corpus import right, wrong

QKV, DOWN = "query_key_value", "mlp.dense_4h_to_h"


def config(target, feedforward):
    return {"target_modules": target, "feedforward_modules": feedforward}


as_written = wrong("is not among target_modules")(config([QKV], [DOWN]))
another_string = wrong("peft compares the strings")(config([QKV, "dense_4h_to_h"], [DOWN]))
no_feedforward = wrong("is not scaled at all")(config([QKV], []))
on_the_output = wrong("dense_4h_to_h is scaled on its output")(config([QKV, DOWN], []))
qkv_lost = wrong("query_key_value is not scaled any more")(config([DOWN], [DOWN]))
both_inputs = wrong("query_key_value is scaled on its input")(config([QKV, DOWN], [QKV, DOWN]))
too_wide = wrong("['self_attention.dense'] would be scaled too")(
    config([QKV, DOWN, "dense"], [DOWN])
)
a_string = wrong("should be a list of names")(config([QKV, DOWN], DOWN))
a_list = wrong("give a dictionary")([QKV, DOWN])

another_key = wrong("the keys are")({"target_modules": [QKV, DOWN], "feedforward": [DOWN]})
joined = right(config([QKV, DOWN], [DOWN]))
short = right(config(["dense_4h_to_h", QKV], ["dense_4h_to_h"]))
full = right(config({f"self_attention.{QKV}", DOWN}, {DOWN}))
