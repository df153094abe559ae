"""The counts of real models, as Hugging Face peft gives them: by formula, and as built.

Computed once, with transformers 5.23 models on the meta device and peft 0.21.2. BitFit, which peft
lacks, is the sum of what real biases hold. LoRA's rows are in test_counting.py. Beside a classifier
(bert-base) the head is trained too, but for BitFit, which has no task.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from test_counting import TABLE

from minipeft import (
    BitFitConfig,
    IA3Config,
    LoraConfig,
    PeftConfig,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    get_peft_model,
)
from minipeft.checks.errors import TargetError
from minipeft.lab.counting import MODELS, Count, count, meta_model

# v = 10 virtual tokens everywhere
METHODS: dict[str, tuple[type[PeftConfig], dict[str, Any]]] = {
    "bitfit": (BitFitConfig, {}),
    "ia3": (IA3Config, {}),
    "prompt": (PromptTuningConfig, {"num_virtual_tokens": 10}),
    "prefix": (PrefixTuningConfig, {"num_virtual_tokens": 10}),
    "projected": (PrefixTuningConfig, {"num_virtual_tokens": 10, "prefix_projection": True}),
    "mlp": (PromptEncoderConfig, {"num_virtual_tokens": 10}),
    "lstm": (
        PromptEncoderConfig,
        {
            "num_virtual_tokens": 10,
            "encoder_reparameterization_type": "LSTM",
            "encoder_hidden_size": 1024,
            "encoder_num_layers": 2,
        },
    ),
    "dora": (LoraConfig, {"r": 8, "use_dora": True}),  # r · (in + out) + out
}
# fmt: off
# What each trains, in METHODS' order; 0: there is nothing to train, and minipeft says so.
GOLDEN: dict[str, list[int]] = {
    "gpt2": [102_144, 64_512, 7_680, 184_320, 14_772_480, 1_779_456, 45_656_320, 322_560],
    "gpt2-medium": [271_360, 172_032, 10_240, 491_520, 51_440_640, 3_159_040, 48_280_576, 860_160],
    "bloom-560m": [272_384, 172_032, 10_240, 491_520, 51_440_640, 3_159_040, 48_280_576, 860_160],
    "bloom-1b4-zh": [
        544_768, 344_064, 20_480, 983_040, 205_641_728, 12_609_536, 58_777_600, 1_720_320,
    ],
    "llama-2-7b": [0, 614_400, 40_960, 2_621_440, 1_090_826_240, 50_384_896, 79_771_648, 4_456_448],
    "llama-2-13b": [
        0, 962_560, 51_200, 4_096_000, 2_123_832_320, 78_709_760, 90_268_672, 6_963_200,
    ],
    "llama-2-70b": [
        0, 2_457_600, 81_920, 1_638_400, 168_995_840, 201_433_088, 121_759_744, 17_121_280,
    ],
    "bert-base": [102_914, 66_050, 9_218, 185_858, 14_774_018, 1_780_994, 45_657_858, 314_882],
    "t5-base": [0, 129_024, 15_360, 184_320, 14_772_480, 1_787_136, 45_664_000, 940_032],
}
# fmt: on
BASES = {model: base for model, base, *_ in TABLE}


def both(skeleton: Any, model: str | Any, config: PeftConfig) -> Count:
    """The count by formula; the model built on the meta device, then unloaded, has the same."""
    counted = count(model, config)
    built = get_peft_model(skeleton, config)
    assert built.get_nb_trainable_parameters() == (counted.trainable, counted.all)
    assert built.unload() is skeleton
    return counted


@pytest.mark.parametrize("model", GOLDEN)
def test_every_method_gives_the_table(model: str):
    skeleton = meta_model(model)
    for (method, (kind, options)), trained in zip(METHODS.items(), GOLDEN[model], strict=True):
        task = "SEQ_CLS" if model == "bert-base" and method != "bitfit" else None
        config = kind(task_type=task, **options)
        if not trained:
            for call in (count, get_peft_model):
                with pytest.raises(TargetError, match="has no biases"):
                    call(skeleton, config)
            continue
        counted = both(skeleton, model, config)
        assert (method, counted.trainable) == (method, trained)
        assert counted.all == BASES[model] + trained


def test_how_many_rows_of_the_table_are_held():
    assert set(GOLDEN) == set(MODELS) == set(BASES)
    rows = {
        method: sum(len(row) > i for row in GOLDEN.values()) for i, method in enumerate(METHODS)
    }
    rows["lora"] = len(TABLE)
    assert rows == {**dict.fromkeys(METHODS, 9), "lora": 21}
    assert sum(rows.values()) == 93


QKV, QKVO = ["query_key_value"], ["q_proj", "k_proj", "v_proj", "o_proj"]
DOWN = [*QKV, "dense_4h_to_h"]


@pytest.mark.parametrize(
    ("config", "trained"),
    [
        # 001:L72-76 with an MLP instead of the LSTM
        (PromptEncoderConfig(num_virtual_tokens=10, encoder_hidden_size=1024), 5_267_456),
        # 001:L117-121: as it is, with its first commented line, with its second
        (LoraConfig(r=8, target_modules=QKV), 1_572_864),
        (LoraConfig(r=8, target_modules=DOWN), 3_538_944),
        (LoraConfig(r=8, modules_to_save=["word_embeddings"]), 98_043_904 - 1_966_080),
        (LoraConfig(r=8, target_modules=DOWN, modules_to_save=["word_embeddings"]), 98_043_904),
    ],
    ids=["mlp", "lora", "+ dense_4h_to_h", "word_embeddings", "both"],
)
def test_the_configurations_of_note_001(config: PeftConfig, trained: int):
    counted = both(meta_model("bloom-1b4-zh"), "bloom-1b4-zh", config)
    assert (counted.trainable, counted.all) == (trained, BASES["bloom-1b4-zh"] + trained)


def test_grouped_queries_make_k_and_v_narrow():
    config = LoraConfig(r=16, target_modules=QKVO)
    assert count("llama-2-70b", config).trainable == 65_536_000
    name, options, auto = MODELS["llama-2-70b"]
    with torch.device("meta"):
        wide = getattr(transformers, name)(**{**options, "num_key_value_heads": 64})
        model = getattr(transformers, auto).from_config(wide)
    assert count(model, config).trainable == 83_886_080
