"""Answers to start.freeze: train the parameters with a word in their name."""

from minipeft.course.corpus import right, wrong


@wrong("the other way round")
def reversed_(model, word):
    for name, parameter in model.named_parameters():
        parameter.requires_grad = word not in name


@wrong("was frozen before the call and still is")
def only_freezes(model, word):
    for name, parameter in model.named_parameters():
        if word not in name:
            parameter.requires_grad = False


@wrong("every parameter requires a gradient")
def only_thaws(model, word):
    for _, parameter in model.named_parameters():
        parameter.requires_grad = True


@wrong("no parameter requires a gradient any more")
def exact_name(model, word):
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name == word


@wrong("such as 'block.query.weight'")
def only_at_the_start(model, word):
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith(word)


@wrong("only names with 'query' should")
def weights_and_word(model, word):
    for name, parameter in model.named_parameters():
        parameter.requires_grad = word in name or name.endswith("bias")


@right
def two_steps(model, word):
    model.requires_grad_(False)
    for name, parameter in model.named_parameters():
        if word in name:
            parameter.requires_grad_(True)


@right
def comprehension(model, word):
    [p.requires_grad_(n.find(word) >= 0) for n, p in model.named_parameters()]
