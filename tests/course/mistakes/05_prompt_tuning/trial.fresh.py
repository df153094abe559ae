"""Answers to trial.fresh: a base for each config."""

import copy

from minipeft.course.corpus import right, wrong


@wrong("model 2 is wrapped around another")
def as_written(load, wrap, configs):
    model, models = load(), []
    for config in configs:
        model = wrap(model, config)
        models.append(model)
    return models


@wrong("the models share one base")
def loaded_once(load, wrap, configs):
    base = load()
    return [wrap(base, config) for config in configs]


@wrong("one model came back")
def only_the_last(load, wrap, configs):
    for config in configs:
        model = wrap(load(), config)
    return model


@wrong("wrap was not called on it")
def never_wrapped(load, wrap, configs):
    return [load() for _ in configs]


@wrong("wrap was called with the class")
def load_not_called(load, wrap, configs):
    return [wrap(load, config) for config in configs]


@wrong("model 1 has 'prefix', not 'prompt'")
def backwards(load, wrap, configs):
    return [wrap(load(), config) for config in reversed(configs)]


@wrong("2 models came back for 3 configs")
def one_too_few(load, wrap, configs):
    return [wrap(load(), config) for config in configs[1:]]


@wrong("was wrapped for ['prompt'] before")
def copied_too_late(load, wrap, configs):
    base, models = load(), []
    for config in configs:
        models.append(wrap(base, config))
        base = copy.deepcopy(base)
    return models


@right
def in_a_loop(load, wrap, configs):
    models = []
    for config in configs:
        model = load()
        models.append(wrap(model, config))
    return models


@right
def copied_before(load, wrap, configs):
    base = load()
    return [wrap(copy.deepcopy(base), config) for config in configs]


@right
def mapped(load, wrap, configs):
    return list(map(wrap, (load() for _ in configs), configs))
