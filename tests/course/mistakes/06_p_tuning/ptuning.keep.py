"""Answers to ptuning.keep: the prompt without the network that computed it."""

import copy

import torch
from torch import nn

from minipeft import PromptEncoder, PromptTuning
from minipeft.course.corpus import right, wrong


@wrong("that is the encoder itself")
def itself(encoder):
    return encoder


@wrong("asked for is a PromptTuning")
def tokens_only(encoder):
    return encoder.virtual_tokens().detach()


@wrong("this is PromptEncoder")
def a_copy(encoder):
    return copy.deepcopy(encoder)


@wrong("that is E, which the network has not seen")
def the_embedding(encoder):
    kept = PromptTuning(5, 8)
    kept.soft_prompt.data = encoder.embedding.weight.detach().clone()
    return kept


@wrong("P is off in")
def a_new_one(encoder):
    return PromptTuning(5, 8)


@wrong("it has 48 parameters")
def too_many(encoder):
    kept = PromptTuning(6, 8)
    kept.num_virtual_tokens = 5
    kept.soft_prompt.data[:5] = encoder.virtual_tokens().detach()
    return kept


@wrong("soft_prompt must be trainable on its own")
def frozen(encoder):
    kept = PromptTuning(5, 8)
    kept.soft_prompt.data = encoder.virtual_tokens().detach().clone()
    kept.soft_prompt.requires_grad_(False)
    return kept


@wrong("AttributeError: 'PromptEncoder' object has no attribute 'soft_prompt'")
def as_if_stored(encoder):
    kept = PromptTuning(5, 8)
    kept.soft_prompt.data = encoder.soft_prompt
    return kept


@right
def by_data(encoder):
    p = encoder.virtual_tokens().detach()
    kept = PromptTuning(p.shape[0], p.shape[1])
    kept.soft_prompt = nn.Parameter(p.clone())
    return kept


@right
def as_a_table(encoder):
    """P as the rows of an embedding, each copied once."""
    p = encoder.virtual_tokens().detach()
    kept = PromptTuning(*p.shape)
    kept.copy_rows(nn.Embedding.from_pretrained(p), torch.arange(len(p)))
    return kept


@right
def through_take(encoder):
    assert isinstance(encoder, PromptEncoder)
    v, d = encoder.virtual_tokens().shape
    kept = PromptTuning(v, d)
    kept.take(encoder.virtual_tokens())
    return kept
