"""The `minipeft` command; `python -m minipeft.cli` is the same.

main      the command itself, with `count` and `demo`
train     minipeft train
adapters  inspect, merge, convert, generate
models    the models and devices that are given by name

What the commands do stands in finetune/, course/ and lab/; here are their arguments and tables.
"""
