"""Answers to ia3.without_q: ℓ_q moves into ℓ_k."""

import torch

from minipeft.course.corpus import right, wrong


def parts(scale):
    """Q's, K's and V's thirds, (d, 1) each."""
    return scale.chunk(3)


@wrong("ℓ_q is lost")
def dropped(scale):
    q, k, v = parts(scale)
    return torch.cat([torch.ones_like(q), k, v])


@wrong("scales multiply")
def added(scale):
    q, k, v = parts(scale)
    return torch.cat([torch.ones_like(q), q + k, v])


@wrong("the product of the two must stay")
def divided(scale):
    q, k, v = parts(scale)
    return torch.cat([torch.ones_like(q), k / q, v])


@wrong("it counts twice in the scores")
def kept_too(scale):
    q, k, v = parts(scale)
    return torch.cat([q, q * k, v])


@wrong("Q is switched off by zeros")
def zero(scale):
    q, k, v = parts(scale)
    return torch.cat([torch.zeros_like(q), q * k, v])


@wrong("ℓ_q was moved into V too")
def into_values(scale):
    q, k, v = parts(scale)
    return torch.cat([torch.ones_like(q), q * k, q * v])


@wrong("`scale` was changed in place")
def in_place(scale):
    d = len(scale) // 3
    scale[d : 2 * d] *= scale[:d]
    scale[:d] = 1.0
    return scale


@wrong("ℓ_k is lost")
def keys_lost(scale):
    q, _, v = parts(scale)
    return torch.cat([torch.ones_like(q), q, v])


@wrong("ℓ comes back as it was")
def unchanged(scale):
    return scale.clone()


@wrong("the scores")
def two_features(scale):
    q, k, v = parts(scale)
    product = torch.cat([q[:2] * k[:2], k[2:]])
    return torch.cat([torch.ones_like(q), product, v])


@wrong("ℓ' has shape (4, 1)")
def two_thirds(scale):
    q, k, v = parts(scale)
    return torch.cat([q * k, v])


@right
def copied(scale):
    d, new = len(scale) // 3, scale.clone()
    new[d : 2 * d] = scale[:d] * scale[d : 2 * d]
    new[:d] = 1.0
    return new


@right
def by_rows(scale):
    q, k, v = scale.view(3, -1)
    return torch.stack([q / q, k * q, v]).view(-1, 1)
