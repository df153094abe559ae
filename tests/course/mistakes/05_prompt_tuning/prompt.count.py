"""Answers to prompt.count: v · d, for each of the model's stacks."""

import torch

from minipeft.course.corpus import right, wrong


def sizes(model, config):
    """v, d and the number of stacks."""
    known = config.of_model(model)
    return config.tokens, known["token_dim"], known["num_transformer_submodules"]


@wrong("a prompt in every layer")
def every_layer(model, config):
    v, d, stacks = sizes(model, config)
    return v * d * stacks * config.of_model(model)["num_layers"]


@wrong("keys and values of every layer")
def keys_and_values(model, config):
    v, d, stacks = sizes(model, config)
    return 2 * v * d * stacks * config.of_model(model)["num_layers"]


@wrong("the number of tokens is missing")
def one_token(model, config):
    return sizes(model, config)[1]


@wrong("v + d: P is a matrix")
def a_sum(model, config):
    return sum(sizes(model, config)[:2])


@wrong("num_transformer_submodules is 2")
def one_stack(model, config):
    v, d, _ = sizes(model, config)
    return v * d


@wrong("a count is an int")
def a_float(model, config):
    v, d, stacks = sizes(model, config)
    return float(v * d * stacks)


@wrong("the count for GPT-2 and v = 10 is 15,360, 2 times as much")
def twice(model, config):
    v, d, stacks = sizes(model, config)
    return 2 * v * d * stacks


@right
def product(model, config):
    v, d, stacks = sizes(model, config)
    return v * d * stacks


@right
def counted(model, config):
    v, d, stacks = sizes(model, config)
    return sum(torch.empty(v, d, device="meta").numel() for _ in range(stacks))
