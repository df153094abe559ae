"""Answers to nf4.pack: the first code of a byte is in its high bits."""

import torch

from minipeft.course.corpus import right, wrong


def joined(parts, bits):
    """The columns of parts, the first one highest."""
    packed = torch.zeros_like(parts[:, 0])
    for column in parts.unbind(1):
        packed = (packed << bits) | column
    return packed


@wrong("the first code is in the low bits")
def low_first(codes, bits):
    return joined(codes.view(-1, 8 // bits).flip(1), bits)


@wrong("halves of the tensor share a byte")
def halves(codes, bits):
    return joined(codes.view(8 // bits, -1).T, bits)


@wrong("added without a shift")
def added(codes, bits):
    return codes.view(-1, 8 // bits).sum(1).to(torch.uint8)


@wrong("the codes come back one to a byte")
def unpacked(codes, bits):
    return codes.clone()


@wrong("only the first code")
def first_only(codes, bits):
    return codes[:: 8 // bits].clone()


@wrong("stand in a column")
def column(codes, bits):
    return joined(codes.view(-1, 8 // bits), bits)[:, None]


@wrong("with bits=2 two codes share a byte")
def four_bits_always(codes, bits):
    return codes if bits == 8 else (codes[::2] << 4) | codes[1::2]


@wrong("with bits=2 the order within a byte")
def two_bits_reversed(codes, bits):
    parts = codes.view(-1, 8 // bits)
    return joined(parts.flip(1) if bits == 2 else parts, bits)


@wrong("`codes` was changed in place")
def in_place(codes, bits):
    codes[::2] <<= bits
    return codes[::2] | codes[1::2]


@wrong("in another dtype")
def whole_numbers(codes, bits):
    return joined(codes.view(-1, 8 // bits).long(), bits)


@right
def powers(codes, bits):
    per_byte = 8 // bits
    weight = torch.tensor([2 ** (bits * (per_byte - 1 - j)) for j in range(per_byte)])
    return (codes.view(-1, per_byte).int() * weight).sum(1).to(torch.uint8)


@right
def strided(codes, bits):
    per_byte = 8 // bits
    packed = torch.zeros(len(codes) // per_byte, dtype=torch.uint8)
    for j in range(per_byte):
        packed |= codes[j::per_byte] << (8 - bits * (j + 1))
    return packed
