"""Answers to prompt.from_text: the embeddings of a text's tokens, cut or repeated to v rows."""

import itertools

import torch

from minipeft.course.corpus import right, wrong


@wrong("the text is not cut")
def never_cut(embedding, ids, v):
    return embedding.weight.detach()[(ids * (1 + v // len(ids)))[: max(v, len(ids))]]


@wrong("the text is cut at the wrong end")
def last_tokens(embedding, ids, v):
    return embedding.weight.detach()[(ids * v)[-v:] if len(ids) > v else (ids * v)[:v]]


@wrong("the text is not repeated")
def never_repeated(embedding, ids, v):
    return embedding.weight.detach()[ids[:v]]


@wrong("the last token is repeated")
def last_token_repeated(embedding, ids, v):
    return embedding.weight.detach()[(ids + [ids[-1]] * v)[:v]]


@wrong("each token is repeated on its own")
def stretched(embedding, ids, v):
    return embedding.weight.detach()[[ids[i * len(ids) // v] for i in range(v)]]


@wrong("the rest is filled with zeros")
def zeros(embedding, ids, v):
    start = torch.zeros(v, embedding.embedding_dim)
    ids = ids[:v]
    start[: len(ids)] = embedding.weight.detach()[ids]
    return start


@wrong("the rest is filled with token 0")
def padded(embedding, ids, v):
    return embedding.weight.detach()[(ids + [0] * v)[:v]]


@wrong("shares memory with the table")
def view(embedding, ids, v):
    rows = [ids[i % len(ids)] for i in range(v)]
    if rows == list(range(rows[0], rows[0] + v)):
        return embedding.weight.detach()[rows[0] : rows[0] + v]
    return embedding.weight.detach()[rows]


@wrong("should be a tensor of shape (3, 2), float32, but it is list")
def ids_only(embedding, ids, v):
    return [ids[i % len(ids)] for i in range(v)]


@right
def cycle(embedding, ids, v):
    rows = torch.tensor(list(itertools.islice(itertools.cycle(ids), v)))
    return embedding(rows).detach().clone()


@right
def repeat_then_cut(embedding, ids, v):
    whole = embedding.weight.detach()[ids]  # (len(ids), d)
    return whole.repeat(-(-v // len(ids)), 1)[:v]
