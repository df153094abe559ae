"""Answers to prompt.count: v · d, for each of the model's stacks."""

import torch

from minipeft.course.corpus import right, wrong


def sizes(model, config):
    """v, d and the number of stacks."""
    known = config.of_model(model)
    return config.tokens, known["token_dim"], known["num_transformer_submodules"]


@wrong("a prompt in every layer")
@classmethod
def every_layer(cls, model, config):
    v, d, stacks = sizes(model, config)
    return v * d * stacks * config.of_model(model)["num_layers"]


@wrong("keys and values of every layer")
@classmethod
def keys_and_values(cls, model, config):
    v, d, stacks = sizes(model, config)
    return 2 * v * d * stacks * config.of_model(model)["num_layers"]


@wrong("the number of tokens is missing")
@classmethod
def one_token(cls, model, config):
    return sizes(model, config)[1]


@wrong("v + d: P is a matrix")
@classmethod
def a_sum(cls, model, config):
    return sum(sizes(model, config)[:2])


@wrong("num_transformer_submodules is 2")
@classmethod
def one_stack(cls, model, config):
    v, d, _ = sizes(model, config)
    return v * d


@wrong("a count is an int")
@classmethod
def a_float(cls, model, config):
    v, d, stacks = sizes(model, config)
    return float(v * d * stacks)


@wrong("the count for GPT-2 and v = 10 is 15,360, 2 times as much")
@classmethod
def twice(cls, model, config):
    v, d, stacks = sizes(model, config)
    return 2 * v * d * stacks


@right
@classmethod
def product(cls, model, config):
    v, d, stacks = sizes(model, config)
    return v * d * stacks


@right
@classmethod
def counted(cls, model, config):
    v, d, stacks = sizes(model, config)
    return sum(torch.empty(v, d, device="meta").numel() for _ in range(stacks))
