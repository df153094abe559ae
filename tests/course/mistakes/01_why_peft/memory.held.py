"""Answers to memory.held."""

from minipeft.course.corpus import right, wrong


def size(t):
    return t.numel() * t.element_size()


def weigh(model, optimizer, size=size, keys=("exp_avg", "exp_avg_sq")):
    return {
        "parameters": sum(size(p) for p in model.parameters()),
        "gradients": sum(size(p.grad) for p in model.parameters() if p.grad is not None),
        "moments": sum(size(s[k]) for s in optimizer.state.values() for k in keys),
    }


@wrong("numbers, not bytes")
def numel(model, optimizer):
    return weigh(model, optimizer, size=lambda t: t.numel())


@wrong("every parameter was taken for float32")
def four_bytes(model, optimizer):
    return weigh(model, optimizer, size=lambda t: 4 * t.numel())


@wrong("the trained parameters only")
def trained_only(model, optimizer):
    trained = [p for p in model.parameters() if p.requires_grad]
    return {**weigh(model, optimizer), "parameters": sum(map(size, trained))}


@wrong("a frozen parameter has no gradient")
def all_gradients(model, optimizer):
    return {**weigh(model, optimizer), "gradients": sum(map(size, model.parameters()))}


@wrong("Adam keeps two moments")
def one_moment(model, optimizer):
    return weigh(model, optimizer, keys=("exp_avg",))


@wrong("counts Adam's `step` too")
def with_step(model, optimizer):
    return weigh(model, optimizer, keys=("exp_avg", "exp_avg_sq", "step"))


@wrong("'NoneType' object has no attribute")
def no_gradient(model, optimizer):
    return {"gradients": sum(p.grad.numel() for p in model.parameters())}


@right
def nbytes(model, optimizer):
    return weigh(model, optimizer, size=lambda t: t.nbytes)


@right
def by_state(model, optimizer):
    trained = [p for p in model.parameters() if p in optimizer.state]
    return {
        "parameters": sum(p.nbytes for p in model.parameters()),
        "gradients": sum(p.grad.nbytes for p in trained),
        "moments": 2 * sum(optimizer.state[p]["exp_avg"].nbytes for p in trained),
    }
