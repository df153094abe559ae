"""Mistakes in a config: types, ranges, spelling, options that exclude each other."""

from __future__ import annotations

from typing import Any

import torch
from machine import Case, Lab
from torch import nn

NAN, INF = float("nan"), float("inf")
LORA: list[tuple[dict[str, Any], str]] = [
    ({"r": 0}, "r"), ({"r": -3}, "r"), ({"r": True}, "r "), ({"r": "8"}, "r "), ({"r": 8.0}, "r "),
    ({"r": 2.5}, "r "), ({"r": NAN}, "r "), ({"r": None}, "r "), ({"r": [8]}, "r "),
    ({"r": torch.tensor(8)}, "r "),
    ({"lora_alpha": "16"}, "alpha"), ({"lora_alpha": NAN}, "alpha"), ({"lora_alpha": INF}, "alpha"),
    ({"lora_alpha": None}, "alpha"), ({"lora_alpha": True}, "alpha"), ({"lora_alpha": 0}, "alpha"),
    ({"lora_dropout": 1.0}, "dropout"), ({"lora_dropout": 1.5}, "dropout"),
    ({"lora_dropout": -0.1}, "dropout"), ({"lora_dropout": NAN}, "dropout"),
    ({"lora_dropout": "0.1"}, "dropout"), ({"lora_dropout": False}, "dropout"),
    ({"lora_dropout": None}, "dropout"),
    ({"use_rslora": "False"}, "use_rslora"), ({"use_rslora": "no"}, "use_rslora"),
    ({"use_dora": "False"}, "use_dora"), ({"use_dora": 0.0}, "use_dora"),
    ({"fan_in_fan_out": "no"}, "fan_in_fan_out"),
    ({"inference_mode": "False"}, "inference_mode"), ({"inference_mode": "0"}, "inference_mode"),
    ({"bias": "lora"}, "bias"), ({"bias": "ALL"}, "bias"), ({"bias": True}, "bias"),
    ({"bias": None}, "bias"),
    ({"task_type": "CAUSAL"}, "task_type"), ({"task_type": "causal-lm"}, "task_type"),
    ({"task_type": 3}, "task_type"),
    ({"init_lora_weights": "gausian"}, "init_lora_weights"),
    ({"init_lora_weights": "True"}, "init_lora_weights"),
    ({"init_lora_weights": 1}, "init_lora_weights"),
    ({"init_lora_weights": None}, "init_lora_weights"),
    ({"init_lora_weights": "loftq", "loftq_config": {"loftq_bits": 3}}, "bits"),
    ({"loftq_config": {"loftq_bits": 4}}, "loftq"),
    ({"target_modules": []}, "target_modules"), ({"target_modules": ""}, "target_modules"),
    ({"target_modules": "c_(attn"}, "target_modules"), ({"target_modules": 3}, "target_modules"),
    ({"target_modules": ["c_attn", 3]}, "target_modules"),
    ({"target_modules": ["c_attn", ""]}, "target_modules"),
    ({"target_modules": "c_attn,c_proj"}, "target_modules"),
    ({"target_modules": "c_attn c_proj"}, "target_modules"),
    ({"target_modules": nn.Linear}, "target_modules"),
    ({"target_modules": [["c_attn"]]}, "target_modules"),
    ({"exclude_modules": "c_(proj"}, "exclude_modules"), ({"exclude_modules": 3}, "exclude_modules"),
    ({"layers_to_transform": -1}, "layers_to_transform"),
    ({"layers_to_transform": [0, 99]}, "layers_to_transform"),
    ({"layers_to_transform": "0"}, "layers_to_transform"),
    ({"layers_to_transform": True}, "layers_to_transform"),
    ({"layers_to_transform": [0], "layers_pattern": "block"}, "layers_pattern"),
    ({"layers_pattern": "h"}, "layers_pattern"),
    ({"layers_to_transform": [0], "target_modules": ".*c_attn"}, "layers_to_transform"),
    ({"rank_pattern": {"c_attn": 0}}, "rank_pattern"),
    ({"rank_pattern": {"c_atn": 2}}, "rank_pattern"),
    ({"rank_pattern": {"c_attn": "2"}}, "rank_pattern"),
    ({"rank_pattern": [("c_attn", 2)]}, "rank_pattern"),
    ({"rank_pattern": {"c_(": 2}}, "rank_pattern"),
    ({"alpha_pattern": {"c_attn": NAN}}, "alpha_pattern"),
    ({"alpha_pattern": {"c_atn": 2}}, "alpha_pattern"),
    ({"alpha_pattern": 8}, "alpha_pattern"),
    ({"modules_to_save": "ln_f"}, "modules_to_save"), ({"modules_to_save": [3]}, "modules_to_save"),
    ({"modules_to_save": ["lnf"]}, "lnf"),
    ({"layer_replication": [(2, 1)]}, "layer_replication"),
    ({"layer_replication": [(0, 99)]}, "layer_replication"),
    ({"layer_replication": []}, "layer_replication"),
    ({"lora_alfa": 16}, "lora_alfa"), ({"target_module": ["c_attn"]}, "target_module"),
    ({"rank": 8}, "rank"), ({"dropout": 0.1}, "dropout"), ({"use_dorra": True}, "use_dorra"),
]  # fmt: skip
OTHERS: list[tuple[str, dict[str, Any], str]] = [
    ("IA3Config", {"feedforward_modules": ["nosuch"]}, "nosuch"),
    ("IA3Config", {"init_ia3_weights": "False"}, "init_ia3_weights"),
    ("IA3Config", {"target_modules": []}, "target_modules"),
    ("IA3Config", {"ia3_alpha": 8}, "ia3_alpha"),
    ("PromptTuningConfig", {"num_virtual_tokens": 0}, "num_virtual_tokens"),
    ("PromptTuningConfig", {"num_virtual_tokens": -2}, "num_virtual_tokens"),
    ("PromptTuningConfig", {"num_virtual_tokens": "5"}, "num_virtual_tokens"),
    ("PromptTuningConfig", {"num_virtual_tokens": 2.5}, "num_virtual_tokens"),
    ("PromptTuningConfig", {"num_virtual_tokens": True}, "num_virtual_tokens"),
    ("PromptTuningConfig", {}, "num_virtual_tokens"),
    ("PromptTuningConfig", {"num_virtual_tokens": 10_000}, "num_virtual_tokens"),
    ("PromptTuningConfig", {"num_virtual_tokens": 2, "token_dim": 17}, "token_dim"),
    ("PromptTuningConfig", {"num_virtual_tokens": 2, "prompt_tuning_init": "TXT"}, "prompt_tuning_i"),
    ("PromptTuningConfig", {"num_virtual_tokens": 2, "prompt_tuning_init": "TEXT"}, "init_text"),
    (
        "PromptTuningConfig",
        {"num_virtual_tokens": 2, "prompt_tuning_init": "TEXT", "prompt_tuning_init_text": "Hello"},
        "tokenizer",
    ),
    ("PromptTuningConfig", {"num_virtual_tokens": 2, "prompt_tuning_init_text": "Hello"}, "init_text"),
    ("PrefixTuningConfig", {"num_virtual_tokens": 0}, "num_virtual_tokens"),
    ("PrefixTuningConfig", {"num_virtual_tokens": 2, "prefix_projection": "no"}, "prefix_projection"),
    (
        "PrefixTuningConfig",
        {"num_virtual_tokens": 2, "prefix_projection": True, "encoder_hidden_size": 0},
        "encoder_hidden_size",
    ),
    ("PrefixTuningConfig", {"num_virtual_tokens": 2, "encoder_hidden_size": 8}, "encoder_hidden_size"),
    ("PrefixTuningConfig", {"num_virtual_tokens": 2, "num_layers": 7}, "num_layers"),
    ("PromptEncoderConfig", {"num_virtual_tokens": 0}, "num_virtual_tokens"),
    (
        "PromptEncoderConfig",
        {"num_virtual_tokens": 2, "encoder_reparameterization_type": "GRU"},
        "reparameterization_type",
    ),
    ("PromptEncoderConfig", {"num_virtual_tokens": 2, "encoder_hidden_size": -8}, "encoder_hidden"),
    ("PromptEncoderConfig", {"num_virtual_tokens": 2, "encoder_dropout": 1.5}, "encoder_dropout"),
    (
        "PromptEncoderConfig",
        {
            "num_virtual_tokens": 2,
            "encoder_hidden_size": 8,
            "encoder_reparameterization_type": "LSTM",
            "encoder_num_layers": 0,
        },
        "encoder_num_layers",
    ),
]  # fmt: skip


