"""Note 002, LoRA on GPT-2 from loading to loading again, with minipeft in the place of peft."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import output, tiny
from notes_stand_ins import Notebook, Open, line, no_python, size
from notes_stand_ins import fixture_library as fixture_library
from notes_stand_ins import fixture_notebook as fixture_notebook
from notes_stand_ins import fixture_stand_ins as fixture_stand_ins
from safetensors.torch import load_file

BLOCKS = {  # by the line where a block is fenced; without comments and blank lines
    "L52": """
    from transformers import AutoTokenizer, AutoModelForCausalLM
    tokenizer = AutoTokenizer.from_pretrained('gpt2')
    model = AutoModelForCausalLM.from_pretrained('gpt2')
    print(model)
    """,
    "L70": """
    from peft import get_peft_model, LoraConfig, TaskType
    lora_config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        inference_mode=False,
        r=8,
        lora_alpha=32,
        lora_dropout=0.1,
    )
    model = get_peft_model(model, lora_config)
    """,
    "L88": "print(model)",
    "L116": "model.print_trainable_parameters()",
    "L123": "trainable params: 294,912 || all params: 124,734,720 "
    "|| trainable%: 0.23643136409814364",
    "L131": """
    def print_trainable_parameters(model):
        trainable_params = 0
        all_params = 0
        for _, param in model.named_parameters():
            num_params = param.numel()
            all_params += num_params
            if param.requires_grad:
                trainable_params += num_params
        print(f"可训练参数量: {trainable_params}")
        print(f"总参数量: {all_params}")
        print(f"可训练参数占比: {100 * trainable_params / all_params:.2f}%")
    print_trainable_parameters(model)
    """,
    "L149": """
    可训练参数量: 294912
    总参数量: 124734720
    可训练参数占比: 0.24%
    """,
    "L159": """
    from transformers import Trainer, TrainingArguments
    training_args = TrainingArguments(
        output_dir='./results',
        num_train_epochs=3,
        per_device_train_batch_size=16,
        learning_rate=5e-5,
        logging_steps=10,
        save_steps=100,
    )
    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=train_dataset,
    )
    trainer.train()
    """,
    "L187": "model.save_pretrained('./lora_model')",
    "L194": """
    base_model = AutoModelForCausalLM.from_pretrained("gpt2")
    from peft import PeftModel
    model = PeftModel.from_pretrained(base_model, './lora_model')
    """,
}


TRAINED = 2 * 8 * (16 + 3 * 16)  # r (in + out), 002:L105, beside c_attn in two layers
ROW = {"input_ids": torch.arange(5), "labels": torch.arange(5)}
# warnings are errors here, and DataLoader warns where there is no GPU
no_gpu = pytest.mark.filterwarnings("ignore:.*pin_memory")
EDIT = ("save_steps=100", "save_strategy='no'")


@pytest.mark.parametrize("block", ["L123", "L149"])
def test_what_was_printed_is_fenced_as_code(block: str):
    no_python(BLOCKS[block])


def prepared(cells: Notebook) -> Notebook:
    """The note up to its training."""
    for block in ("L52", "L70", "L88", "L116"):
        cells.run(BLOCKS[block])
    cells.names["train_dataset"] = [ROW] * 32
    return cells


def test_002_L52_to_L131_as_they_are(
    notebook: Open, library: str, capsys: pytest.CaptureFixture[str]
):
    cells = prepared(notebook(library))
    shown, total = capsys.readouterr().out.strip(), size(tiny("gpt2")) + TRAINED
    assert shown.lower().count("lora_a") + shown.count("LoRALayer") == 1  # for two equal layers
    assert shown.splitlines()[-1] == line(TRAINED, total)
    cells.run(BLOCKS["L131"])
    numbers = [row.split(": ")[1] for row in capsys.readouterr().out.strip().splitlines()]
    assert numbers == [str(TRAINED), str(total), f"{100 * TRAINED / total:.2f}%"]


def check_trained(cells: Notebook) -> None:
    """The adapter has moved and the base has not; saved and loaded again it answers the same."""
    model = cells.names["model"].cpu().eval()
    assert not torch.equal(output(model, "gpt2"), output(tiny("gpt2"), "gpt2"))
    with model.disable_adapter():
        assert torch.equal(output(model, "gpt2"), output(tiny("gpt2"), "gpt2"))
    expected = output(model, "gpt2")
    again = cells.run(BLOCKS["L187"]) and cells.run(BLOCKS["L194"])["model"]
    assert again is not model
    assert torch.equal(output(again, "gpt2"), expected)
    assert again.get_nb_trainable_parameters()[0] == 0  # loaded to be used, not to be trained


@no_gpu
@pytest.mark.parametrize(
    "library",
    [
        "minipeft",
        "peft",
    ],
    indirect=True,
)
def test_002_L159_the_trainer_as_the_note_has_it(notebook: Open, library: str):
    cells = prepared(notebook(library))
    cells.run(BLOCKS["L159"])
    check_trained(cells)
    folder = Path("results/checkpoint-6")  # 2 batches, 3 times; the trainer saves its last step
    if library == "minipeft":  # transformers knows peft's class alone: it writes the whole model
        whole = load_file(folder / "model.safetensors")
        assert whole.keys() == cells.names["model"].state_dict().keys()
        return
    model = cells.names["PeftModel"].from_pretrained(tiny("gpt2"), folder)
    assert torch.equal(output(model, "gpt2"), output(cells.names["model"], "gpt2"))


@no_gpu
@pytest.mark.parametrize("edit", [EDIT, ("model=model", "model=model.get_base_model()")])
def test_002_L159_what_trains_today(notebook: Open, edit: tuple[str, str]):
    cells = prepared(notebook())
    cells.run(BLOCKS["L159"], edit)
    check_trained(cells)


@no_gpu
def test_002_L159_a_dataset_needs_labels(notebook: Open):
    cells = prepared(notebook())
    cells.names["train_dataset"] = [{"input_ids": ROW["input_ids"]}] * 32
    with pytest.raises(ValueError, match="did not return a loss"):
        cells.run(BLOCKS["L159"], EDIT)
