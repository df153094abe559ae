"""Ours and Hugging Face peft's LoRA on the same base with the same numbers, and comparing them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from conftest import inputs, logits, shake, tiny
from kbit_models import quiet
from test_peft_equality import distance
from test_qlora import grads
from torch import Tensor, nn

import minipeft
from minipeft import LoraConfig, get_peft_model
from minipeft.tuner.slots import Wrapper

# float32, relative to the largest entry, as in test_peft_equality.py: outputs, gradients. There the
# largest differences measured, on T5, are a quarter of these.
BOUNDS = (5e-5, 4e-4)
# Fifty times float64's spacing at the size of the entries here: sums of at most 64 products.
FLOAT64 = (1e-12, 1e-11)


def base_of(name: str) -> Callable[[], Any]:
    """A maker of fresh copies of a tiny model."""
    return lambda: tiny(name)


def ours_on(make: Callable[[], Any], **options: Any) -> Any:
    """Our adapter on a fresh base, filled with numbers."""
    model = get_peft_model(make(), LoraConfig(**{"r": 4, **options})).eval()
    shake(model)
    return model


def theirs_on(peft: Any, make: Callable[[], Any], **options: Any) -> Any:
    """peft's adapter on a fresh base, filled with numbers."""
    with quiet():  # it says that it has set fan_in_fan_out on GPT-2
        model = peft.get_peft_model(make(), peft.LoraConfig(**{"r": 4, **options})).eval()
    shake(model, seed=3)
    return model


def their_state(peft: Any, theirs: Any) -> dict[str, Tensor]:
    """The tensors of peft's adapter by their names on disk, without its base's embeddings."""
    state: dict[str, Tensor] = peft.get_peft_model_state_dict(theirs, save_embedding_layers=False)
    return state


def pair(peft: Any, make: Callable[[], Any], **options: Any) -> tuple[Any, Any]:
    """Ours and theirs with the same weights, whose names and shapes agree."""
    ours, theirs = ours_on(make, **options), theirs_on(peft, make, **options)
    state = minipeft.get_peft_model_state_dict(ours)
    known = their_state(peft, theirs)
    assert {k: t.shape for k, t in state.items()} == {k: t.shape for k, t in known.items()}
    moved = peft.set_peft_model_state_dict(theirs, state)
    assert not moved.unexpected_keys
    return ours, theirs


def answer(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """What the model answers, without gradients."""
    with torch.no_grad():
        return logits(model(**batch))


def run(model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Outputs and the gradients of what is trained, under names that both libraries share."""
    model.zero_grad()
    out = model(**batch)
    (out.square().mean() if isinstance(out, Tensor) else out.loss).backward()
    found = {
        name.replace("lora_embedding_", "lora_").replace(".lora.", "."): g
        for name, g in grads(model).items()
    }
    return logits(out).detach(), found


def compare(
    ours: Any, theirs: Any, batch: dict[str, Tensor] | str, bounds: tuple[float, float] = BOUNDS
) -> None:
    """The same outputs, gradients and numbers of parameters, within the bounds."""
    batch = inputs(batch) if isinstance(batch, str) else batch
    (mine, a), (other, b) = run(ours, batch), run(theirs, batch)
    assert distance(other, mine) <= bounds[0]
    assert a.keys() == b.keys()
    assert all(distance(b[key], a[key]) <= bounds[1] for key in a)
    assert all(grad.abs().max() > 0 for grad in a.values())
    assert ours.get_nb_trainable_parameters() == theirs.get_nb_trainable_parameters()


def both_ways(
    peft: Any,
    folder: Path,
    make: Callable[[], Any],
    batch: dict[str, Tensor],
    ours: Any,
    theirs: Any,
    bound: float = BOUNDS[0],
) -> None:
    """Each reads what the other wrote; `theirs` has numbers of its own afterwards.

    peft sorts its file by keys, and so forgets in which order patterns were given: what it wrote
    is compared with what it reads itself.
    """
    ours.save_pretrained(folder / "ours")
    with quiet():
        read = peft.PeftModel.from_pretrained(make(), folder / "ours").eval()
    assert distance(answer(ours, batch), answer(read, batch)) <= bound
    shake(theirs, seed=7)
    with quiet():
        theirs.save_pretrained(folder / "theirs")
        again = peft.PeftModel.from_pretrained(make(), folder / "theirs").eval()
    back = minipeft.PeftModel.from_pretrained(make(), folder / "theirs")
    assert distance(answer(again, batch), answer(back, batch)) <= bound
    assert distance(answer(ours, batch), answer(back, batch)) > 1e-3  # other numbers


def adapters_of(model: Any, name: str = "default") -> dict[str, Any]:
    """Our method modules by the dotted name of their layer."""
    found = model.get_base_model().named_modules()
    return {n: m.adapters[name] for n, m in found if isinstance(m, Wrapper) and name in m.adapters}


def their_layers(theirs: Any, name: str = "default") -> dict[str, Any]:
    """peft's LoRA layers by the dotted name of their layer."""
    found = theirs.get_base_model().named_modules()
    return {n: m for n, m in found if hasattr(m, "lora_A") and name in m.r}


def ranks_and_scales(model: Any) -> dict[str, tuple[int, float]]:
    """(r, s) of each adapted layer, in ours or theirs."""
    if isinstance(model, minipeft.PeftModel):
        own = adapters_of(model)
        return {n: (rank_of(m), m.scaling) for n, m in own.items()}
    return {n: (m.r["default"], m.scaling["default"]) for n, m in their_layers(model).items()}


def rank_of(method: nn.Module) -> int:
    """The rank of one of our modules: the first size of its A."""
    return next(p.shape[0] for n, p in method.named_parameters() if re.search(r"lora_\w*A$", n))


def factors(method: nn.Module) -> tuple[nn.Parameter, nn.Parameter]:
    """A and B of one module."""
    named = dict(method.named_parameters())
    a, b = (next(p for n, p in named.items() if n.endswith(end)) for end in ("_A", "_B"))
    return a, b
