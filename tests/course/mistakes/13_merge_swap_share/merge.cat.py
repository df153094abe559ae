"""Answers to merge.cat: blocks side by side times blocks one below the other."""

import torch

from minipeft.course.corpus import right, wrong


@wrong("the weights are missing")
def unweighted(parts):
    return torch.cat([a for a, _, _ in parts]), torch.cat([b for _, b, _ in parts], dim=1)


@wrong("counts squared")
def both(parts):
    return torch.cat([w * a for a, _, w in parts]), torch.cat([w * b for _, b, w in parts], dim=1)


@wrong("the sign of a negative weight is lost")
def roots(parts):
    a = torch.cat([abs(w) ** 0.5 * a for a, _, w in parts])
    return a, torch.cat([abs(w) ** 0.5 * b for _, b, w in parts], dim=1)


@wrong("that is the mean")
def mean(parts):
    a = torch.cat([w / len(parts) * a for a, _, w in parts])
    return a, torch.cat([b for _, b, _ in parts], dim=1)


@wrong("B comes first")
def swapped(parts):
    return torch.cat([b for _, b, _ in parts], dim=1), torch.cat([w * a for a, _, w in parts])


@wrong("return the pair A, B")
def product(parts):
    return sum(w * b @ a for a, b, w in parts)


@wrong("were changed in place")
def in_place(parts):
    for a, _, w in parts:
        a *= w
    out = torch.cat([a for a, _, _ in parts]), torch.cat([b for _, b, _ in parts], dim=1)
    for a, _, w in parts:
        a /= 2 * w
    return out


@wrong("asked for is (3, 3)")
def first_only(parts):
    a, b, w = parts[0]
    return w * a, b


@right
def on_b(parts):
    a = torch.vstack([a for a, _, _ in parts])
    return a, torch.hstack([b * w for _, b, w in parts])


@right
def filled(parts):
    rank = sum(len(a) for a, _, _ in parts)
    big_a = torch.zeros(rank, parts[0][0].shape[1])
    big_b = torch.zeros(parts[0][1].shape[0], rank)
    at = 0
    for a, b, w in parts:
        big_a[at : at + len(a)], big_b[:, at : at + len(a)] = a, w * b
        at += len(a)
    return big_a, big_b
