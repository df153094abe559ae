"""Note 004, how peft is built, with minipeft in the place of peft."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import output, tiny
from notes_stand_ins import Open, no_python, size
from notes_stand_ins import fixture_library as fixture_library
from notes_stand_ins import fixture_notebook as fixture_notebook
from notes_stand_ins import fixture_stand_ins as fixture_stand_ins
from test_notes_002 import BLOCKS as BLOCKS_002
from transformers import ViTConfig, ViTForImageClassification

import minipeft
from minipeft import LoraConfig, get_peft_model
from minipeft.lab.counting import count
from minipeft.tuner.attach import LayerModel

BLOCKS = {  # by the line where a block is fenced; without comments and blank lines
    "L47": """
    lora_model = PeftModel(model, peft_config: PeftConfig, adapter_name="default")
    lora_model.active_adapter
    lora_model.peft_config
    lora_model.active_peft_config == lora_model.peft_config[lora_model.active_adapter]
    lora_model.get_base_model()
    lora_model.base_model
    """,
    "L64": """
    from transformers import AutoModelForImageClassification, TrainingArguments, Trainer
    from peft import LoraConfig, get_peft_model
    model_checkpoint = "google/vit-base-patch16-224-in21k"
    model = AutoModelForImageClassification.from_pretrained(
        model_checkpoint,
        ignore_mismatched_sizes=True,
    )
    print_trainable_parameters(model)
    config = LoraConfig(
        r=16,
        lora_alpha=16,
        target_modules=["query", "value"],
        lora_dropout=0.1,
        bias="none",
        modules_to_save=["classifier"],
    )
    lora_model = get_peft_model(model, config)
    print_trainable_parameters(lora_model)
    """,
}


def test_004_L47_an_annotation_in_a_call_is_no_python():
    no_python(BLOCKS["L47"])


def opened(notebook: Open, library: str) -> Any:
    """The model of 004:L47."""
    module = __import__(library)
    cells = notebook(
        library, PeftModel=module.PeftModel, model=tiny("gpt2"), peft_config=module.LoraConfig()
    )
    return cells.run(BLOCKS["L47"], ("peft_config: PeftConfig", "peft_config"))["lora_model"]


def test_004_L47_several_adapters_by_name(notebook: Open, library: str):
    model = opened(notebook, library)
    assert model.active_adapter == "default"
    assert list(model.peft_config) == ["default"]
    assert model.active_peft_config is model.peft_config[model.active_adapter]
    model.add_adapter("second", __import__(library).LoraConfig(r=2))
    assert model.active_adapter == "default"
    model.set_adapter("second")
    assert model.active_adapter == "second"
    assert list(model.peft_config) == ["default", "second"]
    assert model.active_peft_config is model.peft_config["second"]
    assert model.active_peft_config.r == 2


def test_004_L53_the_base_model_is_any_module(notebook: Open, library: str):
    model = opened(notebook, library)
    assert type(model.get_base_model()) is type(tiny("gpt2"))
    module, base = __import__(library), tiny("mlp")  # "always a PretrainedModel": no
    plain = module.get_peft_model(base, module.LoraConfig(target_modules=["first"]))
    assert plain.get_base_model() is base


def test_004_L54_what_base_model_is(notebook: Open, library: str):
    module, model = __import__(library), opened(notebook, library)
    config = module.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    prefix = module.get_peft_model(tiny("gpt2"), config)
    if library == "peft":  # as the note says
        assert type(model.base_model) is module.LoraModel
        assert type(prefix.base_model) is type(tiny("gpt2"))
    else:  # one class for every method, around the model
        assert type(model.base_model) is type(prefix.base_model) is LayerModel
        assert issubclass(minipeft.LoraModel, LayerModel)
        assert type(prefix.base_model.model) is type(tiny("gpt2"))
    assert model.base_model.model is model.get_base_model()


def test_004_L54_base_model_answers_for_the_model(notebook: Open, library: str):
    model = opened(notebook, library)
    assert model.base_model.config is model.config


@pytest.mark.parametrize(
    "library",
    [
        pytest.param("minipeft", marks=pytest.mark.xfail(strict=True, raises=AttributeError)),
        "peft",
    ],
    indirect=True,
)
def test_004_L40_a_config_is_saved_and_loaded_alone(library: str, tmp_path: Path):
    config = __import__(library).LoraConfig(r=4)
    config.save_pretrained(tmp_path)
    assert type(config).from_pretrained(tmp_path).r == 4


def test_004_L31_the_tree_of_configs(library: str):
    module = __import__(library)
    assert issubclass(module.LoraConfig, module.PeftConfig)
    assert issubclass(module.PrefixTuningConfig, module.PeftConfig)
    for name, kind in (("LoraConfig", "LORA"), ("PrefixTuningConfig", "PREFIX_TUNING")):
        needed = {"num_virtual_tokens": 4} if kind != "LORA" else {}
        config = getattr(module, name)(**needed)
        assert config.peft_type == module.PeftType[kind]
        for attribute in ("base_model_name_or_path", "task_type", "inference_mode"):
            assert not getattr(config, attribute)


def test_004_L64_an_image_classifier(
    notebook: Open, library: str, capsys: pytest.CaptureFixture[str]
):
    block, edit = BLOCKS["L64"], ('["query", "value"]', '["q_proj", "v_proj"]')
    with pytest.raises(NameError, match="'print_trainable_parameters' is not defined"):
        notebook(library).run(block)
    cells = notebook(library, model=tiny("vit"))
    cells.run(BLOCKS_002["L131"])
    with pytest.raises(ValueError, match="target_modules"):  # called so before transformers 5
        cells.run(block)
    capsys.readouterr()
    model = cells.run(block, edit)["lora_model"]
    lora, head = 2 * 2 * 16 * (16 + 16), 16 * 3 + 3  # two layers, q and v; the classifier's copy
    before, after = size(tiny("vit")), size(tiny("vit")) + lora + head
    numbers = [row.split(": ")[1] for row in capsys.readouterr().out.strip().splitlines()]
    assert numbers[:2] + numbers[3:5] == [str(n) for n in (before, before, lora + head, after)]
    assert torch.equal(output(model.eval(), "vit"), output(tiny("vit"), "vit"))
    # 004:L86: without a task get_peft_model(model, config) is PeftModel(model, config)
    assert type(model) is __import__(library).PeftModel


@pytest.mark.parametrize(("labels", "trained"), [(2, 591_362), (101, 667_493)])
def test_004_L64_the_real_size(labels: int, trained: int):
    with torch.device("meta"):
        vit = ViTForImageClassification(ViTConfig(num_labels=labels))
    targets, heads = ["q_proj", "v_proj"], ["classifier"]
    config = LoraConfig(r=16, target_modules=targets, modules_to_save=heads)
    counted = count(vit, config)
    assert counted.trainable == trained == 12 * 2 * 16 * 2 * 768 + 769 * labels
    assert get_peft_model(vit, config).get_nb_trainable_parameters() == (trained, counted.all)
    assert labels == 2 or counted.all == 86_543_818
