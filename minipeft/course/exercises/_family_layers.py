"""What the exercises of lesson 09 test beside an embedding and beside a convolution."""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..expect import Wrong, describe, expect, expect_close

# An embedding of four tokens in three dimensions; r = 2, α = 6, so s = 3.
EMBEDDING_A = torch.tensor([[1.0, 0.0, 2.0, 0.0], [0.0, 1.0, 1.0, 3.0]])
EMBEDDING_B = torch.tensor([[1.0, 0.0], [0.0, 10.0], [1.0, 1.0]])
IDS = torch.tensor([[2, 0], [3, 3]])
# Columns 2, 0, 3 of A are (2, 1), (1, 0), (0, 3); times B, not yet times s:
BAX = torch.tensor([[[2.0, 10.0, 3.0], [1.0, 0.0, 1.0]], [[0.0, 30.0, 3.0], [0.0, 30.0, 3.0]]])


def _set(layer: Any, a: Tensor, b: Tensor) -> Any:
    with torch.no_grad():
        layer.lora_A.copy_(a)
        layer.lora_B.copy_(b)
    return layer


def _reach(layer: Any, output: Any) -> None:
    """Gradients arrive at A and B."""
    expect(output.requires_grad, "no gradient reaches A and B: a detach, .data or no_grad")
    output.sum().backward()
    for name in ("lora_A", "lora_B"):
        grad = getattr(layer, name).grad
        expect(grad is not None and (grad != 0).any(), f"{name} receives no gradient")


def embedding(answer: Any) -> str:
    """Four tokens by hand."""
    table = nn.Embedding(4, 3).requires_grad_(False)
    layer = _set(answer(table, rank=2, lora_alpha=6), EMBEDDING_A, EMBEDDING_B)
    base = torch.full((2, 2, 3), 100.0)
    given = base.clone()
    got = layer(IDS, given)
    expect(torch.equal(given, base), "base_output was changed in place; return a new tensor")
    known = [
        (3 * BAX, "the base output is missing: only the update is returned"),
        (base, "the update is missing: the base output comes back as it was"),
        (base + BAX, "the scale s is missing"),
        (base + 9 * BAX, "the scale s is applied twice"),
        (base + 6 * BAX, "α where s = α/r was asked"),
        (3 * (base + BAX), "the base output is scaled too; s belongs to the update only"),
        (base - 3 * BAX, "the update is subtracted; it is added"),
        ((base + 3 * BAX).flatten(0, 1), "the tokens are flattened: (..., dim) was asked"),
        (base + 3 * BAX.sum((0, 1)), "all tokens are summed; each has its own column of A"),
        (table(IDS) + 3 * BAX, "the table is looked up again; base_output is what to add to"),
    ]
    expect_close(got, base + 3 * BAX, "the output", known)
    layer.scaling = 0.5
    expect_close(layer(IDS[0, :1], base[0, :1]), base[0, :1] + BAX[0, :1] / 2, "one token's output")
    _reach(layer, layer(IDS, base))
    unused = layer.lora_A.grad[:, 1]
    expect((unused == 0).all(), "a token that does not occur has a gradient in its column of A")
    low = layer(IDS, base.bfloat16())
    expect(low.dtype == torch.bfloat16, f"base_output in bfloat16, {describe(low)} out")
    return "four tokens by hand, s from self.scaling, gradients in the used columns, bfloat16"


OPTIONS: dict[str, dict[str, Any]] = {
    "stride": {"stride": 2},
    "padding": {"padding": 1},
    "dilation": {"dilation": 2},
    "padding_mode": {"padding": 1, "padding_mode": "circular"},
}


def _image() -> Tensor:
    torch.manual_seed(3)
    return torch.randn(2, 4, 8, 8)


def _folded(conv: nn.Conv2d, a: Tensor, b: Tensor, s: float) -> tuple[Tensor, Tensor]:
    """The layer's output, and that of the kernel W + s · B A."""
    delta = s * (b.flatten(1) @ a.flatten(1)).view(conv.weight.shape)
    x = _image()
    return conv(x), conv._conv_forward(x, conv.weight + delta, conv.bias)


def _try(run: Any, option: str) -> Any:
    try:
        return run()
    except NotImplementedError:
        raise
    except RuntimeError as error:
        said = str(error).splitlines()[0]
        raise Wrong(f"with the layer's {option}: {said}; A needs the same {option}") from None


