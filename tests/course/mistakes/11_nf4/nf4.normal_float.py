"""Answers to nf4.normal_float: two halves of quantiles that share a zero."""

from statistics import NormalDist

import torch

from minipeft.course.corpus import right, wrong

ndtri = torch.special.ndtri
quantile = NormalDist().inv_cdf


def largest(bits):
    """(929/960 for four bits.)"""
    n = 2**bits
    return 1 - (1 / (2 * n) + 1 / (2 * (n - 1))) / 2


def halves(p, negative, positive):
    up = torch.linspace(0.5, p, positive + 1)[1:]
    down = torch.linspace(p, 0.5, negative + 1)[:-1]
    return torch.cat([-ndtri(down), torch.zeros(1), ndtri(up)])


@wrong("there is no zero among them")
def whole_line(bits=4):
    n = 2**bits
    table = ndtri((torch.arange(n) + 0.5) / n)
    return table / table.max()


@wrong("a level is infinite")
def to_the_ends(bits=4):
    return ndtri(torch.linspace(0, 1, 2**bits))


@wrong("holds NaN: inf / inf")
def infinite_divided(bits=4):
    table = ndtri(torch.linspace(0, 1, 2**bits))
    return table / table.max()


@wrong("the levels are evenly spaced")
def even(bits=4):
    return torch.linspace(-1, 1, 2**bits)


@wrong("not divided by the largest")
def undivided(bits=4):
    n = 2**bits
    return halves(largest(bits), n // 2 - 1, n // 2)


@wrong("the levels descend")
def descending(bits=4):
    n = 2**bits
    table = halves(largest(bits), n // 2 - 1, n // 2)
    return (table / table.max()).flip(0)


@wrong("the halves are swapped")
def swapped(bits=4):
    n = 2**bits
    table = halves(largest(bits), n // 2, n // 2 - 1)
    return table / table.max()


@wrong("the largest probability is 1 - 1/(2n)")
def one_half_only(bits=4):
    n = 2**bits
    table = halves(1 - 1 / (2 * n), n // 2 - 1, n // 2)
    return table / table.max()


@wrong("the negative half descends")
def negative_not_turned(bits=4):
    n = 2**bits
    table = halves(largest(bits), n // 2 - 1, n // 2)
    return torch.cat([table[: n // 2 - 1].flip(0), table[n // 2 - 1 :]]) / table.max()


@wrong("it is one of the even steps from ½ to p")
def begins_at_a_sixteenth(bits=4):
    n = 2**bits
    low, p = 0.5 + 1 / n, largest(bits)
    up, down = (ndtri(torch.linspace(low, p, m)) for m in (n // 2, n // 2 - 1))
    return torch.cat([-down.flip(0), torch.zeros(1), up]) / up.max()


@wrong("leave ½ out of both halves")
def three_zeros(bits=4):
    n = 2**bits
    p = largest(bits)
    down, up = torch.linspace(p, 0.5, n // 2), torch.linspace(0.5, p, n // 2)
    table = torch.cat([-ndtri(down), ndtri(up)])
    return table / table.max()


@wrong("has 5 levels; 1 + 1 + 2 = 4")
def symmetric(bits=4):
    table = halves(largest(bits), 2 ** (bits - 1), 2 ** (bits - 1))
    return table / table.max()


@right
def in_double_precision(bits=4):
    n = 2**bits
    above = largest(bits) - 0.5
    up = [quantile(0.5 + above * i / (n // 2)) for i in range(1, n // 2 + 1)]
    down = [-quantile(0.5 + above * i / (n // 2 - 1)) for i in range(n // 2 - 1, 0, -1)]
    return torch.tensor([*down, 0.0, *up]) / up[-1]


@right
def by_icdf(bits=4):
    n = 2**bits
    table = torch.distributions.Normal(0.0, 1.0).icdf
    negative = -table(torch.linspace(largest(bits), 0.5, n // 2)[:-1])
    positive = table(torch.linspace(largest(bits), 0.5, n // 2 + 1)[:-1])
    levels = torch.cat([negative, positive, torch.zeros(1)]).sort().values
    return levels / levels.max()
