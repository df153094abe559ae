"""Answers to family.order_of: the layers range by range, the end left out."""

from itertools import chain

from minipeft.course.corpus import right, wrong


@wrong("the end of a range is not part of it")
def with_end(ranges):
    return [n for start, end in ranges for n in range(start, end + 1)]


@wrong("each layer comes once")
def once(ranges):
    return sorted({n for start, end in ranges for n in range(start, end)})


@wrong("the layers are sorted")
def in_order(ranges):
    return sorted(n for start, end in ranges for n in range(start, end))


@wrong("that is a list of lists")
def nested(ranges):
    return [list(range(*pair)) for pair in ranges]


@wrong("that is the first range only")
def returned_early(ranges):
    for start, end in ranges:
        return list(range(start, end))


@wrong("that is the last range only")
def overwritten(ranges):
    for start, end in ranges:
        order = list(range(start, end))
    return order


@wrong("those are the ends of the ranges")
def ends(ranges):
    return [n for pair in ranges for n in pair]


@wrong("return a list; this is tuple")
def a_tuple(ranges):
    return tuple(n for start, end in ranges for n in range(start, end))


@wrong("is None: is there a `return`?")
def nothing(ranges):
    [n for start, end in ranges for n in range(start, end)]


@right
def extended(ranges):
    order = []
    for start, end in ranges:
        order.extend(range(start, end))
    return order


@right
def chained(ranges):
    return list(chain.from_iterable(range(*pair) for pair in ranges))
