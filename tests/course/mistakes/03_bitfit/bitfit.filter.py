"""Answers to bitfit.filter: the notes' loop, mended."""

from minipeft.course.corpus import right, wrong


def freeze(model, is_bias, refuse=True):
    """The notes' loop with a rule for names."""
    found = [name for name, _ in model.named_parameters() if is_bias(name)]
    if refuse and not found:
        raise ValueError("no biases")
    n = 0
    for name, p in model.named_parameters():
        p.requires_grad = name in found
        n += p.numel() if name in found else 0
    return n


@wrong("its own name is 'weight'")
def as_written(model):
    return freeze(model, lambda name: "bias" in name)


@wrong("'debias' is a layer's name")
def one_exception(model):
    return freeze(model, lambda name: "bias" in name and "relative" not in name)


@wrong("the norms' biases are trained too")
def linear_only(model):
    return freeze(model, lambda name: name.endswith("bias") and "ln" not in name)


@wrong("'debias.bias' is frozen")
def one_bias_per_name(model):
    return freeze(model, lambda name: name.count("bias") == 1 and name.endswith(".bias"))


@wrong("['ln.weight'] should be frozen")
def norms_whole(model):
    return freeze(model, lambda name: name.endswith(".bias") or name.startswith("ln."))


@wrong("that is the number of tensors")
def tensors(model):
    freeze(model, lambda name: name.endswith(".bias"))
    return sum(p.requires_grad for p in model.parameters())


@wrong("returns 0 and says nothing; raise ValueError")
def silent(model):
    return freeze(model, lambda name: name.endswith(".bias"), refuse=False)


@wrong("look before you freeze")
def too_late(model):
    n = freeze(model, lambda name: name.endswith(".bias"), refuse=False)
    if n == 0:
        raise ValueError("no biases")
    return n


@wrong("is there a `return`?")
def no_return(model):
    freeze(model, lambda name: name.endswith(".bias"))


@right
def dotted_end(model):
    return freeze(model, lambda name: name.rpartition(".")[2] == "bias")


@right
def by_modules(model):
    mine = [m._parameters["bias"] for m in model.modules() if "bias" in m._parameters]
    mine = [bias for bias in mine if bias is not None]
    if not mine:
        raise ValueError(f"{type(model).__name__} has no biases")
    model.requires_grad_(False)
    for bias in mine:
        bias.requires_grad_(True)
    return sum(bias.numel() for bias in mine)
