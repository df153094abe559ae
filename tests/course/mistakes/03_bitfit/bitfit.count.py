"""Answers to bitfit.count: 11 d in a block, and the norms outside."""

from torch import nn

from minipeft.course.corpus import right, wrong


@wrong("the norms are missing: two in each block, and one")
def matrices_only(d, layers, embedding_norm=False):
    return layers * 9 * d


@wrong("2d a block are missing")
def queries_only(d, layers, embedding_norm=False):
    return layers * (1 + 1 + 4 + 1 + 2) * d + d


@wrong("the norm after the last block is missing")
def no_final_norm(d, layers, embedding_norm=False):
    return layers * 11 * d


@wrong("GPT-2 has no norm after its embedding")
def norm_always(d, layers, embedding_norm=False):
    return layers * 11 * d + 2 * d


@wrong("the norms' scales are counted too")
def with_scales(d, layers, embedding_norm=False):
    return layers * 13 * d + 2 * d


@wrong("one of the two norms of each block is missing")
def one_norm(d, layers, embedding_norm=False):
    return layers * 10 * d + d


@wrong("these are all parameters of the blocks")
def all_of_them(d, layers, embedding_norm=False):
    return layers * (12 * d**2 + 13 * d) + 2 * d


@wrong("that is one block")
def one_block(d, layers, embedding_norm=False):
    return 11 * d + d


@wrong("one norm more")
def embedding_forgotten(d, layers, embedding_norm=False):
    return layers * 11 * d + d


@wrong("is there once, not in every block")
def in_every_block(d, layers, embedding_norm=False):
    return layers * (11 + embedding_norm) * d + d


@wrong("a count is an int")
def a_float(d, layers, embedding_norm=False):
    return layers * 11.0 * d + d + d * embedding_norm


@right
def short(d, layers, embedding_norm=False):
    return (11 * layers + 1 + embedding_norm) * d


@right
def from_modules(d, layers, embedding_norm=False):
    linear = [nn.Linear(1, n * d, device="meta") for n in (3, 1, 4, 1)]
    norms = [nn.LayerNorm(d, device="meta") for _ in range(2)]
    block = sum(layer.bias.numel() for layer in [*linear, *norms])
    return layers * block + (2 if embedding_norm else 1) * d
