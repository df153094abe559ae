"""Answers to adapter.count: 2dm + m + d."""

from torch import nn

from minipeft.course.corpus import right, wrong


@wrong("the biases are missing")
def no_biases(hidden_size, adapter_size):
    return 2 * hidden_size * adapter_size


@wrong("the upper layer's bias is missing")
def lower_bias_only(hidden_size, adapter_size):
    return 2 * hidden_size * adapter_size + adapter_size


@wrong("the lower layer's bias is missing")
def upper_bias_only(hidden_size, adapter_size):
    return 2 * hidden_size * adapter_size + hidden_size


@wrong("that is the lower layer alone")
def lower_layer(hidden_size, adapter_size):
    return hidden_size * adapter_size + adapter_size


@wrong("one matrix is missing")
def one_matrix(hidden_size, adapter_size):
    return hidden_size * adapter_size + adapter_size + hidden_size


@wrong("the adapter has no LayerNorm")
def with_the_diagrams_norm(hidden_size, adapter_size):
    return 2 * hidden_size * adapter_size + adapter_size + 3 * hidden_size


@wrong("that is the two adapters of a block")
def a_block(hidden_size, adapter_size):
    return 2 * (2 * hidden_size * adapter_size + adapter_size + hidden_size)


@wrong("no m × m matrix")
def with_a_middle(hidden_size, adapter_size):
    return (2 * hidden_size + adapter_size) * adapter_size + adapter_size + hidden_size


@wrong("a count is an int")
def a_float(hidden_size, adapter_size):
    return 2.0 * hidden_size * adapter_size + adapter_size + hidden_size


called_too_early = wrong("hand over the function itself")(99_136)


@right
def layer_by_layer(hidden_size, adapter_size):
    return (hidden_size + 1) * adapter_size + (adapter_size + 1) * hidden_size


@right
def counted(hidden_size, adapter_size):
    down = nn.Linear(hidden_size, adapter_size, device="meta")
    up = nn.Linear(adapter_size, hidden_size, device="meta")
    return sum(p.numel() for layer in (down, up) for p in layer.parameters())
