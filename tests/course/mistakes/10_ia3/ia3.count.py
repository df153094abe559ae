"""Answers to ia3.count: layers · (2 · width of the keys + inner)."""

from torch import nn

from minipeft.course.corpus import right, wrong


@wrong("peft's reading, which scales Q too")
def with_queries(layers, d, inner, heads, kv_heads):
    return layers * (d + 2 * (d // heads * kv_heads) + inner)


@wrong("K or V is missing")
def keys_only(layers, d, inner, heads, kv_heads):
    return layers * (d // heads * kv_heads + inner)


@wrong("which is `inner` wide")
def output_of_down(layers, d, inner, heads, kv_heads):
    return layers * (2 * (d // heads * kv_heads) + d)


@wrong("the feed-forward is missing")
def attention_only(layers, d, inner, heads, kv_heads):
    return layers * 2 * (d // heads * kv_heads)


@wrong("that is one layer")
def one_layer(layers, d, inner, heads, kv_heads):
    return 2 * (d // heads * kv_heads) + inner


@wrong("8 of 64 heads have keys")
def no_groups(layers, d, inner, heads, kv_heads):
    return layers * (2 * d + inner)


@wrong("is a number of heads")
def heads_for_width(layers, d, inner, heads, kv_heads):
    return layers * (2 * (d if heads == kv_heads else kv_heads) + inner)


@wrong("that is the frozen matrices")
def matrices(layers, d, inner, heads, kv_heads):
    return layers * (2 * d * (d // heads * kv_heads) + d * inner)


@wrong("the count of Llama-2-7B is")
def inner_is_4d(layers, d, inner, heads, kv_heads):
    return layers * (2 * (d // heads * kv_heads) + 4 * d)


@wrong("a count is an int")
def a_float(layers, d, inner, heads, kv_heads):
    return layers * (2 * d / heads * kv_heads + inner)


@right
def head_by_head(layers, d, inner, heads, kv_heads):
    return layers * inner + layers * 2 * kv_heads * (d // heads)


@right
def from_modules(layers, d, inner, heads, kv_heads):
    k_proj = nn.Linear(d, d * kv_heads // heads, device="meta")
    down_proj = nn.Linear(inner, d, device="meta")
    return layers * (2 * k_proj.out_features + down_proj.in_features)
