"""Mistakes and accidents while saving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from conftest import shake, tiny
from machine import WEIGHTS, Case, Lab, answer
from safetensors.torch import load_file


def into(target: Any, **more: Any) -> Any:
    """Save a good model into a target, made from the lab's place."""

    def run(lab: Lab) -> Any:
        model = lab.adapted()
        where = target(lab) if callable(target) else target
        return model.save_pretrained(where, **more)

    return run


def a_file(lab: Lab) -> Path:
    (lab.place / "file").write_text("mine")
    return lab.place / "file"


def below_a_file(lab: Lab) -> Path:
    return a_file(lab) / "sub"


def with_nan(lab: Lab) -> bool:
    """Diverged numbers: nobody should find out at the next start."""
    model = lab.adapted()
    with torch.no_grad():
        next(p for n, p in model.named_parameters() if "lora_" in n).view(-1)[0] = float("nan")
    model.save_pretrained(lab.place / "out")
    return False


def chosen(names: Any) -> Any:
    """selected_adapters."""

    def run(lab: Lab) -> bool:
        model = lab.two()
        model.save_pretrained(lab.place / "out", selected_adapters=names)
        return (lab.place / "out" / "other" / WEIGHTS).exists()

    return run


def unloaded(lab: Lab) -> bool:
    model = lab.adapted()
    model.unload()
    lab.watch(model).save_pretrained(lab.place / "out")
    return False


def emptied(lab: Lab) -> bool:
    """All adapters deleted."""
    model = lab.adapted()
    model.delete_adapter("default")
    lab.watch(model).save_pretrained(lab.place / "out")
    return False


def on_meta(lab: Lab) -> bool:
    model = lab.lib.get_peft_model(tiny("gpt2").to("meta"), lab.lora())
    model.save_pretrained(lab.place / "out")
    return False


def while_merged(lab: Lab) -> bool:
    """What is saved while merged loads as what it was."""
    model = lab.adapted()
    before = answer(model)
    model.merge_adapter()
    model.save_pretrained(lab.place / "out")
    loaded = lab.load(lab.place / "out")
    return torch.allclose(answer(loaded.eval()), before, atol=1e-5)


def names_that_begin_alike(*names: str) -> Any:
    """Adapters whose names begin or end alike: each file holds its own parameters, all of them."""

    def run(lab: Lab) -> bool:
        model = lab.lib.get_peft_model(tiny("gpt2"), lab.lora(), adapter_name=names[0])
        for i, name in enumerate(names[1:]):
            model.add_adapter(name, lab.lora(r=5 + i))
        for i, name in enumerate(names):
            model.set_adapter(name)
            shake(model, seed=i)
        model.save_pretrained(lab.place / "out")
        for i, name in enumerate(names):
            model.set_adapter(name)
            folder = lab.place / "out" / name
            found = load_file(folder / WEIGHTS)
            if len(found) != 4 or {min(t.shape) for t in found.values()} != {5 + i - 1 if i else 4}:
                return False
            if not torch.equal(answer(lab.load(folder).eval()), answer(model.eval())):
                return False
        return True

    return run


def over(first: dict[str, Any], second: dict[str, Any]) -> Any:
    """A second save into the folder of a first: the second is what loads."""

    def run(lab: Lab) -> bool:
        lab.saved("out", seed=3, **first)
        return lab.right(lab.load(lab.saved("out", **second)))

    return run


def over_another_method(lab: Lab) -> bool:
    prompt = lab.lib.PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM")
    lab.lib.get_peft_model(tiny("gpt2"), prompt).save_pretrained(lab.place / "out")
    return lab.right(lab.load(lab.saved("out")))


def beside_a_pickle(lab: Lab) -> bool:
    """An old adapter_model.bin beside must not win."""
    (lab.place / "out").mkdir()
    torch.save({"old": torch.ones(1)}, lab.place / "out" / "adapter_model.bin")
    return lab.right(lab.load(lab.saved("out")))


def through_a_link(lab: Lab) -> bool:
    """A link in the folder: what it points to is not written over."""
    outside = lab.place / "precious.safetensors"
    outside.write_bytes(b"precious")
    (lab.place / "out").mkdir()
    (lab.place / "out" / WEIGHTS).symlink_to(outside)
    folder = lab.saved("out")
    return lab.right(lab.load(folder)) and outside.read_bytes() == b"precious"


