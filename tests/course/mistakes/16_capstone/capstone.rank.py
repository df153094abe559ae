"""Answers to capstone.rank: wrong sums, wrong bytes, wrong rounding, no floor at zero."""

import math

from minipeft.course.corpus import right, wrong


def each(layers):
    return 4 * sum(a + b for a, b in layers)


@wrong("round down")
def not_rounded(layers, limit, header):
    return (limit - 8 - header) / each(layers)


@wrong("five is one too many")
def rounded_up(layers, limit, header):
    return math.ceil((limit - 8 - header) / each(layers))


@wrong("that counts one byte")
def numbers_for_bytes(layers, limit, header):
    return (limit - 8 - header) * 4 // each(layers)


@wrong("that counts 2 bytes")
def half_precision(layers, limit, header):
    return (limit - 8 - header) * 2 // each(layers)


@wrong("that is one block")
def one_block(layers, limit, header):
    return (limit - 8 - header) // each(layers[:4])


@wrong("that counts A alone")
def a_alone(layers, limit, header):
    return (limit - 8 - header) // (4 * sum(a for a, _ in layers))


@wrong("that counts B alone")
def b_alone(layers, limit, header):
    return (limit - 8 - header) // (4 * sum(b for _, b in layers))


@wrong("not in · out")
def whole_matrices(layers, limit, header):
    return (limit - 8 - header) // (4 * sum(a * b for a, b in layers))


@wrong("the header is left out")
def without_header(layers, limit, header):
    return (limit - 8) // each(layers)


@wrong("a file of exactly the limit is allowed")
def strictly_below(layers, limit, header):
    return max(0, (limit - 9 - header) // each(layers))


@wrong("the file begins with 8 bytes of its own")
def without_the_eight(layers, limit, header):
    return max(0, (limit - header) // each(layers))


@wrong("a rank is not negative")
def below_zero(layers, limit, header):
    return (limit - 8 - header) // each(layers)


@wrong("an int")
def a_float(layers, limit, header):
    return float((limit - 8 - header) // each(layers))


@wrong("is there a `return`?")
def no_return(layers, limit, header):
    (limit - 8 - header) // each(layers)


@right
def by_counting(layers, limit, header):
    r = 0
    while 8 + header + (r + 1) * each(layers) <= limit:
        r += 1
    return r


@right
def by_flooring(layers, limit, header):
    return max(math.floor((limit - 8 - header) / each(layers)), 0)
