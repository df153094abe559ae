"""Damaged folders, edited configs, other bases, and mistaken arguments while loading."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from conftest import tiny
from machine import CONFIG, WEIGHTS, Case, Lab
from safetensors.torch import load_file, save_file


def damaged(how: Callable[[Path], Any], trainable: bool = False) -> Any:
    """Save a good adapter, damage the folder, load it."""

    def run(lab: Lab) -> bool:
        folder = lab.saved()
        how(folder)
        return lab.right(lab.load(folder, is_trainable=trainable))

    return run


def bytes_of(which: str, change: Callable[[bytes], bytes]) -> Any:
    def how(folder: Path) -> None:
        (folder / which).write_bytes(change((folder / which).read_bytes()))

    return damaged(how)


def flipped(data: bytes, at: int, bit: int = 0) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1 << bit
    return bytes(changed)


def tensors(change: Callable[[dict[str, Any]], Any]) -> Any:
    """Other tensors under the same header, as a tool would write them."""

    def how(folder: Path) -> None:
        found = load_file(folder / WEIGHTS)
        change(found)
        save_file(found, folder / WEIGHTS, metadata={"format": "pt"})

    return damaged(how)


def first(found: dict[str, Any]) -> str:
    return sorted(found)[0]


def edited(change: Callable[[dict[str, Any]], Any]) -> Any:
    """The config, edited by hand."""

    def how(folder: Path) -> None:
        values = json.loads((folder / CONFIG).read_text())
        change(values)
        (folder / CONFIG).write_text(json.dumps(values))

    return damaged(how)


def text(new: str | bytes) -> Any:
    """The config, replaced."""
    data = new if isinstance(new, bytes) else new.encode()
    return bytes_of(CONFIG, lambda _: data)


def twice(folder: Path) -> None:
    """`lora_alpha` given twice."""
    whole = (folder / CONFIG).read_text()
    (folder / CONFIG).write_text(whole.rstrip().rstrip("}").rstrip() + ', "lora_alpha": 64}')


def other_base(name: str, **changes: Any) -> Any:
    """Load onto another model."""

    def run(lab: Lab) -> bool:
        folder = lab.saved()
        base = tiny(name)
        if changes:
            from transformers import GPT2Config, GPT2LMHeadModel

            base = GPT2LMHeadModel(GPT2Config(**{**base.config.to_dict(), **changes})).eval()
        lab.load(folder, lab.watch(base))
        return False

    return run


def other_name(lab: Lab) -> bool:
    """An adapter for bloom-560m on bloomz-560m: it loads, and means something else there."""
    folder = lab.saved()
    values = json.loads((folder / CONFIG).read_text())
    values["base_model_name_or_path"] = "bigscience/bloom-560m"
    (folder / CONFIG).write_text(json.dumps(values))
    base = tiny("gpt2")
    base.config._name_or_path = "bigscience/bloomz-560m"
    lab.load(folder, lab.watch(base))
    return False


def mixed(which: str, **other: Any) -> Any:
    """One file of each of two adapters."""

    def run(lab: Lab) -> bool:
        second = lab.saved("second", seed=9, **other)
        folder = lab.saved()
        shutil.copy(second / which, folder / which)
        return lab.right(lab.load(folder))

    return run


def only(which: str) -> Any:
    def how(folder: Path) -> None:
        for path in folder.iterdir():
            if path.name != which:
                path.unlink()

    return damaged(how)


class Fires:
    """A pickle that leaves a trace when it is read."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self.trace,)


def armed(lab: Lab) -> bool:
    """Only a pickle that runs code: reading it is the damage."""
    folder = lab.saved()
    (folder / WEIGHTS).unlink()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Fires(lab.place / "fired")))
    lab.load(folder)
    return False


def fired(lab: Lab) -> bool:
    return (lab.place / "fired").exists()


def pickled(lab: Lab) -> bool:
    folder = lab.saved()
    torch.save(load_file(folder / WEIGHTS), folder / "adapter_model.bin")
    (folder / WEIGHTS).unlink()
    return lab.right(lab.load(folder))


def linked(lab: Lab) -> bool:
    """The weights are a link to a file elsewhere."""
    other, folder = lab.saved("elsewhere", seed=9), lab.saved()
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to(other / WEIGHTS)
    lab.load(folder)
    return False


def call(*args: Any, **more: Any) -> Any:
    """from_pretrained with a mistaken argument, on a good folder if none is given."""

    def run(lab: Lab) -> Any:
        folder = lab.saved()
        given = [a(lab) if callable(a) else a for a in args] or [folder]
        return lab.right(lab.lib.PeftModel.from_pretrained(lab.base(), *given, **more))

    return run


