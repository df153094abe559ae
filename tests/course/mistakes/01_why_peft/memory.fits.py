"""Answers to memory.fits: T = (budget - b · total) / (16 - b), between 0 and total."""

import math

from minipeft.course.corpus import right, wrong


@wrong("16 T alone was counted")
def no_frozen(budget, total, bytes_per_frozen=2):
    return min(total, budget // 16)


@wrong("it costs 14 bytes more, not 16")
def sixteen_more(budget, total, bytes_per_frozen=2):
    return max(0, min(total, (budget - bytes_per_frozen * total) // 16))


@wrong("a whole number is asked for")
def a_fraction(budget, total, bytes_per_frozen=2):
    return max(0, min(total, (budget - bytes_per_frozen * total) / (16 - bytes_per_frozen)))


@wrong("round down")
def rounded_up(budget, total, bytes_per_frozen=2):
    left = budget - bytes_per_frozen * total
    return max(0, min(total, math.ceil(left / (16 - bytes_per_frozen))))


@wrong("there are only 100 parameters")
def more_than_there_are(budget, total, bytes_per_frozen=2):
    return max(0, int((budget - bytes_per_frozen * total) // (16 - bytes_per_frozen)))


@wrong("not even the frozen model fits")
def below_zero(budget, total, bytes_per_frozen=2):
    return min(total, int((budget - bytes_per_frozen * total) // (16 - bytes_per_frozen)))


@wrong("bytes_per_frozen is ignored")
def always_two(budget, total, bytes_per_frozen=2):
    return max(0, min(total, (budget - 2 * total) // 14))


@right
def one_by_one(budget, total, bytes_per_frozen=2):
    trained = 0
    while (
        trained < total and 16 * (trained + 1) + bytes_per_frozen * (total - trained - 1) <= budget
    ):
        trained += 1
    return trained


@right
def clamped(budget, total, bytes_per_frozen=2):
    t = math.floor((budget - bytes_per_frozen * total) / (16 - bytes_per_frozen))
    return sorted((0, t, total))[1]
