"""Answers to merge.rows: once through the layer, each adapter on its own rows."""

import torch

from minipeft.course.corpus import right, wrong


@wrong("once, with all 5, is enough")
def layer_each(self, adapters, layer, x, *args, **kwargs):
    out = 2 * x + kwargs.get("more", 0.0)
    for name, rows in self.of(x, adapters).items():
        z = adapters[name].before(x[rows])
        out[rows] = adapters[name].after(z, layer(z, *args, **kwargs))
    return out


@wrong("`before` is not applied")
def without_before(self, adapters, layer, x, *args, **kwargs):
    y = layer(x, *args, **kwargs)
    for name, rows in self.of(x, adapters).items():
        y = y.index_copy(0, rows, adapters[name].after(x[rows], y[rows]))
    return y


@wrong("`after` is not applied")
def without_after(self, adapters, layer, x, *args, **kwargs):
    for name, rows in self.of(x, adapters).items():
        x = x.index_copy(0, rows, adapters[name].before(x[rows]))
    return layer(x, *args, **kwargs)


@wrong("no adapter acts")
def frozen(self, adapters, layer, x, *args, **kwargs):
    return layer(x, *args, **kwargs)


@wrong("it gets the rows that the layer got")
def outside(self, adapters, layer, x, *args, **kwargs):
    z = x
    for name, rows in self.of(x, adapters).items():
        z = z.index_copy(0, rows, adapters[name].before(x[rows]))
    y = layer(z, *args, **kwargs)
    for name, rows in self.of(x, adapters).items():
        y = y.index_copy(0, rows, adapters[name].after(x[rows], y[rows]))
    return y


@wrong("x was changed in place")
def in_place(self, adapters, layer, x, *args, **kwargs):
    for name, rows in self.of(x, adapters).items():
        x[rows] = adapters[name].before(x[rows])
    y = layer(x, *args, **kwargs).clone()
    for name, rows in self.of(x, adapters).items():
        y[rows] = adapters[name].after(x[rows], y[rows])
    return y


@wrong("the layer's output was changed in place")
def output_in_place(self, adapters, layer, x, *args, **kwargs):
    x = x.clone()
    for name, rows in self.of(x, adapters).items():
        x[rows] = adapters[name].before(x[rows])
    y = layer(x, *args, **kwargs)
    for name, rows in self.of(x, adapters).items():
        y[rows] = adapters[name].after(x[rows], y[rows])
    return y


@right
def clones(self, adapters, layer, x, *args, **kwargs):
    own = self.of(x, adapters)
    x = x.clone()
    for name, rows in own.items():
        x[rows] = adapters[name].before(x[rows])
    y = layer(x, *args, **kwargs).clone()
    for name, rows in own.items():
        y[rows] = adapters[name].after(x[rows], y[rows])
    return y


@right
def masks(self, adapters, layer, x, *args, **kwargs):
    """All rows through every adapter, and those kept that are its own."""
    own = self.of(x, adapters)

    def mask(rows):
        hit = torch.zeros(len(x), dtype=torch.bool)
        hit[rows] = True
        return hit.view(-1, *[1] * (x.dim() - 1))

    for name, rows in own.items():
        x = torch.where(mask(rows), adapters[name].before(x), x)
    y = layer(x, *args, **kwargs)
    for name, rows in own.items():
        y = torch.where(mask(rows), adapters[name].after(x, y), y)
    return y
