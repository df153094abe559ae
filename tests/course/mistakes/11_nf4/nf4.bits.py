"""Answers to nf4.bits: k + 32/b, or k + 8/b + 32/(256 b)."""

from minipeft.course.corpus import right, wrong


@wrong("the scales are missing: each block")
def codes_only(k, blocksize, double_quant):
    return k


@wrong("that is scales of 16 bits")
def half_scales(k, blocksize, double_quant):
    return k + (8 if double_quant else 16) / blocksize


@wrong("without double quantization it is 32")
def always_eight(k, blocksize, double_quant):
    return k + 8 / blocksize


@wrong("32 bits are added to each weight")
def each_weight(k, blocksize, double_quant):
    return k + 32


@wrong("that is a whole block of 32 weights")
def whole_block(k, blocksize, double_quant):
    return k * blocksize + (8 + 32 / 256 if double_quant else 32)


@wrong("256 is for the scales of the scales")
def block_of_256(k, blocksize, double_quant):
    return k + 32 / 256


@wrong("that is bytes")
def in_bytes(k, blocksize, double_quant):
    return (k + 32 / blocksize) / 8


@wrong("with double quantization the scales have 8 bits")
def never_double(k, blocksize, double_quant):
    return k + 32 / blocksize


@wrong("the scales of the scales are missing")
def second_level_missing(k, blocksize, double_quant):
    return k + (8 if double_quant else 32) / blocksize


@wrong("256 *scales* share 32 bits")
def of_256_weights(k, blocksize, double_quant):
    return k + 8 / blocksize + 32 / 256 if double_quant else k + 32 / blocksize


@wrong("only each 256 of them another 32")
def forty(k, blocksize, double_quant):
    return k + (40 if double_quant else 32) / blocksize


@wrong("are counted still; now they have 8 bits")
def old_scales_kept(k, blocksize, double_quant):
    return k + 32 / blocksize + (32 / (256 * blocksize) if double_quant else 0)


@wrong("are counted still, beside the 8-bit")
def both_kept(k, blocksize, double_quant):
    more = 8 / blocksize + 32 / (256 * blocksize)
    return k + 32 / blocksize + (more if double_quant else 0)


@wrong("the 8-bit scales are missing")
def first_level_missing(k, blocksize, double_quant):
    return k + 32 / ((256 if double_quant else 1) * blocksize)


@right
def with_a_rest(k, blocksize, double_quant):
    scale = 8 + 32 / 256 if double_quant else 32
    return k + scale / blocksize


@right
def of_a_matrix(k, blocksize, double_quant):
    weights = 2**20 * blocksize
    blocks = weights // blocksize
    bits = k * weights + (8 * blocks + 32 * (blocks // 256) if double_quant else 32 * blocks)
    return bits / weights
