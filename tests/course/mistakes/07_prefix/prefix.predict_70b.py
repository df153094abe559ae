"""Answers to prefix.predict_70b: 80 layers, 8 heads of keys, each 128 wide, v = 10."""

from minipeft.course.corpus import right, wrong

all_heads = wrong("only 8 of the 64 heads have keys")(2 * 80 * 10 * 8192)
keys_only = wrong("half of it: each layer has a key and a value")(80 * 10 * 1024)
both = wrong("half of it, and d = 8,192")(80 * 10 * 8192)
one_layer = wrong("that is one layer")(2 * 10 * 1024)
one_token = wrong("that is for v = 1")(2 * 80 * 1024)
prompt_tuning = wrong("prompt tuning's v · 8,192")(10 * 8192)
one_head = wrong("that is with d = 128, one head")(2 * 80 * 10 * 128)
something_else = wrong("the prediction is 1,000")(1000)

product = right(2 * 80 * 10 * 8 * 128)
as_float = right(1.6384e6)
