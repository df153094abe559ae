"""What the exercises of lesson 15 test on names and on the class of note 004."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..expect import Wrong, describe, expect, expect_close, expect_number
from ._inside_peft import frozen, tied

PATH = "base_model.model.h.0.attn"


def on_disk(answer: Any) -> str:
    """Adapters with names that stand elsewhere in the parameter's name too."""
    if not callable(answer):
        raise Wrong(f"hand over the function itself; this is {describe(answer)}")
    for adapter in ("default", "attn", "0", "lora_A", "weight"):
        for matrix in ("lora_A", "lora_B"):
            name, want = f"{PATH}.{matrix}.{adapter}.weight", f"{PATH}.{matrix}.weight"
            got = answer(name, adapter)
            expect(got is not None, "the result is None: is there a `return`?")
            expect(isinstance(got, str), f"return a str; this is {describe(got)}")
            _named(got, name, want, adapter)
    frozen_ = f"{PATH}.base_layer.weight"
    got = answer(frozen_, "default")
    expect(got == frozen_, f"{frozen_!r} has no adapter's name in it, and becomes {got!r}")
    return "five names of adapters, some of which stand in the path as well; a frozen weight"


def _named(got: str, name: str, want: str, adapter: str) -> None:
    if got == want:
        return
    said = f"on_disk({name!r}, {adapter!r}) is {got!r}"
    expect(got != name, f"{said}: the adapter's name is still there")
    expect(got.startswith("base_model.model."), f"{said}: the file keeps base_model.model.")
    expect(got.endswith(".weight"), f"{said}: the file keeps .weight")
    expect("lora_" in got, f"{said}: which matrix is it? the file keeps lora_A or lora_B")
    if not got.startswith(PATH):
        raise Wrong(f"{said}: the path has lost its {adapter!r}; only the one after lora_ goes")
    raise Wrong(f"{said}; it should be {want!r}")


class _Doubled(nn.Linear):
    """Another kind of layer: 2 (W x + b)."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return 2 * super().forward(input)


def subclass(answer: Any) -> str:
    """Hand numbers, a weight with two names, another kind of layer, what is trained."""
    if not isinstance(answer, type):
        raise Wrong(f"hand over the class itself; this is {describe(answer)}")
    words, head = tied()
    made: Any = answer(head, 1, 0.5)
    _computes(made, head)
    weights = [p for p in made.parameters() if p is words.weight]
    expect(
        weights,
        "the weight is a copy: it was the embedding's too, and the adapted layer has its own now",
    )
    _runs_its_layer(answer)
    expect(frozen(head), "W and b of the layer are trained; they are to be frozen")
    free = made.lora_A.requires_grad and made.lora_B.requires_grad
    expect(free, "A and B are frozen too: requires_grad_(False) reaches them")
    return "numbers by hand, one weight with two names, a layer of another kind, W frozen"


def _computes(made: Any, head: nn.Linear) -> None:
    with torch.no_grad():
        made.lora_A.copy_(torch.tensor([[1.0, -1.0]]))
        made.lora_B.copy_(torch.tensor([[2.0], [4.0], [6.0]]))
    x = torch.tensor([[[10.0, 4.0]]])  # W x + b = [118, 246, 374]; A x = 6; s B A x = [6, 12, 18]
    known = [
        (torch.tensor([[[118.0, 246.0, 374.0]]]), "the update is missing: that is W x + b alone"),
        (torch.tensor([[[6.0, 12.0, 18.0]]]), "W x + b is missing: that is the update alone"),
        (torch.tensor([[[130.0, 270.0, 410.0]]]), "the update is twice too large: where is s?"),
        (torch.tensor([[[24.0, 58.0, 92.0]]]), "b is missing"),
    ]
    expect_close(made(x), torch.tensor([[[124.0, 258.0, 392.0]]]), "the output", known)


def _runs_its_layer(answer: Any) -> None:
    layer = _Doubled(2, 2)
    x = torch.ones(1, 2)
    want = layer(x)
    message = (
        "a layer whose forward is 2 (W x + b) is given, and its forward is not run: call the layer"
    )
    got = answer(layer, 1, 0.5)(x)
    expect_close(got, want, "for another kind of layer the output", [(want / 2, message)])


def predict_layers(answer: Any) -> str:
    """The counts of both libraries, which the lesson's test asks too."""
    names = "abcdef"
    if not isinstance(answer, Mapping) or sorted(map(str, answer)) != list(names):
        raise Wrong(f"asked for is a dict with the keys a to f; this is {describe(answer)}")
    string = "a string must match the whole name, and c_proj is not one; it is refused"
    known: dict[str, tuple[float, list[tuple[float, str]]]] = {
        "a": (24, [(12, "each block has two layers that end in .c_proj")]),
        "b": (0, [(24, string), (12, string), (1, string)]),
        "c": (
            3,
            [
                (1, "h\\.1.* goes on as it likes: blocks 10 and 11 begin with h.1 as well"),
                (12, "only names that begin with transformer.h.1: blocks 1, 10 and 11"),
                (2, "blocks 1, 10 and 11"),
                (0, "the string matches whole names: transformer.h.1.attn.c_attn is one"),
            ],
        ),
        "d": (
            1,
            [
                (2, "an ending begins after a dot, so 11.mlp.c_proj is not meant"),
                (3, "an ending begins after a dot, so 11 is not meant, and 10 ends in 0"),
                (12, "only block 1"),
                (0, "transformer.h.1.mlp.c_proj ends in .1.mlp.c_proj"),
            ],
        ),
        "e": (12, [(24, "a layer that two entries mean is wrapped once")]),
        "f": (
            48,
            [
                (49, "the output layer, lm_head, is left out"),
                (4, "that is one block; there are 12"),
                (24, "four linear layers in each of 12 blocks: Conv1D is linear too"),
                (1, "GPT-2's Conv1D layers are linear too; and lm_head is left out"),
                (0, "GPT-2's Conv1D layers are linear too"),
            ],
        ),
    }
    for name in names:
        want, mistakes = known[name]
        expect_number(answer[name], want, f"{name!r}", mistakes)
    return "24, refused, 3 (blocks 1, 10, 11), 1, 12 and 48"
