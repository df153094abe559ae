"""Answers to qlora.counter: parameters, and what packed weights stand for."""

from minipeft import QuantizedLinear
from minipeft.course.corpus import right, wrong


def packed(model):
    return [m for m in model.modules() if isinstance(m, QuantizedLinear)]


@wrong("the packed weights are missing")
def notes(model):
    return sum(p.numel() for p in model.parameters())


@wrong("that counts bytes")
def codes(model):
    return notes_of(model) + sum(m.codes.numel() for m in packed(model))


@wrong("the packed weights only")
def packed_only(model):
    return sum(m.in_features * m.out_features for m in packed(model))


@wrong("codes and scales are counted")
def buffers(model):
    return notes_of(model) + sum(b.numel() for b in model.buffers())


@wrong("the bias of the first layer is missing")
def no_bias(model):
    plain = [m for m in model.modules() if not isinstance(m, QuantizedLinear)]
    own = sum(p.numel() for m in plain for p in m.parameters(recurse=False))
    return own + sum(m.in_features * m.out_features for m in packed(model))


def notes_of(model):
    return sum(p.numel() for p in model.parameters())


@right
def by_shape(model):
    return notes_of(model) + sum(m.quantized().shape.numel() for m in packed(model))


@right
def by_weight(model):
    return notes_of(model) + sum(m.weight.numel() for m in packed(model))
