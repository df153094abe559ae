"""Note 000, the options of LoRA and merging, with minipeft in the place of peft."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import pytest
import torch
import transformers
from conftest import output, tiny
from notes_stand_ins import Open, no_python, size
from notes_stand_ins import fixture_library as fixture_library
from notes_stand_ins import fixture_notebook as fixture_notebook
from notes_stand_ins import fixture_stand_ins as fixture_stand_ins
from torch import nn

import minipeft
from minipeft.checks.errors import ConfigError

_MERGED = """
    from transformers import AutoModelForCausalLM
    from peft import PeftModel
    base_model = AutoModelForCausalLM.from_pretrained("mistralai/Mistral-7B-v0.1")
    peft_model_id = "alignment-handbook/zephyr-7b-sft-lora"
    model = PeftModel.from_pretrained(base_model, peft_model_id)
    """
BLOCKS = {  # by the line where a block is fenced; without comments and blank lines
    "L17": """
    config = peft.LoraConfig(
        r=8,
        target_modules=["seq.0", "seq.2"],
        modules_to_save=["seq.4"],
    )
    """,
    "L62": 'config = LoraConfig(..., target_modules="all-linear")',  # no name given in the note
    "L70": "config = LoraConfig(use_rslora=True, ...)",
    "L82": "config = LoraConfig(use_dora=True, ...)",
    "L100": "config = LoraConfig(layer_replication=[[0,4], [2,5]], ...)",
    "L114": _MERGED + "model.merge_and_unload()",
    "L127": _MERGED + "model.merge_adapter()\n    model.unmerge_adapter()",
    "L173": """
    from transformers import AutoModelForSeq2SeqLM
    from peft import LoraModel, LoraConfig
    config = LoraConfig(
        task_type="SEQ_2_SEQ_LM",
        r=8,
        lora_alpha=32,
        target_modules=["q", "v"],
        lora_dropout=0.01,
    )
    model = AutoModelForSeq2SeqLM.from_pretrained("t5-base")
    lora_model = LoraModel(model, config, "default")
    """,
}


@pytest.mark.parametrize("block", ["L70", "L82", "L100"])
def test_three_dots_after_an_option_are_no_python(block: str):
    no_python(BLOCKS[block])


class Sequence(nn.Module):
    """The model of peft's tutorial, which 000:L17 configures."""

    def __init__(self) -> None:
        super().__init__()
        widths = [nn.Linear(20, 2000), nn.ReLU(), nn.Linear(2000, 2000), nn.ReLU()]
        self.seq = nn.Sequential(*widths, nn.Linear(2000, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.seq(x)


def test_000_L17_dotted_targets_and_a_module_trained_whole(notebook: Open, library: str):
    module = __import__(library)
    with pytest.raises(NameError, match="'peft' is not defined"):
        notebook(library).run(BLOCKS["L17"])
    config = notebook(peft=module).run(BLOCKS["L17"])["config"]
    with torch.device("meta"):
        model = module.get_peft_model(Sequence(), config)
    # 8 · (20 + 2000) + 8 · (2000 + 2000) for the two LoRAs, and a copy of the last layer
    assert model.get_nb_trainable_parameters()[0] == 16_160 + 32_000 + 4_002 == 52_162


@pytest.mark.parametrize("start", [True, False, "gaussian"])
def test_000_L41_ways_to_start(notebook: Open, library: str, start: bool | str):
    module = __import__(library)
    config = module.LoraConfig(target_modules=["q_proj"], init_lora_weights=start)
    model = module.get_peft_model(tiny("llama"), config)
    changed = not torch.equal(output(model.eval(), "llama"), output(tiny("llama"), "llama"))
    assert changed is (start is False)


def test_000_L62_three_dots_are_no_options(notebook: Open, library: str):
    module = __import__(library)
    given = {"LoraConfig": module.LoraConfig}
    with pytest.raises(ValueError, match="Ellipsis"):  # it is read as the task
        notebook(library, **given).run(BLOCKS["L62"])
    config = notebook(library, **given).run(BLOCKS["L62"], ("..., ", ""))["config"]
    model = module.get_peft_model(tiny("llama"), config)
    # two layers, r = 8: q and o (16, 16), k and v (16, 8), gate and up (16, 24), down (24, 16)
    assert model.get_nb_trainable_parameters()[0] == 2 * 8 * (2 * 32 + 2 * 24 + 3 * 40)


def test_000_L70_rank_stabilised(notebook: Open, library: str):
    module = __import__(library)
    edit = (
        "use_rslora=True, ...",
        "use_rslora=True, r=4, lora_alpha=16, target_modules=['q_proj']",
    )
    config = notebook(library, LoraConfig=module.LoraConfig).run(BLOCKS["L70"], edit)["config"]
    model = module.get_peft_model(tiny("llama"), config)
    # peft keeps one scaling by adapter name; α/√r = 16/√4, where α/r would give 4
    loras = [m for m in model.modules() if {"lora_A"} & {*m._parameters, *m._modules}]
    scalings = [lora.scaling for lora in loras]
    assert scalings == [8.0 if library == "minipeft" else {"default": 8.0}] * 2


def test_000_L114_merging_changes_the_base_model_in_place(notebook: Open, library: str):
    adapter = "alignment-handbook/zephyr-7b-sft-lora"
    names = notebook(library).run(BLOCKS["L114"])
    expected = output(minipeft.PeftModel.from_pretrained(tiny("mistral"), adapter), "mistral")
    assert not torch.allclose(output(tiny("mistral"), "mistral"), expected, atol=1e-2)
    # the block throws the result away, and base_model has it; float32: measured 1.6e-6
    assert torch.allclose(output(names["base_model"], "mistral"), expected, atol=1e-5)
    assert size(names["base_model"]) == size(tiny("mistral"))


def test_000_L127_and_back(notebook: Open, library: str):
    names = notebook(library).run(BLOCKS["L127"])
    whole, original = names["model"].state_dict(), tiny("mistral").state_dict()
    for key, weight in original.items():
        key = "base_model.model." + key
        here = whole[key if key in whole else key.replace(".weight", ".base_layer.weight")]
        # "applies the original copy": ours does; peft keeps none and subtracts, which rounds: 6e-8
        same = torch.equal if library == "minipeft" else partial(torch.allclose, atol=1e-6)
        assert same(here, weight)


# 000:L144-161 and 41-50: what works with a value that is not the default, and what does not yet
WORKS: dict[str, Any] = {
    "r": 4, "target_modules": ["q_proj"], "lora_alpha": 16, "lora_dropout": 0.1,
    "fan_in_fan_out": True, "use_rslora": True, "modules_to_save": ["norm"],
    "init_lora_weights": "gaussian", "bias": "lora_only", "use_dora": True,
    "layers_to_transform": [0], "layers_pattern": "layers", "rank_pattern": {"q_proj": 4},
    "alpha_pattern": {"q_proj": 4}, "layer_replication": [[0, 4], [2, 5]],
}  # fmt: skip
REFUSED: dict[str, Any] = {"megatron_config": {"x": 1}, "megatron_core": "core"}


def test_000_L140_every_option_works_or_is_refused(peft: Any):
    for name, value in WORKS.items():
        beside = {"layers_to_transform": 0} if name == "layers_pattern" else {}
        assert getattr(minipeft.LoraConfig(**{name: value, **beside}), name) == value
    for name, value in REFUSED.items():
        with pytest.raises(ConfigError, match=f"{name}=.* is not available in this version"):
            minipeft.LoraConfig(**{name: value})
    for bits in (2, 4, 8):  # works with init_lora_weights="loftq" only, which peft lets pass
        pair = {"init_lora_weights": "loftq", "loftq_config": {"loftq_bits": bits, "loftq_iter": 3}}
        assert minipeft.LoraConfig(**pair).loftq_config == pair["loftq_config"]
        with pytest.raises(ConfigError, match=r"loftq_config=.* does nothing with init_lora_we"):
            minipeft.LoraConfig(loftq_config=pair["loftq_config"])
    options = inspect.signature(peft.LoraConfig).parameters
    assert {*WORKS, *REFUSED, "loftq_config"} <= {*options}
    assert len(WORKS) + len(REFUSED) + 1 == 18  # those that the note lists


def test_000_L82_dora(notebook: Open, library: str):
    module = __import__(library)
    edit = (", ...", ", r=4, target_modules=['q_proj']")
    config = notebook(library, LoraConfig=module.LoraConfig).run(BLOCKS["L82"], edit)["config"]
    model = module.get_peft_model(tiny("llama"), config).eval()
    assert model.get_nb_trainable_parameters()[0] == 2 * (4 * (16 + 16) + 16)  # m has one per row
    # m / ‖V‖ is 1 up to the rounding of two ways to sum a square: float32
    assert torch.allclose(output(model, "llama"), output(tiny("llama"), "llama"), atol=1e-5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_magnitude_vector" in name:
                parameter.mul_(2)  # twice as long: what q_proj gives, but for a bias, doubles
    doubled = tiny("llama")
    for layer in doubled.model.layers:
        layer.self_attn.q_proj.weight.data *= 2
    assert torch.allclose(output(model, "llama"), output(doubled, "llama"), atol=1e-5)


def test_000_L41_loftq_starts_nearer_than_quantization_alone(notebook: Open):
    from minipeft import LoftQConfig, LoraConfig  # the note names the option; 000:L159 its config

    options = LoftQConfig(loftq_bits=4, loftq_iter=5)
    config = LoraConfig(
        r=4, init_lora_weights="loftq", loftq_config=options, target_modules="all-linear"
    )
    model, plain, quantized = tiny("llama"), output(tiny("llama"), "llama"), tiny("llama")
    minipeft.quantize_model(quantized, double_quant=False)
    near = (output(minipeft.get_peft_model(model, config), "llama") - plain).norm()
    assert near < 0.8 * (output(quantized, "llama") - plain).norm()


def test_000_L100_seven_layers_out_of_five(notebook: Open, library: str):
    module = __import__(library)
    edit = (", ...", ", r=4, target_modules=['q_proj']")
    config = notebook(library, LoraConfig=module.LoraConfig).run(BLOCKS["L100"], edit)["config"]
    five = transformers.LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=5, num_attention_heads=4,
        vocab_size=40,
    )  # fmt: skip
    base = transformers.LlamaForCausalLM(five)
    own, inside = sum(p.numel() for p in base.parameters()), list(base.model.layers)
    model = module.get_peft_model(base, config)
    trained, everything = model.get_nb_trainable_parameters()
    assert trained == 7 * 4 * (16 + 16)  # a LoRA for each copy
    assert everything == own + trained  # and no copy of the weights
    of = [layer.self_attn.q_proj.base_layer.weight for layer in base.model.layers]
    old = [layer.self_attn.q_proj for layer in inside]
    assert [next(i for i, q in enumerate(old) if near(q) is w) for w in of] == [0, 1, 2, 3, 2, 3, 4]


def near(layer: Any) -> torch.Tensor:
    """A layer's weight, whether it was wrapped or not."""
    weight: torch.Tensor = getattr(layer, "base_layer", layer).weight
    return weight


def test_000_L173_a_lora_model_alone(notebook: Open, library: str):
    names = notebook(library).run(BLOCKS["L173"])
    lora_model, model = names["lora_model"], names["model"]
    assert isinstance(lora_model, nn.Module)
    assert lora_model.model is model
    # six attention blocks with q and v of (16, 16)
    trained = sum(p.numel() for p in lora_model.parameters() if p.requires_grad)
    assert trained == 6 * 2 * 8 * 32
    assert torch.equal(output(lora_model.eval(), "t5"), output(tiny("t5"), "t5"))
    assert not hasattr(lora_model, "print_trainable_parameters")  # "like PeftModel", 000:L194: no


def test_000_L194_the_first_argument_is_called_model(library: str):
    module = __import__(library)
    config = module.LoraConfig(target_modules=["q_proj"])
    with pytest.raises(TypeError, match="unexpected keyword argument 'module'"):
        module.get_peft_model(module=tiny("llama"), config=config)
    model = module.get_peft_model(tiny("llama"), config, adapter_name="mine")
    assert model.active_adapter == "mine"
