"""The checks of trial.py that look at dtypes, at configs, and at lines of code."""

from __future__ import annotations

import ast
from typing import Any

import torch
from torch import nn

from ..expect import Wrong, describe, expect, expect_close


def _layer(answer: Any, dtype: torch.dtype) -> Any:
    """W = 0, so that the output is the update: 2 · (1 + 2⁻⁹ - 1), which 16 bits would lose."""
    base = nn.Linear(2, 1, bias=False).to(dtype)
    nn.init.zeros_(base.weight)
    layer = answer(base, rank=2, lora_alpha=4)
    for name in ("lora_A", "lora_B"):
        expect(hasattr(layer, name), f"the layer has no {name}")
    with torch.no_grad():
        layer.lora_A.copy_(torch.tensor([[1 + 2**-9, 0.0], [-1.0, 0.0]]))
        layer.lora_B.copy_(torch.tensor([[1.0, 1.0]]))
    return layer


def half(answer: Any) -> str:
    """The same numbers beside a base in 32 bits and in 16."""
    x, want = torch.tensor([[1.0, 5.0]]), torch.tensor([[2.0**-8]])
    expect_close(_layer(answer, torch.float32)(x), want, "the output beside a layer in 32 bits")
    layer = _layer(answer, torch.bfloat16)
    got = layer(x.bfloat16())
    for name in ("lora_A", "lora_B"):
        kept = layer.get_parameter(name).dtype
        expect(kept == torch.float32, f"{name} is stored in {kept} now; it stays in 32 bits")
    frozen = layer.base_layer.weight.dtype
    expect(frozen == torch.bfloat16, f"the frozen layer is in {frozen} now: twice the memory")
    if isinstance(got, torch.Tensor) and got.dtype == torch.float32:
        raise Wrong("beside a layer in 16 bits the output is in 32; the next layer expects 16")
    lost = "the update was computed in 16 bits: 1 + 2^-9 is 1 there, and the rows of A cancel"
    expect_close(got, want.bfloat16(), "the output", diagnose=[(0 * want.bfloat16(), lost)])
    with torch.no_grad():
        layer.base_layer.weight.copy_(torch.tensor([[1.0, 2.0]]))
        layer.lora_A.copy_(torch.eye(2))
    out = layer(x.bfloat16())
    known = [
        (torch.tensor([[11.0]]), "the update is lost: only base_output comes back"),
        (torch.tensor([[12.0]]), "base_output is lost: only the update comes back"),
        (torch.tensor([[17.0]]), "the scale is lost"),
    ]
    expect_close(out, torch.tensor([[23.0]]).bfloat16(), "the output", diagnose=known)
    out.sum().backward()
    for name in ("lora_A", "lora_B"):
        grad = layer.get_parameter(name).grad
        expect(grad is not None, f"no gradient reaches {name}: was it detached on the way?")
    return "beside 16 bits the output has 16, the update 32; A, B and the frozen layer stay"


_OPTIONS: dict[str, dict[str, Any]] = {
    "rank-stabilised": {"use_rslora": True},
    "dora": {"use_dora": True},
    "replicated": {"layer_replication": [(0, 4), (2, 5)]},
    "all-linear": {"target_modules": "all-linear"},
}
_OFF: dict[str, Any] = {"use_rslora": False, "use_dora": False, "layer_replication": None}


def _plain(value: Any) -> Any:
    """Lists, tuples and sets alike."""
    if isinstance(value, set):
        return sorted(value)
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def dots(answer: Any) -> str:
    """The options of each config."""
    expect(isinstance(answer, dict), f"give a dictionary; this is {describe(answer)}")
    keys = list(_OPTIONS)
    expect(
        sorted(answer, key=str) == sorted(keys), f"the keys are {keys}; these are {list(answer)}"
    )
    for name, own in _OPTIONS.items():
        config = answer[name]
        expect(
            hasattr(config, "lora_alpha"),
            f"{name!r} should be a LoraConfig, but it is {describe(config)}",
        )
        wanted = {"r": 4, "lora_alpha": 32, "target_modules": ["c_attn"], **_OFF, **own}
        for option, want in wanted.items():
            got = getattr(config, option)
            if _plain(got) == _plain(want):
                continue
            why = "the note's own option is lost" if option in own else "an option of another"
            if option in ("r", "lora_alpha"):
                why = "that is the default, and not what the dots stand for"
            elif option == "target_modules" and option not in own:
                why = "`given` says which layers"
            raise Wrong(f"{name!r}: {option} is {got!r}, and should be {want!r}: {why}")
    return "each config has its own option, and r, α and the layers that the dots stand for"


# Per cell: the names it lacks, and what each may be.
_LACKS: dict[str, dict[str, tuple[str, ...]]] = {
    "000:L17": {"peft": ("peft", "minipeft")},
    "001:L128": {
        "AutoModelForCausalLM": ("transformers.AutoModelForCausalLM",),
        "PeftModel": ("peft.PeftModel", "minipeft.PeftModel"),
    },
    "003:L180": {"torch": ("torch",)},
}


def _bound(cell: str, text: Any) -> dict[str, str]:
    """{name: what it is} of import lines, as in {"nn": "torch.nn"}."""
    expect(isinstance(text, str), f"{cell}: give the lines as one string; this is {describe(text)}")
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise Wrong(f"{cell}: that is no Python: {error.msg}, in {error.text!r}") from None
    found: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Import):
            found |= {a.asname or a.name: a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
        else:
            raise Wrong(f"{cell}: {ast.unparse(node)!r} is no import line")
    return found


def needed(answer: Any) -> str:
    """Which names the lines bind, and to what."""
    expect(isinstance(answer, dict), f"give a dictionary; this is {describe(answer)}")
    keys = list(_LACKS)
    expect(sorted(answer, key=str) == keys, f"the keys are {keys}; these are {list(answer)}")
    for cell, names in _LACKS.items():
        found = _bound(cell, answer[cell])
        for name, homes in names.items():
            if name not in found:
                modules = {home.rpartition(".")[0] for home in homes}
                more = "".join(
                    f"; `{known}` is, but the cell does not write {known}.{name}"
                    for known, it in found.items()
                    if it in modules
                )
                raise Wrong(f"{cell}: NameError: name {name!r} is not defined{more}")
            it = found[name]
            expect(it in homes, f"{cell}: {name} is {it} now; it should be {' or '.join(homes)}")
        spare = sorted(set(found) - set(names))
        expect(not spare, f"{cell}: it does not use {', '.join(spare)}, or has it already")
    return "with these lines each cell knows every name that it uses"
