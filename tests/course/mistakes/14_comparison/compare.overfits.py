"""Answers to compare.overfits: training ends at its lowest, validation above its own."""

from minipeft.course.corpus import right, wrong


@wrong("is overfitting: the training rows are known by heart")
def as_the_note_says(training, validation):
    return training[-1] > validation[-1]


@wrong("a gap is no overfitting while validation still falls")
def a_gap(training, validation):
    return validation[-1] > 1.05 * training[-1]


@wrong("broke down: both rose")
def validation_alone(training, validation):
    return validation[-1] > 1.05 * min(validation)


@wrong("more than 5 % was asked for")
def any_rise(training, validation):
    return training[-1] <= 1.05 * min(training) and validation[-1] > min(validation)


@wrong("ends within 5 % of its lowest")
def training_exactly(training, validation):
    return training[-1] == min(training) and validation[-1] > 1.05 * min(validation)


@wrong("The note has the two the wrong way round")
def always(training, validation):
    return True


@wrong("asked for is True or False")
def a_number(training, validation):
    return validation[-1] / min(validation)


@right
def in_words(training, validation):
    by_heart = training[-1] / min(training) <= 1.05
    rises = validation[-1] / min(validation) > 1.05
    return by_heart and rises


@right
def step_by_step(training, validation):
    if training[-1] > 1.05 * min(training):
        return False
    return not validation[-1] <= 1.05 * min(validation)
