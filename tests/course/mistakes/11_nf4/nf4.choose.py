"""Answers to nf4.choose: blocks of 32 with double quantization; NF4, and INT4 on even data."""

from minipeft.course.corpus import right, wrong

BEST = ("nf4", 32, True)


def both(tailed, even=("int4", 32, True)):
    return {"tailed": tailed, "even": even}


default = wrong("blocks of 64 without double quantization cost 4.500")(both(("nf4", 64, False)))
too_small = wrong("blocks of 16 with double quantization cost 4.508")(both(("nf4", 16, True)))
fp4 = wrong("tailed: fp4 leaves an error of")(both(("fp4", 32, True)))
int4 = wrong("tailed: int4 leaves an error of")(both(("int4", 32, True)))
nf4_everywhere = wrong("even: nf4 leaves an error of")(both(BEST, BEST))
standard = wrong("; a smaller block fits into the budget")(both(("nf4", 64, True)))
plain = wrong("with the scales quantized too, a smaller block")(both(("nf4", 128, False)))
odd_block = wrong("the block size is a power of two")(both(("nf4", 48, True)))
unknown = wrong("the type is one of nf4, fp4, int4")(both(("nf8", 32, True)))
number = wrong("double_quant is True or False")(both(("nf4", 32, 1)))
two_of_three = wrong("give (type, block size, double_quant)")(both(("nf4", 32)))
one_missing = wrong("the keys are tailed and even")({"tailed": BEST})
a_tuple = wrong("give a dictionary")(BEST)

tuples = right(both(BEST))
lists = right(both(list(BEST), ["int4", 32, True]))
