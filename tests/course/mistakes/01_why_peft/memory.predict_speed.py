"""Answers to memory.predict_speed: 3 products before, 2 after."""

from minipeft.course.corpus import right, wrong

no_backward = wrong("3 would need the gradient of the input to vanish")(3)
halved = wrong("count them again")(2)
left = wrong("that is what is left")(2 / 3)
saved = wrong("the share that is saved")(1 / 3)
notes = wrong("5 is the note's number")(5)
nothing = wrong("that is one product in three")(1.0)

ratio = right(3 / 2)
decimal = right(1.5)
