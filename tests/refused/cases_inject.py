"""Mistakes in putting an adapter into a model."""

from __future__ import annotations

from typing import Any

import torch
from conftest import tiny
from machine import Case, Lab, answer
from torch import nn


def put(base: str = "gpt2", adapter_name: Any = "default", **options: Any) -> Any:
    """Put a LoRA into a tiny model."""

    def run(lab: Lab) -> Any:
        model = lab.base(base)
        config = lab.lora(**options)
        return lab.lib.get_peft_model(model, config, adapter_name)

    return run


def kind(name: str, base: str, **options: Any) -> Any:
    """Put another method into a tiny model."""
    return lambda lab: lab.lib.get_peft_model(lab.base(base), getattr(lab.lib, name)(**options))


def twice(lab: Lab) -> bool:
    """The same base a second time: the first handle's answer must survive, or it is refused."""
    base = tiny("gpt2")
    first = lab.lib.get_peft_model(base, lab.lora())
    from conftest import shake

    shake(first)
    before = answer(lab.watch(first.eval()))
    second = lab.lib.get_peft_model(base, lab.lora(r=2))
    del second
    return torch.equal(answer(first.eval()), before)


def around(lab: Lab) -> bool:
    """A PeftModel as the base."""
    first = lab.adapted()
    before = answer(first)
    both = lab.lib.get_peft_model(first, lab.lora(r=2, target_modules=["c_proj"]))
    both.save_pretrained(lab.place / "both")
    again = lab.lib.PeftModel.from_pretrained(tiny("gpt2"), lab.place / "both")
    return torch.allclose(answer(again.eval()), before, atol=1e-5)


def add(name: Any, config: Any = None) -> Any:
    """Add a second adapter."""

    def run(lab: Lab) -> Any:
        model = lab.adapted()
        made = config(lab) if config else lab.lora(r=2)
        return model.add_adapter(name, made)

    return run


def prompt(lab: Lab) -> Any:
    return lab.lib.PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM")


def overlap(lab: Lab) -> bool:
    """A module trained whole and adapted: exactly one of both may happen."""
    model = lab.lib.get_peft_model(
        lab.base(), lab.lora(target_modules=["c_attn"], modules_to_save=["attn.c_attn"])
    )
    names = [n for n, p in model.named_parameters() if p.requires_grad and ".0.attn.c_attn" in n]
    return not any("lora" in name for name in names) or len(names) == 2


def past_its_parts(lab: Lab) -> bool:
    """nn.TransformerEncoderLayer: in eval mode the adapter must count as in training mode."""
    torch.manual_seed(0)
    base = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    x = torch.randn(2, 3, 8)
    config = lab.lora(r=2, target_modules=["linear1"], init_lora_weights=False)
    model = lab.lib.get_peft_model(base, config)
    learned = model.train()(x)
    with torch.no_grad():
        return torch.allclose(model.eval()(x), learned, atol=1e-4)


def reads_itself(lab: Lab) -> bool:
    """nn.MultiheadAttention multiplies by out_proj.weight without calling out_proj."""
    torch.manual_seed(0)
    base = nn.MultiheadAttention(8, 2, batch_first=True)
    x = torch.randn(2, 3, 8)
    before = base(x, x, x)[0]
    holder = nn.ModuleDict({"attention": base})
    config = lab.lora(r=2, target_modules=["out_proj"], init_lora_weights=False)
    lab.lib.get_peft_model(lab.watch(holder), config)
    return not torch.allclose(holder["attention"](x, x, x)[0], before, atol=1e-4)


def all_linear_head(lab: Lab) -> bool:
    """all-linear leaves the classifier out, and trains it as a head."""
    model = lab.lib.get_peft_model(
        lab.base("gpt2_cls"), lab.lib.LoraConfig(target_modules="all-linear", task_type="SEQ_CLS")
    )
    names = [n for n, p in model.named_parameters() if p.requires_grad and "score" in n]
    return bool(names) and not any("lora" in n for n in names)