def link_lost(lab: Lab) -> bool:
    outside = lab.place / "precious.safetensors"
    return not outside.exists() or outside.read_bytes() != b"precious"


def subfolder_link(lab: Lab) -> bool:
    """The second adapter's subfolder is a link to another adapter's folder."""
    precious = lab.saved("precious")
    model = lab.two()
    (lab.place / "out").mkdir()
    (lab.place / "out" / "other").symlink_to(precious)
    model.save_pretrained(lab.place / "out")
    return lab.loads(precious)


def precious_lost(lab: Lab) -> bool:
    return not lab.loads(lab.place / "precious")


def fails_while_writing(lab: Lab) -> bool:
    """The disk is full at the second save."""
    import resource
    import signal

    folder = lab.saved("precious")
    model = lab.adapted(r=8)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        model.save_pretrained(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    return False


def tied_head_copy(lab: Lab) -> bool:
    """A tied head as a module to save: its copy is what is saved."""
    model = lab.lib.get_peft_model(tiny("gpt2"), lab.lora(modules_to_save=["lm_head"]))
    shake(model)
    with torch.no_grad():
        for n, p in model.named_parameters():
            if p.requires_grad and "lm_head" in n:
                p.mul_(1.5)
    before = answer(model.eval())
    model.save_pretrained(lab.place / "out")
    return torch.allclose(answer(lab.load(lab.place / "out").eval()), before, atol=1e-5)


CASES = [
    Case("onto a file", "save", into(a_file), ("file",)),
    Case("below a file", "save", into(below_a_file), ("file",)),
    Case("into None", "save", into(None), ("None",)),
    Case("into a number", "save", into(3), ("3", "int")),
    Case("into an empty name", "save", into(""), ("folder", "''", "directory")),
    Case("into bytes", "save", into(b"bytes"), ("folder", "bytes")),
    Case("an adapter with NaN", "save", with_nan, ("NaN",)),
    Case("selected_adapters misspelt", "save", chosen(["othr"]), ("othr",)),
    Case("selected_adapters half known", "save", chosen(["other", "nobody"]), ("nobody",)),
    Case("selected_adapters as a string", "save", chosen("other"), ("other",), bool),
    Case("selected_adapters empty", "save", chosen([]), ("selected_adapters",)),
    Case("selected_adapters with a number", "save", chosen([3]), ("3",)),
    Case("an unloaded handle", "save", unloaded, ("unload",)),
    Case("a model whose adapters were deleted", "save", emptied, ("no adapter", "adapter")),
    Case("a model on meta", "save", on_meta, ("meta",)),
    Case("while merged", "save", while_merged, ("merged",), bool),
    Case("names that begin alike", "save", names_that_begin_alike("fr", "fr2", "f"), ("fr",), bool),
    Case("names that end alike", "save", names_that_begin_alike("en", "de_en", "n"), ("en",), bool),
    Case("names like parts of keys", "save", names_that_begin_alike("A", "B", "lora"), ("A",), bool),
    Case("over an adapter with another rank", "save", over({"r": 2}, {"r": 4}), ("r",), bool),
    Case("over an adapter with another alpha", "save", over({"lora_alpha": 64}, {"lora_alpha": 1}), ("a",), bool),
    Case("over an adapter with other targets", "save", over({"target_modules": ["c_fc"]}, {}), ("target",), bool),
    Case("over an adapter of another method", "save", over_another_method, ("peft_type",), bool),
    Case("beside an old pickle", "save", beside_a_pickle, ("adapter_model.bin",), bool),
    Case("onto a link", "save", through_a_link, ("link",), bool, lost=link_lost),
    Case("into a subfolder that is a link", "save", subfolder_link, ("link",), bool, lost=precious_lost),
    Case("a disk that fills", "save", fails_while_writing, ("cannot be written", "too large"), lost=precious_lost),
    Case("a tied head as a module to save", "save", tied_head_copy, ("tie",), bool),
]  # fmt: skip
