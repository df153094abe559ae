"""Answers to merge.svd: the first singular directions of the sum."""

import torch

from minipeft.course.corpus import right, wrong


def total(parts):
    return sum(w * b @ a for a, b, w in parts)


def padded(a, b, rank):
    more = rank - len(a)
    a = torch.cat([a, torch.zeros(more, a.shape[1])])
    return a, torch.cat([b, torch.zeros(len(b), more)], dim=1)


def cut(matrix, rank, power_b=1.0, power_a=0.0):
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    n = min(rank, len(s))
    return padded(s[:n, None] ** power_a * vt[:n], u[:, :n] * s[:n] ** power_b, rank)


@wrong("it counts squared")
def squared(parts, rank):
    return cut(total(parts), rank, 1.0, 1.0)


@wrong("the singular values are missing")
def directions(parts, rank):
    return cut(total(parts), rank, 0.0, 0.0)


@wrong("√σ is in one factor only")
def half(parts, rank):
    return cut(total(parts), rank, 0.5, 0.0)


@wrong("the weights are missing")
def unweighted(parts, rank):
    return cut(sum(b @ a for a, b, _ in parts), rank)


@wrong("keep the first")
def smallest(parts, rank):
    u, s, vt = torch.linalg.svd(total(parts), full_matrices=False)
    return vt[-rank:], u[:, -rank:] * s[-rank:]


@wrong("the first adapter's")
def first_rows(parts, rank):
    a = torch.cat([w * a for a, _, w in parts])
    return a[:rank], torch.cat([b for _, b, _ in parts], dim=1)[:, :rank]


@wrong("asked for is (3, 3)")
def not_padded(parts, rank):
    u, s, vt = torch.linalg.svd(total(parts), full_matrices=False)
    return vt[:rank], u[:, :rank] * s[:rank]


@wrong("asked for is (3, 10)")
def whole(parts, rank):
    a = torch.cat([w * a for a, _, w in parts])
    return a, torch.cat([b for _, b, _ in parts], dim=1)


@right
def shared_roots(parts, rank):
    return cut(total(parts), rank, 0.5, 0.5)


@right
def by_projection(parts, rank):
    """The first directions from the eigenvectors of D Dᵀ; B is them, A what they see of D."""
    d = total(parts)
    _, vectors = torch.linalg.eigh(d @ d.T)
    b = vectors.flip(1)[:, :rank]
    return padded(b.T @ d, b, rank)
