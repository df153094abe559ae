"""Answers to compare.customers: 2 · (6,738,415,616 + 1000 · 19,988,480) / 10⁹ GB."""

from minipeft.course.corpus import right, wrong

base_each = wrong("the base is shared")(1000 * 2 * (6_738_415_616 + 19_988_480) / 1e9)
full = wrong("that is a thousand full fine-tunes")(1000 * 2 * 6_738_415_616 / 1e9)
adapters = wrong("the base has to be there once")(1000 * 2 * 19_988_480 / 1e9)
one_customer = wrong("that is one customer")(2 * (6_738_415_616 + 19_988_480) / 1e9)
mixed = wrong("the adapters are in 16 bits too")((2 * 6_738_415_616 + 4000 * 19_988_480) / 1e9)
parameters = wrong("each takes 2 bytes")((6_738_415_616 + 1000 * 19_988_480) / 1e9)
in_bytes = wrong("those are bytes")(2 * (6_738_415_616 + 1000 * 19_988_480))
gibibytes = wrong("units of 2³⁰")(2 * (6_738_415_616 + 1000 * 19_988_480) / 2**30)
a_word = wrong("should be a number")("53.45 GB")

exact = right((2 * 6_738_415_616 + 1000 * 2 * 19_988_480) / 1e9)
rounded = right(53.5)
two_decimals = right(53.45)