CASES = [
    Case("a target that is not there", "inject", put(target_modules=["q_proj"]), ("q_proj",)),
    Case("one target of two is not there", "inject", put(target_modules=["c_attn", "q_proj"]), ("q_proj",)),
    Case("a misspelt target", "inject", put(target_modules=["c_atn"]), ("c_attn",)),
    Case("one misspelt target of two", "inject", put(target_modules=["c_attn", "c_porj"]), ("c_porj",)),
    Case("a target in upper case", "inject", put(target_modules=["C_ATTN"]), ("C_ATTN",)),
    Case("an expression that matches a part", "inject", put(target_modules="c_attn"), ("c_attn",)),
    Case("an expression that matches nothing", "inject", put(target_modules=".*query"), ("query",)),
    Case("a target that is a LayerNorm", "inject", put(target_modules=["ln_1"]), ("ln_1",)),
    Case("a target that is a block", "inject", put(target_modules=["attn"]), ("attn", "GPT2Attention")),
    Case("a target that is a list of layers", "inject", put(target_modules=["h"]), ("ModuleList", "'h'")),
    Case("all targets excluded", "inject", put(exclude_modules=["c_attn"]), ("exclude_modules",)),
    Case("an exclusion that is not there", "inject", put(exclude_modules=["c_atn"]), ("c_atn",)),
    Case("an excluded expression without a match", "inject", put(exclude_modules=".*query"), ("query",)),
    Case("a module to save that is not there", "inject", put(modules_to_save=["scorer"]), ("scorer",)),
    Case("one of two modules to save is not there", "inject", put(modules_to_save=["ln_f", "scorer"]), ("scorer",)),
    Case("a module saved and adapted", "inject", overlap, ("c_attn", "modules_to_save"), bool),
    Case("a rank above the layer's own", "inject", put(r=64), ("r is above", "rank")),
    Case("a rank above a narrow layer's own", "inject", put("mlp", r=7, target_modules=["first", "second"]), ("rank", "r is above")),
    Case("the same model twice", "inject", twice, ("adapters already", "already", "multiple adapters"), bool),
    Case("a PeftModel as the base", "inject", around, ("adapters already", "already", "PeftModel"), bool),
    Case("a base given as a name", "inject", lambda lab: lab.lib.get_peft_model("gpt2", lab.lora()), ("str", "model")),
    Case("a class as the base", "inject", lambda lab: lab.lib.get_peft_model(nn.Linear, lab.lora()), ("model", "class", "type")),
    Case("no base", "inject", lambda lab: lab.lib.get_peft_model(None, lab.lora()), ("NoneType", "model")),
    Case("config and model exchanged", "inject", lambda lab: lab.lib.get_peft_model(lab.lora(), lab.base()), ("LoraConfig", "model")),
    Case("a config as a dict", "inject", lambda lab: lab.lib.get_peft_model(lab.base(), {"r": 8}), ("dict", "config")),
    Case("a config's class", "inject", lambda lab: lab.lib.get_peft_model(lab.base(), lab.lib.LoraConfig), ("type", "config", "instance")),
    Case("no config", "inject", lambda lab: lab.lib.get_peft_model(lab.base(), None), ("NoneType", "config")),
    Case("no default for this family", "inject", lambda lab: lab.lib.get_peft_model(lab.base("mlp"), lab.lib.LoraConfig()), ("target_modules",)),
    Case("a model without linear layers", "inject", lambda lab: lab.lib.get_peft_model(lab.watch(nn.Sequential(nn.ReLU())), lab.lora(target_modules="all-linear")), ("no layer", "linear")),
    *(
        Case(f"the adapter's name {name!r}", "inject", put(adapter_name=name), ("name",), theirs=True)
        for name in ("", "a.b", "c_attn", "weight", 3, None)
    ),
    Case("a name with a slash", "inject", put(adapter_name="a/b"), ("name", "a/b")),
    Case("a name that climbs", "inject", put(adapter_name="../up"), ("name", "../up")),
    Case("a name that means no adapter", "inject", put(adapter_name="__base__"), ("__base__",)),
    Case("a name too long for a folder", "inject", put(adapter_name="x" * 300), ("name", "xxx")),
    Case("a name with a null byte", "inject", put(adapter_name="a\0b"), ("name",)),
    Case("a head that the model lacks", "inject", put(task_type="SEQ_CLS"), ("SEQ_CLS", "classifier", "score")),
    Case("a module to adapt inside one to save", "inject", put(modules_to_save=["attn"]), ("c_attn", "modules_to_save")),
    Case("an encoder layer that computes past its parts", "inject", past_its_parts, ("TransformerEncoder",), bool),
    Case("attention that reads its weight itself", "inject", reads_itself, ("out_proj",), bool),
    Case("a name that is taken", "inject", add("default"), ("default",)),
    Case("a second adapter named as a layer", "inject", add("c_attn"), ("c_attn",)),
    Case("a second adapter that is a prompt", "inject", add("p", prompt), ("virtual", "prompt", "type")),
    Case("a second adapter without a config", "inject", add("p", lambda lab: "lora"), ("str", "config")),
    Case("a second adapter with a target that is not there", "inject", add("p", lambda lab: lab.lora(target_modules=["q_proj"])), ("q_proj",)),
    Case("prompt tuning of a plain network", "inject", kind("PromptTuningConfig", "mlp", num_virtual_tokens=2), ("MLP", "config", "embed")),
    Case("prefix tuning of a vision model", "inject", kind("PrefixTuningConfig", "vit", num_virtual_tokens=2), ("ViT", "embed", "past_key_values")),
    Case("IA3 without feedforward_modules", "inject", kind("IA3Config", "mlp", target_modules=["first"]), ("feedforward_modules",), lambda m: m is not None),
    Case("IA3 on a layer that is not there", "inject", kind("IA3Config", "gpt2", target_modules=["k_proj"], feedforward_modules=[]), ("k_proj",)),
    Case("all-linear with a head", "inject", all_linear_head, ("score", "classifier"), bool),
]  # fmt: skip
