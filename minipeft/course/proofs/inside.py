"""The proofs of lesson 02: sizes from dimensions, and what names mean in which architecture."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...checks.errors import TargetError
from ...lab.counting import count, meta_model
from ...methods.lora import LoraConfig
from ...tuner.plan import choose
from ..claims import hold, proves


def block(d: int) -> int:
    """Four matrices with biases, and two norms."""
    return 12 * d * d + 13 * d


def small(kind: str) -> nn.Module:
    """A model of that architecture with two blocks, on the meta device."""
    import transformers

    sizes = {
        "gpt2": {"n_embd": 8, "n_layer": 2, "n_head": 2},
        "bloom": {"hidden_size": 8, "n_layer": 2, "n_head": 2},
        "llama": {
            "hidden_size": 8,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
        },
    }[kind]
    config = transformers.AutoConfig.for_model(
        kind, vocab_size=10, bos_token_id=1, eos_token_id=2, pad_token_id=0, **sizes
    )
    auto: Any = transformers.AutoModelForCausalLM
    with torch.device("meta"):
        model: nn.Module = auto.from_config(config)
    return model


def hits(model: nn.Module, target: str | list[str]) -> list[str]:
    """The names that a target means; none if it means no module."""
    try:
        return list(choose(model, LoraConfig(target_modules=target)).layers)
    except TargetError:
        return []


@proves("inside-gpt2-size")
def gpt2_size() -> str:
    """By the formula, and counted on the skeleton."""
    formula = (50257 + 1024) * 768 + 12 * block(768) + 2 * 768
    counted = sum(p.numel() for p in meta_model("gpt2").parameters())
    hold(formula == counted == 124_439_808, f"{formula:,}, {counted:,}")
    return f"{counted:,}"


@proves("inside-bert-size")
def bert_size() -> str:
    """Three tables and a norm, twelve blocks of GPT-2's size, and the pooler."""
    tables = (30522 + 512 + 2) * 768 + 2 * 768
    n = tables + 12 * block(768) + 768 * 768 + 768
    hold(n == 109_482_240, f"{n:,}")
    return f"{n:,}"


@proves("inside-adapters-word")
def adapters_word() -> str:
    """What three methods add, and where."""
    gpt2 = meta_model("gpt2")
    before = sum(p.numel() for p in gpt2.parameters())
    biases = 0
    for name, p in gpt2.named_parameters():
        p.requires_grad_(name.endswith("bias"))
        biases += p.numel() if p.requires_grad else 0
    added = sum(p.numel() for p in gpt2.parameters()) - before
    lora = count("gpt2", LoraConfig(r=8)).trainable
    hold((biases, added, lora) == (102_144, 0, 294_912), f"{biases}, {added}, {lora}")
    return f"GPT-2: BitFit trains {biases:,} and adds {added}; LoRA adds {lora:,}"


@proves("inside-target-names")
def target_names() -> str:
    """The note's seven names in three architectures."""
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    models = {kind: small(kind) for kind in ("llama", "gpt2", "bloom")}
    found = {k: sum(bool(hits(m, [n])) for n in names) for k, m in models.items()}
    hold(found == {"llama": 7, "gpt2": 0, "bloom": 0}, f"{found}")
    return ", ".join(f"{kind}: {n} of 7 names" for kind, n in found.items())


@proves("inside-target-rule")
def target_rule() -> str:
    """Regular expression, exact name, suffix, no default for an unknown architecture."""
    gpt2 = small("gpt2")
    one = "transformer.h.1.attn.c_attn"
    hold(hits(gpt2, r".*h\.1\.attn\.c_attn") == hits(gpt2, [one]) == [one], "one layer")
    hold(len(hits(gpt2, ["c_attn"])) == 2 and not hits(gpt2, "c_attn"), "a suffix is no pattern")
    try:
        choose(nn.Sequential(nn.Linear(2, 2)), LoraConfig())
    except TargetError:
        return "list: exact or suffix; string: whole name; no default for a plain module"
    hold(False, "a plain module has no default")
    return ""


@proves("inside-all-linear")
def all_linear() -> str:
    """The head of a language model is left out; a plain module's last layer is not."""
    gpt2 = hits(small("gpt2"), "all-linear")
    plain = hits(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)), "all-linear")
    hold(len(gpt2) == 8 and not any("lm_head" in name for name in gpt2), f"{gpt2}")
    hold(plain == ["0", "2"], f"{plain}")
    return f"GPT-2 with 2 blocks: {len(gpt2)} layers, no lm_head; an MLP of 2 layers: {len(plain)}"
