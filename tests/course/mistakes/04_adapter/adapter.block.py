"""Answers to adapter.block: each adapter on what its sublayer gives, before the sum."""

from minipeft.course.corpus import right, wrong


@wrong("no adapter is used")
def frozen(x, attention, mlp, norm_1, norm_2, adapter_1, adapter_2):
    x = x + attention(norm_1(x))
    return x + mlp(norm_2(x))


@wrong("the adapters are on the stream, after the sum")
def between(x, attention, mlp, norm_1, norm_2, adapter_1, adapter_2):
    x = adapter_1(x + attention(norm_1(x)))
    return adapter_2(x + mlp(norm_2(x)))


@wrong("behind the block, not in it")
def behind(x, attention, mlp, norm_1, norm_2, adapter_1, adapter_2):
    x = x + attention(norm_1(x))
    return adapter_2(adapter_1(x + mlp(norm_2(x))))


@wrong("the adapters are before the sublayers")
def before(x, attention, mlp, norm_1, norm_2, adapter_1, adapter_2):
    x = x + attention(adapter_1(norm_1(x)))
    return x + mlp(adapter_2(norm_2(x)))


@wrong("the adapters are before the norms")
def before_the_norms(x, attention, mlp, norm_1, norm_2, adapter_1, adapter_2):
    x = x + attention(norm_1(adapter_1(x)))
    return x + mlp(norm_2(adapter_2(x)))


@wrong("the adapters are beside the sublayers")
def beside(x, attention, mlp, norm_1, norm_2, adapter_1, adapter_2):
    n = norm_1(x)
    x = x + attention(n) + adapter_1(n)
    n = norm_2(x)
    return x + mlp(n) + adapter_2(n)


@wrong("the sublayer's output counts twice")
def twice(x, attention, mlp, norm_1, norm_2, adapter_1, adapter_2):
    y = attention(norm_1(x))
    x = x + y + adapter_1(y)
    y = mlp(norm_2(x))
    return x + y + adapter_2(y)


@wrong("adapter_1 is not used: that is Pfeiffer's place")
def pfeiffer(x, attention, mlp, norm_1, norm_2, adapter_1, adapter_2):
    x = x + attention(norm_1(x))
    return x + adapter_2(mlp(norm_2(x)))


@wrong("the two adapters are exchanged")
def exchanged(x, attention, mlp, norm_1, norm_2, adapter_1, adapter_2):
    x = x + adapter_2(attention(norm_1(x)))
    return x + adapter_1(mlp(norm_2(x)))


@wrong("x was changed in place")
def in_place(x, attention, mlp, norm_1, norm_2, adapter_1, adapter_2):
    x += adapter_1(attention(norm_1(x)))
    x += adapter_2(mlp(norm_2(x)))
    return x


@right
def two_lines(x, attention, mlp, norm_1, norm_2, adapter_1, adapter_2):
    x = x + adapter_1(attention(norm_1(x)))
    return x + adapter_2(mlp(norm_2(x)))


@right
def loop(x, attention, mlp, norm_1, norm_2, adapter_1, adapter_2):
    for norm, layer, adapter in ((norm_1, attention, adapter_1), (norm_2, mlp, adapter_2)):
        x = x + adapter(layer(norm(x)))
    return x


@right
def sum_at_the_end(x, attention, mlp, norm_1, norm_2, adapter_1, adapter_2):
    first = adapter_1(attention(norm_1(x)))
    second = adapter_2(mlp(norm_2(x + first)))
    return x + first + second
