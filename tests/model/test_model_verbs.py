"""The verbs of PeftModel: add, switch, combine, disable, delete, count; named as in peft."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import adapted, inputs, output, shake, state_of, tiny
from torch import nn

import minipeft
from minipeft import LoraConfig, LoraModel, MinipeftWarning, PeftModel, get_peft_model
from minipeft.checks.errors import AdapterNameError, ConfigTypeError, StateError
from minipeft.lab.counting import meta_model
from minipeft.tuner.slots import Wrapper


def trainable(model: nn.Module) -> set[str]:
    """The adapters of which anything is trainable, and "base" for anything else."""
    names = [n.split(".") for n, p in model.named_parameters() if p.requires_grad]
    return {n[n.index("adapters") + 1] if "adapters" in n else "base" for n in names}


@pytest.fixture
def two():
    """GPT-2 with "default" on c_attn, in use, and "b" on c_attn and c_fc."""
    model = adapted("gpt2")
    model.add_adapter("b", LoraConfig(r=2, target_modules=["c_attn", "c_fc"]))
    shake(model, seed=6)
    return model


# --- one adapter ---------------------------------------------------------------------------------


def test_a_new_adapter_changes_nothing_and_alone_is_trained():
    base = tiny("gpt2")
    before = output(base, "gpt2")
    model = get_peft_model(base, LoraConfig(r=2))
    assert torch.equal(output(model, "gpt2"), before)
    assert trainable(model) == {"default"}
    model(**inputs("gpt2")).loss.backward()
    grads = {n for n, p in model.named_parameters() if p.grad is not None}
    assert grads == {n for n, _ in model.named_parameters() if "lora_" in n}


def test_the_frozen_layer_is_the_very_object_that_stood_there():
    base = tiny("gpt2")
    layer, hooked = base.transformer.h[0].attn.c_attn, []
    layer.register_forward_hook(lambda *_: hooked.append(1))
    model = get_peft_model(base, LoraConfig())
    slot = model.get_base_model().transformer.h[0].attn.c_attn
    assert isinstance(slot, Wrapper)
    assert slot.base_layer is layer
    assert slot.weight is layer.weight
    assert slot.nf == layer.nf  # what models ask of their layers, the frozen layer answers
    output(model, "gpt2")
    assert hooked == [1]


def test_what_a_model_shows():
    config = LoraConfig(r=np.int64(4), task_type="CAUSAL_LM", target_modules={"c_fc", "c_attn"})
    model = PeftModel(tiny("gpt2"), config, "mine")
    assert isinstance(model, PeftModel)
    assert (model.active_adapter, model.active_adapters) == ("mine", ["mine"])
    assert list(model.peft_config) == ["mine"]
    assert model.active_peft_config is model.peft_config["mine"]
    assert model.active_peft_config is not config  # one config serves many models
    assert config == LoraConfig(r=4, task_type="CAUSAL_LM", target_modules=["c_attn", "c_fc"])
    assert model.get_base_model() is model.base_model.model
    assert model.config.model_type == "gpt2"  # the base model answers
    assert "rank=4" in repr(model)
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = model.no_such_thing
    assert get_peft_model(tiny("gpt2"), LoraConfig()).active_peft_config.target_modules == [
        "c_attn"
    ]


def test_inference_mode_freezes_the_adapter_too():
    model = get_peft_model(tiny("gpt2"), LoraConfig(inference_mode=True))
    assert trainable(model) == set()
    model.set_adapter("default", inference_mode=False)
    assert trainable(model) == {"default"}
    model.set_adapter("default", inference_mode=True)
    assert trainable(model) == set()


def test_unload_gives_back_what_was_trainable():
    base = tiny("gpt2").requires_grad_(False)
    base.lm_head.weight.requires_grad_(True)
    before = {n: p.requires_grad for n, p in base.named_parameters()}
    plain = get_peft_model(base, LoraConfig(target_modules="all-linear")).unload()
    assert {n: p.requires_grad for n, p in plain.named_parameters()} == before


@pytest.mark.parametrize("training", [True, False])
def test_modes_are_kept(training: bool):
    base = tiny("bert").train(training)
    base.bert.encoder.layer[0].attention.self.query.train(not training)
    modes = {n: m.training for n, m in base.named_modules()}
    model = get_peft_model(base, LoraConfig(task_type="SEQ_CLS", lora_dropout=0.1))
    query = base.bert.encoder.layer[0].attention.self.query
    assert query.training is query.adapters["default"].training is not training
    assert base.classifier.training is base.classifier.adapters["default"].training is training
    assert {n: m.training for n, m in model.unload().named_modules()} == modes


# --- several -------------------------------------------------------------------------------------


def test_adding_does_not_switch_and_switching_trains_the_other(two: PeftModel):
    first = output(two, "gpt2")
    assert two.active_adapters == ["default"]
    assert trainable(two) == {"default"}
    two.set_adapter("b")
    assert (two.active_adapter, trainable(two)) == ("b", {"b"})
    assert not torch.allclose(output(two, "gpt2"), first, atol=1e-2)
    two.set_adapter("default")
    assert torch.equal(output(two, "gpt2"), first)


def test_active_together_the_updates_add_up():
    model = adapted("mlp", target_modules=["second"])
    model.add_adapter("b", LoraConfig(r=2, target_modules=["second"]))
    shake(model)
    parts = {}
    for names in ("default", "b", ("default", "b"), ("b", "default", "b")):
        model.set_adapter(names)
        parts[names] = output(model, "mlp")
    assert trainable(model) == {"default", "b"}
    assert model.active_adapters == ["b", "default"]  # each once
    with model.disable_adapter():
        bare = output(model, "mlp")
    added = parts["default"] + parts["b"] - bare
    # float32, entries up to 3: measured difference 5e-7
    assert torch.allclose(parts["default", "b"], added, atol=1e-5)
    assert torch.allclose(parts["b", "default", "b"], added, atol=1e-5)


def test_deleting_takes_the_slots_away_that_nobody_needs(two: PeftModel):
    first = output(two, "gpt2")
    two.delete_adapter("b")
    assert list(two.peft_config) == ["default"]
    assert type(two.transformer.h[0].mlp.c_fc).__name__ == "Conv1D"
    assert torch.equal(output(two, "gpt2"), first)
    two.add_adapter("b", LoraConfig(r=3))  # the name is free again
    with pytest.warns(MinipeftWarning, match="'default' was the adapter in use; none is now"):
        two.delete_adapter("default")
    assert torch.equal(output(two, "gpt2"), output(tiny("gpt2"), "gpt2"))
    with pytest.raises(StateError, match=r"no adapter is active.*set_adapter\(name\)"):
        _ = two.active_adapter
    two.delete_adapter("b")
    assert not any(isinstance(module, Wrapper) for module in two.modules())


def test_deleting_one_of_two_in_use_leaves_the_other(two: PeftModel):
    two.set_adapter(["default", "b"])
    two.delete_adapter("b")
    assert (two.active_adapters, trainable(two)) == (["default"], {"default"})


def test_disabled_in_a_with_nested_and_after_an_exception(two: PeftModel):
    bare, first = output(tiny("gpt2"), "gpt2"), output(two, "gpt2")
    with two.disable_adapter():
        assert torch.equal(output(two, "gpt2"), bare)
        with two.disable_adapter():
            assert torch.equal(output(two, "gpt2"), bare)
        assert torch.equal(output(two, "gpt2"), bare)
        two.set_adapter("b")
        assert torch.equal(output(two, "gpt2"), bare)
        two.set_adapter("default")
    assert torch.equal(output(two, "gpt2"), first)
    with pytest.raises(ZeroDivisionError), two.disable_adapter():
        _ = 1 / 0
    assert torch.equal(output(two, "gpt2"), first)


@pytest.mark.parametrize("name", ["nobody", "defualt", ["default", "nobody"], 5, None, [3], []])
def test_unknown_names_are_refused_by_every_verb(two: PeftModel, name: object, tmp_path):
    before = state_of(two)
    verbs = [two.set_adapter, two.merge_adapter, two.merge_and_unload]
    verbs.append(lambda names: two.save_pretrained(tmp_path, selected_adapters=names))
    for verb in verbs[: 1 if name is None else 4]:  # None means "the usual ones" to the others
        with pytest.raises(AdapterNameError, match=r"there is no adapter|must be a name or a list"):
            verb(name)
        assert state_of(two) == before
    assert not list(tmp_path.iterdir())
    if name == "defualt":
        with pytest.raises(AdapterNameError, match=r"did you mean 'default'\?.*'default', 'b'"):
            two.delete_adapter(name)


def test_inference_mode_must_be_a_bool(two: PeftModel):
    with pytest.raises(ConfigTypeError, match="inference_mode must be True or False, got 'no'"):
        two.set_adapter("b", inference_mode="no")
    assert two.active_adapter == "default"


# --- counting, and the model without the verbs ---------------------------------------------------


def test_the_line_that_is_printed(capsys: pytest.CaptureFixture[str]):
    model = get_peft_model(meta_model("gpt2"), LoraConfig(r=8))
    model.print_trainable_parameters()
    said = "trainable params: 294,912 || all params: 124,734,720 || trainable%: 0.2364\n"
    assert capsys.readouterr().out == said
    assert model.get_nb_trainable_parameters() == (294_912, 124_734_720)


def test_lora_model_as_in_the_notes():
    """Note 000, line 173: the constructor called directly."""
    config = LoraConfig(
        task_type="SEQ_2_SEQ_LM", r=8, lora_alpha=32, target_modules=["q", "v"], lora_dropout=0.01
    )
    base = tiny("t5")
    bare = output(base, "t5")
    lora_model = LoraModel(base, config, "default")
    assert torch.equal(output(lora_model, "t5"), bare)
    assert trainable(lora_model) == {"default"}
    keys = minipeft.get_peft_model_state_dict(lora_model)
    assert all(
        key.startswith(("base_model.model.encoder.", "base_model.model.decoder.")) for key in keys
    )
    with pytest.raises(StateError, match="this model has adapters already"):
        LoraModel(base, config, "default")
    with pytest.raises(StateError, match="this model has adapters already"):
        get_peft_model(lora_model, config)
