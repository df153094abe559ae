"""Answers to family.conv: base_output + s · B * (A * x), A as the layer's own kernel."""

import torch.nn.functional as F

from minipeft.course.corpus import right, wrong


def update(self, x, **changed):
    """B * (A * x), not scaled; `changed` are options in which A differs from the layer."""
    layer = self.base.layer
    names = ("stride", "padding", "dilation", "groups")
    options = {name: getattr(layer, name) for name in names} | changed
    if layer.padding_mode != "zeros" and "padding" not in changed:
        x = F.pad(x, [n for n in reversed(layer.padding) for _ in range(2)], layer.padding_mode)
        options["padding"] = 0
    a = self.lora_A.repeat(options["groups"], 1, 1, 1)
    return F.conv2d(F.conv2d(x.to(a.dtype), a, **options), self.lora_B, groups=options["groups"])


@wrong("the base output is missing")
def update_only(self, x, base_output):
    return self.scaling * update(self, x)


@wrong("the scale s is missing")
def no_scale(self, x, base_output):
    return base_output + update(self, x)


@wrong("s belongs to the update only")
def all_scaled(self, x, base_output):
    return self.scaling * (base_output + update(self, x))


@wrong("the layer runs again")
def again(self, x, base_output):
    return self.base.layer(x) + self.scaling * update(self, x)


@wrong("with the layer's stride")
def no_stride(self, x, base_output):
    return base_output + self.scaling * update(self, x, stride=1)


@wrong("A needs the same padding")
def no_padding(self, x, base_output):
    return base_output + self.scaling * update(self, x, padding=0)


@wrong("A needs the same dilation")
def no_dilation(self, x, base_output):
    return base_output + self.scaling * update(self, x, dilation=1)


@wrong("the layer's padding_mode is not that of A")
def zeros_around(self, x, base_output):
    return base_output + self.scaling * update(self, x, padding=self.base.layer.padding)


@wrong("A needs the same groups")
def no_groups(self, x, base_output):
    layer = self.base.layer
    ax = layer._conv_forward(x, self.lora_A, None)
    return base_output + self.scaling * F.conv2d(ax, self.lora_B, groups=layer.groups)


@wrong("bfloat16 in")
def wide(self, x, base_output):
    return base_output + self.scaling * update(self, x)


@wrong("the output is None")
def nothing(self, x, base_output):
    base_output + self.scaling * update(self, x)


@right
def by_options(self, x, base_output):
    return (base_output + self.scaling * update(self, x)).to(base_output.dtype)


@right
def one_kernel(self, x, base_output):
    """ΔW as one kernel of the layer."""
    layer, b = self.base.layer, self.lora_B.flatten(1)
    delta = (b @ self.lora_A.flatten(1)).view(layer.weight.shape)
    update = layer._conv_forward(x.to(delta.dtype), delta, None)
    return (base_output + self.scaling * update).to(base_output.dtype)
