"""Answers to adapter.after: the adapter on the frozen layer's output."""

import torch

from minipeft.course.corpus import right, wrong


@wrong("that is the adapter on x")
def on_the_input(self, x, y):
    return self(x)


@wrong("y counts twice")
def residual_twice(self, x, y):
    return y + self(y)


@wrong("y is missing")
def only_the_change(self, x, y):
    return self(y) - y


@wrong("the adapter is missing")
def frozen(self, x, y):
    return y


@wrong("x is added")
def stream_added(self, x, y):
    return x + self(y)


@wrong("that is y + A(x)")
def beside_the_layer(self, x, y):
    return y + self(x)


@wrong("that is A(x + y)")
def on_the_stream(self, x, y):
    return self(x + y)


@wrong("the output is None")
def no_return(self, x, y):
    self(y)


@wrong("for a layer from 12 to 3 the output has shape (2, 12)")
def chosen_by_chance(self, x, y):
    return x if x.shape != y.shape else self(y)


@right
def called(self, x, y):
    return self(y)


@right
def spelled_out(self, x, y):
    z = self.dropout(self.activation(self.down_project(y)))
    return y + self.up_project(z)


@right
def change_added(self, x, y):
    return y + (self(y) - y)


@right
def stacked(self, x, y):
    return torch.stack([self(row) for row in y])
