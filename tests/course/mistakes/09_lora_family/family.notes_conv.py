"""Answers to family.notes_conv: the note's class, mended."""

from torch import nn

from minipeft.course.corpus import right, wrong


class Mended(nn.Module):
    """A right answer; the others change one thing in it."""

    left_out = ()  # options of the layer that A does not get
    bias = False

    def __init__(self, layer, rank=8, lora_alpha=16):
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.scaling = lora_alpha / rank
        names = ("kernel_size", "stride", "padding", "dilation", "padding_mode")
        options = {name: getattr(layer, name) for name in names if name not in self.left_out}
        self.lora_a = nn.Conv2d(layer.in_channels, rank, bias=False, **options)
        self.lora_b = nn.Conv2d(rank, layer.out_channels, 1, bias=self.bias)
        self.start()

    def start(self):
        nn.init.zeros_(self.lora_b.weight)

    def forward(self, x):
        return self.layer(x) + self.scaling * self.lora_b(self.lora_a(x))


@wrong("unexpected keyword argument 'conv_size'")
class AsWritten(Mended):
    def __init__(self, layer, rank=8, lora_alpha=16):
        super().__init__(layer, rank, lora_alpha)
        self.lora_b = nn.Conv2d(rank, layer.out_channels, conv_size=(1, 1))


@wrong("forward returns None")
class NoReturn(Mended):
    def forward(self, x):
        self.layer(x) + self.scaling * self.lora_b(self.lora_a(x))


@wrong("missing 1 required positional argument: 'input'")
class NoInput(Mended):
    def forward(self, x):
        return self.layer(x) + self.lora_a()


@wrong("has a bias, which no ΔW holds")
class Biased(Mended):
    bias = True


@wrong("B is not zero")
class RandomB(Mended):
    def start(self):
        pass


@wrong("A is zero; asked for is B zero")
class ZeroA(Mended):
    def start(self):
        nn.init.zeros_(self.lora_a.weight)


@wrong("A and B are both zero")
class ZeroBoth(Mended):
    def start(self):
        nn.init.zeros_(self.lora_a.weight)
        nn.init.zeros_(self.lora_b.weight)


@wrong("the scale s is missing")
class NoScale(Mended):
    def forward(self, x):
        return self.layer(x) + self.lora_b(self.lora_a(x))


@wrong("the update is missing")
class NoUpdate(Mended):
    def forward(self, x):
        return self.layer(x)


@wrong("with the layer's stride")
class NoStride(Mended):
    left_out = ("stride",)


@wrong("with the layer's padding:")
class NoPadding(Mended):
    left_out = ("padding",)


@wrong("with the layer's dilation:")
class NoDilation(Mended):
    left_out = ("dilation",)


@wrong("lora_a has not the layer's padding_mode")
class NoPaddingMode(Mended):
    left_out = ("padding_mode",)


@right
class AllOptions(Mended):
    pass


@right
class KernelOfTheLayer(Mended):
    """A goes through the layer's own convolution."""

    def forward(self, x):
        ax = self.layer._conv_forward(x, self.lora_a.weight, None)
        return self.layer(x) + self.lora_b(self.scaling * ax)