def again(name: Any, **options: Any) -> Any:
    """load_adapter onto a model with "default"; its answer must not become a mixture."""

    def run(lab: Lab) -> bool:
        folder = lab.saved("good", **options)
        model = lab.adapted(r=2)
        model.load_adapter(folder, name)
        model.set_adapter(name)
        return lab.right(model)

    return run


def while_merged(lab: Lab) -> bool:
    folder = lab.saved()
    model = lab.adapted(r=2)
    model.merge_adapter()
    lab.watch(model).load_adapter(folder, "second")
    model.set_adapter("second")
    return lab.right(model)


def onto_adapted(lab: Lab) -> bool:
    folder = lab.saved()
    return lab.right(lab.load(folder, lab.adapted(r=2)))


def of_dropout(values: dict[str, Any]) -> None:
    values["lora_dropuot"] = values.pop("lora_dropout")


def set_(**changes: Any) -> Any:
    return edited(lambda values: values.update(changes))


def without(*names: str) -> Any:
    return edited(lambda values: [values.pop(name) for name in names])


def renamed(old: str, new: str) -> Any:
    return edited(lambda values: values.update({new: values.pop(old)}))


W, C = WEIGHTS, CONFIG
CASES = [
    *(
        Case(f"weights cut to {length} bytes", "load", bytes_of(W, lambda d, n=length: d[:n]), (W,))
        for length in (0, 1, 8, 100, 2000, -1)
    ),
    Case("weights with bytes behind", "load", bytes_of(W, lambda d: d + b"more"), (W,)),
    Case("weights of zeros", "load", bytes_of(W, lambda d: bytes(len(d))), (W,)),
    Case("weights of text", "load", bytes_of(W, lambda d: b"<html>404</html>" * 99), (W,)),
    Case("a Git LFS pointer", "load", bytes_of(W, lambda d: b"version https://git-lfs.github.com/spec/v1\n"), (W,)),
    *(
        Case(f"one bit flipped, {-at} bytes from the end", "load", bytes_of(W, lambda d, a=at: flipped(d, a)), (W, "lora"))
        for at in (-1, -4, -1000)
    ),
    Case("one exponent's bit flipped", "load", bytes_of(W, lambda d: flipped(d, -1, 6)), (W, "lora")),
    Case("one bit of the header flipped", "load", bytes_of(W, lambda d: flipped(d, 9, 1)), (W,)),
    Case("NaN among the numbers", "load", tensors(lambda t: t[first(t)].view(-1)[3:4].fill_(float("nan"))), ("NaN",)),
    Case("infinity among the numbers", "load", tensors(lambda t: t[first(t)].view(-1)[3:4].fill_(float("inf"))), ("infinity", "inf")),
    Case("a tensor missing", "load", tensors(lambda t: t.pop(first(t))), ("lora_A",)),
    Case("half of the tensors missing", "load", tensors(lambda t: [t.pop(k) for k in list(t) if "lora_B" in k]), ("lora_B",)),
    Case("all tensors missing", "load", tensors(lambda t: t.clear()), ("lora_", "no tensors", "lacks")),
    Case("a tensor too many", "load", tensors(lambda t: t.update(stray=torch.ones(2))), ("stray",)),
    Case("a tensor under a misspelt name", "load", tensors(lambda t: t.update({first(t).replace("lora_A", "lora_a"): t.pop(first(t))})), ("lora_A", "lora_a")),
    Case("a tensor of another shape", "load", tensors(lambda t: t.update({first(t): torch.ones(4, 15)})), ("15",)),
    Case("a tensor transposed", "load", tensors(lambda t: t.update({first(t): t[first(t)].T.contiguous()})), ("shape", "size")),
    Case("a tensor of integers", "load", tensors(lambda t: t.update({first(t): t[first(t)].int()})), ("int32", "dtype")),
    Case("an empty config", "load", text(""), (C, "JSON", "Expecting")),
    Case("half a config", "load", text('{"peft_type": "LORA", "r": '), (C, "line 1")),
    Case("a config that is a list", "load", text("[1, 2]"), (C,)),
    Case("a config that is null", "load", text("null"), (C,)),
    Case("a config in UTF-16", "load", text('{"peft_type": "LORA"}'.encode("utf-16")), (C, "utf-8", "codec")),
    Case("a config with a comma too many", "load", text('{"peft_type": "LORA", "r": 4,}'), (C, "line 1")),
    Case("an option given twice in the config", "load", damaged(twice), ("lora_alpha",)),
    Case("no peft_type", "load", without("peft_type"), ("peft_type",)),
    Case("an unknown peft_type", "load", set_(peft_type="LORO"), ("LORO",)),
    Case("peft_type in lower case", "load", set_(peft_type="lora"), ("lora",)),
    Case("a misspelt option", "load", renamed("lora_alpha", "lora_alfa"), ("lora_alfa",)),
    Case("a misspelt option at zero", "load", edited(of_dropout), ("lora_dropuot",), bool),
    Case("r as a string", "load", set_(r="4"), ("r must", "r=", "'4'", "str")),
    Case("r missing", "load", without("r"), ("r:", "shape", "size")),
    Case("lora_alpha missing", "load", without("lora_alpha"), ("lora_alpha",), bool),
    Case("use_rslora as a string", "load", set_(use_rslora="False"), ("use_rslora",)),
    Case("use_dora switched on", "load", set_(use_dora=True), ("dora", "magnitude")),
    Case("lora_alpha edited", "load", set_(lora_alpha=64), ("lora_alpha",)),
    Case("r edited", "load", set_(r=8), ("shape", "size", "r:")),
    Case("use_rslora switched on", "load", set_(use_rslora=True), ("use_rslora",)),
    Case("r = a billion", "load", set_(r=10**9), ("asks for", "memory", "r:")),
    Case("targets edited", "load", set_(target_modules=["c_fc"]), ("c_fc", "c_attn")),
    Case("targets missing", "load", set_(target_modules=[]), ("target_modules",)),
    Case("an option from the future", "load", set_(quantum_lora=True), ("quantum_lora",)),
    Case("the config of an adapter with another alpha", "load", mixed(C, lora_alpha=64), ("lora_alpha",)),
    Case("the weights of another adapter of the same shape", "load", mixed(W, lora_alpha=64), ("lora_alpha",)),
    Case("the config of an adapter with another rank", "load", mixed(C, r=2), ("shape", "size", "r:")),
    Case("only the config", "load", only(C), (W, "adapter_model")),
    Case("only the weights", "load", only(W), (C,), bool),
    Case("a pickle that runs code", "load", armed, ("pickle", "adapter_model.bin", "weights_only"), lost=fired),
    Case("an adapter as a pickle", "load", pickled, ("pickle",), bool),
    Case("weights that are a link elsewhere", "load", linked, ("link",)),
    Case("a base with fewer layers", "load", other_base("gpt2", n_layer=1), ("layers", "h.1")),
    Case("a base with more layers", "load", other_base("gpt2", n_layer=4), ("layers", "h.2", "h.3")),
    Case("a base of another width", "load", other_base("gpt2", n_embd=32), ("shape", "size")),
    Case("a base of another name and the same shapes", "load", other_name, ("bloomz-560m",)),
    Case("a base of another architecture", "load", other_base("llama"), ("Llama", "c_attn")),
    Case("no model but a name", "load", lambda lab: lab.lib.PeftModel.from_pretrained("gpt2", lab.saved()), ("str", "model")),
    Case("a folder that is not there", "load", call(lambda lab: lab.place / "nowhere"), ("nowhere",)),
    Case("a name that is not on the hub", "load", call("nobody/nothing-of-this-name"), ("nobody/nothing",)),
    Case("an empty folder", "load", call(lambda lab: lab.place), (C,)),
    Case("the file instead of its folder", "load", call(lambda lab: lab.place / "good" / W), (W, "file")),
    Case("None as the folder", "load", call(None), ("None",)),
    Case("a number as the folder", "load", call(3), ("3", "int")),
    Case("is_trainable='False'", "load", call(is_trainable="False"), ("is_trainable",)),
    Case("is_trainable=1", "load", call(is_trainable=1), ("is_trainable",), bool),
    Case("is_trainable misspelt", "load", call(is_trainabel=True), ("is_trainabel",)),
    Case("trainable instead of is_trainable", "load", call(trainable=True), ("trainable",)),
    Case("a bad adapter name", "load", call(adapter_name="a.b"), ("a.b",)),
    Case("a subfolder that climbs", "load", call(subfolder="../good"), ("subfolder",), bool),
    Case("a subfolder that is not there", "load", call(subfolder="sub"), ("sub",)),
    Case("a subfolder that is a number", "load", call(subfolder=3), ("subfolder", "3", "int")),
    Case("a revision of a local folder", "load", call(revision="v9"), ("revision",)),
    Case("onto a model with adapters", "load", onto_adapted, ("adapters already", "already", "PeftModel"), bool),
    Case("onto a taken name, another rank", "load", again("default"), ("default",), bool),
    Case("onto a taken name, another alpha", "load", again("default", r=2, lora_alpha=99), ("default",), bool),
    Case("under a layer's name", "load", again("c_attn"), ("c_attn",), bool),
    Case("under no name", "load", again(""), ("name",)),
    Case("while another is merged", "load", while_merged, ("merged",), bool),
]  # fmt: skip
