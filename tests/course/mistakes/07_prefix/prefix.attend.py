"""Answers to prefix.attend: one causal head with a prefix."""

import math

import torch
import torch.nn.functional as F

from minipeft.course.corpus import right, wrong


def head(q, keys, values, seen, scale=None):
    scores = q @ keys.T / (scale or math.sqrt(q.shape[-1]))
    return scores.masked_fill(~seen, -math.inf).softmax(-1) @ values


def ones(q, keys):
    return torch.ones(len(q), len(keys), dtype=torch.bool)


def alone(q, k, v):
    return head(q, k, v, ones(q, k).tril())


@wrong("the prefix is missing")
def ignored(q, k, v, prefix_k, prefix_v):
    return alone(q, k, v)


@wrong("the text is missing")
def only_prefix(q, k, v, prefix_k, prefix_v):
    return head(q, prefix_k, prefix_v, ones(q, prefix_k))


@wrong("the text sees what comes after it")
def not_causal(q, k, v, prefix_k, prefix_v):
    keys = torch.cat([prefix_k, k])
    return head(q, keys, torch.cat([prefix_v, v]), ones(q, keys))


@wrong("the mask is shifted by n")
def torchs_causal(q, k, v, prefix_k, prefix_v):
    keys, values = torch.cat([prefix_k, k]), torch.cat([prefix_v, v])
    return F.scaled_dot_product_attention(q, keys, values, is_causal=True)


@wrong("not divided by √d")
def no_scale(q, k, v, prefix_k, prefix_v):
    keys = torch.cat([prefix_k, k])
    return head(q, keys, torch.cat([prefix_v, v]), ones(q, keys).tril(len(prefix_k)), scale=1.0)


@wrong("divided by d; √d was asked")
def scale_d(q, k, v, prefix_k, prefix_v):
    keys = torch.cat([prefix_k, k])
    seen = ones(q, keys).tril(len(prefix_k))
    return head(q, keys, torch.cat([prefix_v, v]), seen, scale=q.shape[-1])


@wrong("a row's weights sum to 2")
def added(q, k, v, prefix_k, prefix_v):
    return alone(q, k, v) + head(q, prefix_k, prefix_v, ones(q, prefix_k))


@wrong("two softmaxes are averaged")
def averaged(q, k, v, prefix_k, prefix_v):
    return (alone(q, k, v) + head(q, prefix_k, prefix_v, ones(q, prefix_k))) / 2


@wrong("no gradient reaches the prefix")
def detached(q, k, v, prefix_k, prefix_v):
    keys = torch.cat([prefix_k, k]).detach()
    values = torch.cat([prefix_v, v]).detach()
    return head(q, keys, values, ones(q, keys).tril(len(prefix_k)))


@wrong("prefix_k receives no gradient")
def keys_detached(q, k, v, prefix_k, prefix_v):
    keys = torch.cat([prefix_k.data, k])
    return head(q, keys, torch.cat([prefix_v, v]), ones(q, keys).tril(len(prefix_k)))


@wrong("the output is None")
def no_return(q, k, v, prefix_k, prefix_v):
    alone(q, k, v)


@wrong("RuntimeError: mat1 and mat2 shapes cannot be multiplied")
def values_forgotten(q, k, v, prefix_k, prefix_v):
    keys = torch.cat([prefix_k, k])
    return head(q, keys, v, ones(q, keys).tril(len(prefix_k)))


@wrong("with n = 3, t = 4, d = 9")
def written_down(q, k, v, prefix_k, prefix_v):
    keys = torch.cat([prefix_k, k])
    return head(q, keys, torch.cat([prefix_v, v]), ones(q, keys).tril(2), scale=2.0)


@right
def torchs_mask(q, k, v, prefix_k, prefix_v):
    keys, values = torch.cat([prefix_k, k]), torch.cat([prefix_v, v])
    seen = ones(q, keys).tril(len(prefix_k))
    return F.scaled_dot_product_attention(q, keys, values, attn_mask=seen)


@right
def prefix_last(q, k, v, prefix_k, prefix_v):
    """The order of the columns does not matter, if the mask follows it."""
    seen = torch.cat([ones(q, k).tril(), ones(q, prefix_k)], dim=1)
    return head(q, torch.cat([k, prefix_k]), torch.cat([v, prefix_v]), seen)


@right
def by_the_gate(q, k, v, prefix_k, prefix_v):
    """(1 - λ) · text + λ · prefix."""
    root = math.sqrt(q.shape[-1])
    text = (q @ k.T / root).masked_fill(~ones(q, k).tril(), -math.inf)
    own = q @ prefix_k.T / root
    gate = torch.sigmoid(own.logsumexp(1) - text.logsumexp(1))[:, None]
    return (1 - gate) * (text.softmax(1) @ v) + gate * (own.softmax(1) @ prefix_v)


@right
def row_by_row(q, k, v, prefix_k, prefix_v):
    out = []
    for i, query in enumerate(q):
        keys = torch.cat([prefix_k, k[: i + 1]])
        weights = (keys @ query / math.sqrt(len(query))).softmax(0)
        out.append(weights @ torch.cat([prefix_v, v[: i + 1]]))
    return torch.stack(out)
