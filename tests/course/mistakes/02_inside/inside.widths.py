"""Answers to inside.widths: (in, out) of a Linear and of a Conv1D."""

from torch import nn

from minipeft.course.corpus import right, wrong


@wrong("Conv1D fails as in the notes")
def as_written(base_layer):
    return base_layer.in_features, base_layer.out_features


@wrong("a Conv1D from 5 to 7 gives (7, 5): in and out are exchanged")
def always_linear(base_layer):
    out_features, in_features = base_layer.weight.shape
    return in_features, out_features


@wrong("a nn.Linear from 5 to 7 gives (7, 5): in and out are exchanged")
def always_conv1d(base_layer):
    return tuple(base_layer.weight.shape)


@wrong("asked for is the pair (in, out)")
def one(base_layer):
    return base_layer.weight.shape[0]


@wrong("a Conv1D from 5 to 7 gives (7, 7)")
def nf_twice(base_layer):
    if isinstance(base_layer, nn.Linear):
        return base_layer.in_features, base_layer.out_features
    return base_layer.nf, base_layer.nf


@right
def by_attribute(base_layer):
    if hasattr(base_layer, "in_features"):
        return base_layer.in_features, base_layer.out_features
    return base_layer.nx, base_layer.nf


@right
def by_bias(base_layer):
    out_features = len(base_layer.bias)
    return base_layer.weight.numel() // out_features, out_features