def make(kind: str, options: dict[str, Any]) -> Any:
    """Make the config, and a model with it that answers and takes a step."""

    def run(lab: Lab) -> Any:
        base = lab.base()
        config = getattr(lab.lib, kind)(**options)
        model = lab.lib.get_peft_model(base, config).train()
        model(input_ids=torch.arange(2, 8)[None], labels=torch.arange(2, 8)[None]).loss.backward()
        return model

    return run


def reused(lab: Lab) -> bool:
    """One config, without targets, for two families."""
    config = lab.lib.LoraConfig(r=2)
    lab.lib.get_peft_model(lab.base(), config)
    llama = lab.lib.get_peft_model(lab.base("llama"), config)
    return any("q_proj" in name and "lora" in name for name, _ in llama.named_parameters())


def ia3_beside(lab: Lab) -> bool:
    """Two lists without a common name: both are meant, or it is refused."""
    config = lab.lib.IA3Config(target_modules=["c_attn"], feedforward_modules=["mlp.c_fc"])
    model = lab.lib.get_peft_model(lab.base(), config)
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    return any("c_fc" in n for n in names) and any("c_attn" in n for n in names)


def later(name: str, value: Any) -> Any:
    """An option changed after the config was made, when its checks are over."""

    def run(lab: Lab) -> Any:
        config = lab.lora()
        setattr(config, name, value)
        return lab.lib.get_peft_model(lab.base(), config)

    return run


def title(options: dict[str, Any]) -> str:
    """`r=0`: the same in each run."""
    return ", ".join(
        f"{k}={v.__name__ if isinstance(v, type) else v!r}" for k, v in options.items()
    )


CASES = [
    *(
        Case(
            title(options),
            "config",
            make("LoraConfig", {"target_modules": ["c_attn"], **options}),
            (name,),
        )
        for options, name in LORA
    ),
    *(
        Case(f"{kind}: {title(options) or 'no options'}", "config", make(kind, options), (name,))
        for kind, options, name in OTHERS
    ),
    Case(
        "IA3Config: feedforward_modules beside other targets",
        "config",
        ia3_beside,
        ("feedforward",),
        bool,
    ),
    Case("one config for two models", "config", reused, ("config",), bool),
    Case("the first argument is r", "config", lambda lab: lab.lib.LoraConfig(8), ("task_type",)),
    Case("r = -1 set later", "config", later("r", -1), ("r must", "`r`", "r ")),
    Case("lora_dropout = 2 set later", "config", later("lora_dropout", 2), ("dropout",)),
    Case("a misspelt option set later", "config", later("lora_alfa", 32), ("lora_alfa",)),
    Case("use_rslora = 'False' set later", "config", later("use_rslora", "False"), ("use_rslora",)),
    Case(
        "target_modules = [] set later", "config", later("target_modules", []), ("target_modules",)
    ),
]
