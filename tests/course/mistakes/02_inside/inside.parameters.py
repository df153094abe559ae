"""Answers to inside.parameters: each tensor once."""

from minipeft.course.corpus import right, wrong


@wrong("counted twice, and buffers")
def state_dict(model):
    return sum(t.numel() for t in model.state_dict().values())


@wrong("the tied weight is counted twice")
def every_module(model):
    return sum(p.numel() for m in model.modules() for p in m._parameters.values() if p is not None)


@wrong("the frozen layer is missing")
def trained(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@wrong("the number of tensors")
def tensors(model):
    return len(list(model.parameters()))


@wrong("those are bytes")
def in_bytes(model):
    return sum(p.nbytes for p in model.parameters())


@right
def by_name(model):
    return sum(p.numel() for _, p in model.named_parameters())


@right
def by_identity(model):
    named = model.named_parameters(remove_duplicate=False)
    return sum({id(p): p.numel() for _, p in named}.values())
