"""Note 003, the practice around its own classes, with minipeft in the place of peft.

Its QLoRA (003:L180-214) is in test_notes_003_qlora.py.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch
from conftest import VOCAB, inputs, output, tiny
from notes_stand_ins import Notebook, Open, last, line, size
from notes_stand_ins import fixture_library as fixture_library
from notes_stand_ins import fixture_notebook as fixture_notebook
from notes_stand_ins import fixture_stand_ins as fixture_stand_ins
from torch import nn
from transformers import AutoModelForCausalLM

import minipeft
from minipeft import (
    Adapter,
    LoraConfig,
    LoRALayer,
    LoRALinear,
    PeftModel,
    PromptTunedTransformer,
    PromptTuning,
    PTuningV2,
    get_peft_model,
)
from minipeft.checks.errors import ConfigTypeError
from minipeft.lab.counting import count

BLOCKS = {  # by the line where a block is fenced; without comments and blank lines
    "L126": """
    from peft import LoraConfig, get_peft_model, TaskType
    lora_config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=16,
        lora_alpha=32,
        target_modules=[
            "q_proj",
            "k_proj",
            "v_proj",
            "o_proj",
        ],
        lora_dropout=0.05,
        bias="none",
        modules_to_save=None,
    )
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(
        "meta-llama/Llama-2-7b-hf",
        torch_dtype=torch.float16,
        device_map="auto"
    )
    peft_model = get_peft_model(model, lora_config)
    peft_model.print_trainable_parameters()
    """,
    "L242": """
    class Adapter(nn.Module):
        def __init__(self, hidden_size, adapter_size=64, dropout=0.1):
            super().__init__()
            self.down_project = nn.Linear(hidden_size, adapter_size)
            self.activation = nn.GELU()
            self.up_project = nn.Linear(adapter_size, hidden_size)
            self.dropout = nn.Dropout(dropout)
            nn.init.xavier_uniform_(self.down_project.weight)
            nn.init.xavier_uniform_(self.up_project.weight)
            nn.init.zeros_(self.down_project.bias)
            nn.init.zeros_(self.up_project.bias)
        def forward(self, x):
            residual = x
            x = self.down_project(x)
            x = self.activation(x)
            x = self.dropout(x)
            x = self.up_project(x)
            return x + residual
    from peft import AdapterConfig
    adapter_config = AdapterConfig(
        adapter_dim=64,
        hidden_act="gelu",
        adapter_dropout=0.1,
        target_modules=["attention", "mlp"]
    )
    """,
    "L412": """
    least = target_modules = ["q_proj", "v_proj"]
    best = target_modules = ["q_proj", "k_proj", "v_proj", "o_proj"]
    most = target_modules = [
        "q_proj", "k_proj", "v_proj", "o_proj",
        "gate_proj", "up_proj", "down_proj"
    ]
    """,  # with a name for each, since the note's last one replaces the others
    "L428": """
    from trl import SFTTrainer
    from transformers import TrainingArguments
    training_args = TrainingArguments(
        output_dir="./lora_model",
        num_train_epochs=3,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=4,
        learning_rate=2e-4,
        warmup_ratio=0.03,
        lr_scheduler_type="cosine",
        logging_steps=10,
        save_strategy="epoch",
        fp16=True,
        optim="paged_adamw_8bit",
        group_by_length=True,
    )
    """,  # 003:L447-455 hand this to SFTTrainer
    "L460": """
    base_model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-7b-hf")
    from peft import PeftModel
    model = PeftModel.from_pretrained(base_model, "./lora_weights")
    model = model.merge_and_unload()
    model.save_pretrained("./merged_model")
    """,
}


@pytest.mark.parametrize(
    ("block", "missing"),
    [
        (BLOCKS["L126"], "torch"),
        (BLOCKS["L460"], "AutoModelForCausalLM"),
    ],
)
def test_alone_a_block_lacks_what_none_before_it_gives(notebook: Open, block: str, missing: str):
    with pytest.raises(NameError, match=f"'{missing}' is not defined"):
        Notebook("minipeft").run(block)


def test_003_L126_llama(notebook: Open, library: str, capsys: pytest.CaptureFixture[str]):
    model = notebook(library).run(BLOCKS["L126"])["peft_model"]
    n = 2 * 16 * (2 * (16 + 16) + 2 * (16 + 8))  # two layers, r = 16; one head of two for k and v
    assert last(capsys) == line(n, size(tiny("llama")) + n)
    assert model.get_base_model().lm_head.weight.dtype == torch.float16
    model.eval().float().cpu()
    folder = "meta-llama/Llama-2-7b-hf"
    rounded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float16).float()
    assert torch.equal(output(model, "llama"), output(rounded, "llama"))


def test_003_L157_the_printed_numbers_are_those_of_r_32():
    targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
    counts = {r: count("llama-2-7b", LoraConfig(r=r, target_modules=targets)) for r in (16, 32)}
    assert (counts[16].trainable, counts[16].all) == (16_777_216, 6_755_192_832)
    assert (counts[32].trainable, counts[32].all) == (33_554_432, 6_771_970_048)


# what the notes name of peft, and minipeft does not have: 004:L34-43
NEVER_SAID = ["PeftModelForSequenceClassification", "PromptLearningConfig", "PeftConfigMixin"]


@pytest.mark.parametrize("name", NEVER_SAID)
def test_names_of_peft_that_are_not_here(peft: Any, name: str):
    import peft.config

    assert hasattr(peft, name) or hasattr(peft.config, name)
    assert not hasattr(minipeft, name)


def test_003_L242_an_adapter(notebook: Open):
    with pytest.raises(ImportError, match="cannot import name 'AdapterConfig' from 'peft'"):
        notebook("peft").run(BLOCKS["L242"])
    names = notebook().run(BLOCKS["L242"])
    model = get_peft_model(tiny("gpt2"), names["adapter_config"])
    theirs = names["Adapter"](16)
    # after the attention and after the feed-forward, in two layers
    assert model.get_nb_trainable_parameters()[0] == 4 * size(theirs)
    assert torch.equal(output(model.eval(), "gpt2"), output(tiny("gpt2"), "gpt2"))
    x = torch.randn(5, 16)
    assert not torch.allclose(theirs.eval()(x), x, atol=0.1)  # the note's start is no identity


@pytest.mark.parametrize(
    ("which", "widths"),
    [
        ("least", [16 + 16, 16 + 8]),
        ("best", [16 + 16, 16 + 8, 16 + 8, 16 + 16]),
        ("most", [16 + 16, 16 + 8, 16 + 8, 16 + 16, *[16 + 24] * 3]),
    ],
)
def test_003_L412_which_modules(notebook: Open, library: str, which: str, widths: list[int]):
    targets = notebook(library).run(BLOCKS["L412"])[which]
    module = __import__(library)
    model = module.get_peft_model(tiny("llama"), module.LoraConfig(r=8, target_modules=targets))
    assert model.get_nb_trainable_parameters()[0] == 2 * 8 * sum(widths)


def test_003_L428_needs_trl_and_an_older_transformers(notebook: Open):
    cells = notebook()
    if importlib.util.find_spec("trl") is None:
        with pytest.raises(ModuleNotFoundError, match="trl"):
            cells.run(BLOCKS["L428"])
    edits = [("from trl import SFTTrainer\n", "")]
    for option, value, today in (
        ("warmup_ratio", "0.03", "warmup_steps=0.03"),
        ("group_by_length", "True", "train_sampling_strategy='group_by_length'"),
    ):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{option}'"):
            cells.run(BLOCKS["L428"], *edits)
        edits.append((f"{option}={value}", today))
    args = cells.run(BLOCKS["L428"], *edits)["training_args"]
    assert (args.learning_rate, args.num_train_epochs) == (2e-4, 3)


def test_003_L460_merging_for_good(notebook: Open, library: str):
    names = notebook(library).run(BLOCKS["L460"])
    expected = output(PeftModel.from_pretrained(tiny("llama"), "./lora_weights"), "llama")
    assert not torch.allclose(output(tiny("llama"), "llama"), expected, atol=1e-2)
    for model in (names["model"], AutoModelForCausalLM.from_pretrained("./merged_model")):
        assert torch.allclose(output(model, "llama"), expected, atol=1e-5)  # measured 1.6e-6


def test_003_the_notes_own_classes_are_called_as_in_the_notes():
    x = torch.randn(3, 5, 8)
    assert LoRALayer(8, 6, rank=16, lora_alpha=32)(x, torch.zeros(3, 5, 6)).shape == (3, 5, 6)
    assert LoRALinear(nn.Linear(8, 6), rank=16, lora_alpha=32, dropout=0.0)(x).shape == (3, 5, 6)
    assert torch.equal(Adapter(8, adapter_size=64, dropout=0.1)(x), x)
    assert PromptTuning(num_tokens=4, token_dim=8)(x).shape == (3, 4 + 5, 8)
    with pytest.raises(ConfigTypeError, match=r"must be the model's word embedding.* got True"):
        PromptTuning(4, 8, initialize_from_vocab=True)  # 003:L284, which has no vocabulary
    ids = inputs("gpt2")["input_ids"]
    prompted = PromptTunedTransformer(tiny("gpt2"), num_prompt_tokens=20)
    assert prompted(ids).logits.shape == (2, 20 + 7, VOCAB)
    assert size(PTuningV2(num_layers=2, num_tokens=4, hidden_size=16)) == 2 * 2 * 4 * 16
