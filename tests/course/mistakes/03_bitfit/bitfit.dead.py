"""Answers to bitfit.dead: shifting all keys adds one number to all scores of a query."""

from minipeft.course.corpus import right, wrong

queries = wrong("differs from key to key")("q")
values = wrong("values shifted by δ shift the output")("v")
none_of_them = wrong("this is str 'none'")("none")
a_number = wrong("this is int 1")(1)

letter = right("k")
capital = right(" K ")
word = right("keys")