def conv(answer: Any) -> str:
    """One kernel by hand, then each option against the kernel with ΔW folded in."""
    plain: Any = nn.Conv2d(1, 2, (1, 2)).requires_grad_(False)
    layer = answer(plain, rank=1, lora_alpha=2)
    _set(layer, torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([3.0, -1.0]).view(2, 1, 1, 1))
    x = torch.tensor([1.0, 0.0, 2.0, 1.0]).view(1, 1, 1, 4)
    # A * x = (1 + 0, 0 + 4, 2 + 2); B gives 3 and -1 times that, s = 2 twice that.
    bax = torch.tensor([[[[3.0, 12.0, 12.0]], [[-1.0, -4.0, -4.0]]]])
    base = torch.full((1, 2, 1, 3), 100.0)
    known = [
        (2 * bax, "the base output is missing: only the update is returned"),
        (base, "the update is missing: the base output comes back as it was"),
        (base + bax, "the scale s is missing"),
        (base + 4 * bax, "the scale s is applied twice"),
        (2 * (base + bax), "the base output is scaled too; s belongs to the update only"),
        (base - 2 * bax, "the update is subtracted; it is added"),
        (base + 2 * bax + plain.bias.view(1, 2, 1, 1), "the layer's bias is added once more"),
        (plain(x) + 2 * bax, "the layer runs again; base_output is what to add to"),
    ]
    expect_close(layer(x, base), base + 2 * bax, "the output", known)
    for option, given in {**OPTIONS, "groups": {"groups": 2}}.items():
        torch.manual_seed(4)
        frozen = nn.Conv2d(4, 6, 3, **given).requires_grad_(False)
        layer = answer(frozen, rank=3, lora_alpha=6)
        nn.init.normal_(layer.lora_A)
        nn.init.normal_(layer.lora_B)
        y, want = _folded(frozen, layer.lora_A, layer.lora_B, 2.0)
        got = _try(lambda layer=layer, y=y: layer(_image(), y), option)
        _close(got, want, f"with {given}", f"the layer's {option} is not that of A")
    _reach(layer, got)
    low = layer(_image().bfloat16(), y.bfloat16())
    expect(low.dtype == torch.bfloat16, f"bfloat16 in, {describe(low)} out")
    return "y + s·B*(A*x) by hand; stride, padding, dilation, padding mode, groups; bfloat16"


def _close(got: Any, want: Tensor, when: str, why: str) -> None:
    """As `expect_close`, with `why` where values or shape differ."""
    expect(got is not None, f"{when} the output is None: is there a `return`?")
    expect(isinstance(got, Tensor), f"{when} the output is {describe(got)}")
    same = got.shape == want.shape and torch.allclose(got, want, atol=1e-3)
    expect(same, f"{when} the output is not that of the kernel with s · BA in it: {why}")


def notes_conv(answer: Any) -> str:
    """The note's class: runs, starts at zero, folds with every option."""
    torch.manual_seed(5)
    frozen = nn.Conv2d(4, 6, 3)
    layer = answer(frozen, rank=2, lora_alpha=8)
    for name in ("lora_a", "lora_b"):
        part: Any = getattr(layer, name, None)
        expect(isinstance(part, nn.Conv2d), f"`{name}` should be an nn.Conv2d: {describe(part)}")
        expect(part.bias is None, f"`{name}` has a bias, which no ΔW holds: bias=False")
        expect(part.weight.requires_grad, f"`{name}` must stay trainable")
    y = frozen(_image())
    got = layer(_image())
    expect(got is not None, "forward returns None: is there a `return`?")
    a, b = layer.lora_a.weight, layer.lora_b.weight
    expect((a != 0).any() or (b != 0).any(), "A and B are both zero: neither learns")
    expect((a != 0).any(), "A is zero; asked for is B zero and A random")
    expect(torch.equal(b, torch.zeros_like(b)), "B is not zero: the output changes before training")
    expect_close(got, y, "before training the output", [(2 * y, "the frozen output counts twice")])
    for option, given in {"plain": {}, **OPTIONS}.items():
        torch.manual_seed(6)
        frozen = nn.Conv2d(4, 6, 3, **given)
        layer = answer(frozen, rank=2, lora_alpha=8)
        nn.init.normal_(layer.lora_b.weight)
        with torch.no_grad():
            y, want = _folded(frozen, layer.lora_a.weight, layer.lora_b.weight, 4.0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                got = _try(lambda layer=layer: layer(_image()), option)
            if option == "plain":
                update = F.conv2d(F.conv2d(_image(), layer.lora_a.weight), layer.lora_b.weight)
                known = [
                    (y, "the update is missing: the layer's output comes back as it was"),
                    (4 * update, "the layer's output is missing: only the update is returned"),
                    (y + update, "the scale s is missing"),
                    (y + 16 * update, "the scale s is applied twice"),
                    (4 * (y + update), "the layer's output is scaled too"),
                ]
                expect_close(got, want, "the output", known, atol=1e-3)
        _close(got, want, f"with {given}", f"lora_a has not the layer's {option}")
    return "runs, starts at the layer's output, folds with stride, padding, mode and dilation"
