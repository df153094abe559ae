"""Answers to inside_peft.predict_layers: a string, a list, and all-linear."""

from minipeft.course.corpus import right, wrong

RIGHT = {"a": 24, "b": 0, "c": 3, "d": 1, "e": 12, "f": 48}

one_in_each = wrong("each block has two layers")({**RIGHT, "a": 12})
string_as_ending = wrong("a string must match the whole name")({**RIGHT, "b": 24})
block_1_alone = wrong("blocks 10 and 11 begin with h.1 as well")({**RIGHT, "c": 1})
without_dot = wrong("so 11.mlp.c_proj is not meant")({**RIGHT, "d": 2})
twice = wrong("is wrapped once")({**RIGHT, "e": 24})
with_the_head = wrong("lm_head, is left out")({**RIGHT, "f": 49})
linear_only = wrong("Conv1D layers are linear too; and lm_head")({**RIGHT, "f": 1})
incomplete = wrong("the keys a to f")({"a": 24, "b": 0})

as_counted = right(dict(RIGHT))
as_floats = right({name: float(n) for name, n in RIGHT.items()})
