"""Answers to merge.choose: cat where the rank allows it, svd where it does not or need not."""

from minipeft.course.corpus import right, wrong


def jobs(exact=("cat", 8), small=("svd", 4), alike=("svd", 4)):
    return {"exact": exact, "small": small, "alike": alike}


cheap = wrong("small: linear of rank 4 leaves an error of")(jobs(small=("linear", 4)))
small_everywhere = wrong("exact: svd of rank 4 leaves an error of")(jobs(exact=("svd", 4)))
decomposes = wrong("finds what cat has without work")(jobs(exact=("svd", 8)))
too_large = wrong("stores twice what is needed")(jobs(alike=("cat", 8)))
alike_linear = wrong("alike: linear of rank 4 leaves an error of")(jobs(alike=("linear", 4)))
too_small = wrong("alike: svd of rank 3 leaves")(jobs(alike=("svd", 3)))
over_budget = wrong("the rank is 1 to 4, not 8")(jobs(small=("cat", 8)))
cat_4 = wrong("cat of these two has rank 8, not 4")(jobs(exact=("cat", 4)))
unknown = wrong("the way is cat, linear or svd")(jobs(exact=("ties", 8)))
half_said = wrong("give (way, rank)")(jobs(small="svd"))
keys = wrong("the keys are exact, small and alike")({"exact": ("cat", 8)})
a_word = wrong("give a dictionary")("svd")

tuples = right(jobs())
lists = right({name: list(choice) for name, choice in jobs().items()})
