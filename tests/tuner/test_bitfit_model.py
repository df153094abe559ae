"""BitFit in a model: layers of every kind, merging, files, counts, and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import transformers
from conftest import ALL_FAMILIES, WEIGHTS, output, shake, state_of, tiny
from test_bitfit import BARE, WITH_BIASES, bitfit, deltas, own_biases
from torch import Tensor, nn

from minipeft import BitFitConfig, LoraConfig, PeftModel, get_peft_model
from minipeft.checks.errors import CheckpointError, StateError, TargetError
from minipeft.lab.counting import count


class Body(nn.Module):
    """One layer with a bias, between two things without."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer
        self.act = nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.layer(x))


LAYERS = {
    "Linear": (nn.Linear(4, 6), (2, 3, 4)),
    "Conv1d": (nn.Conv1d(4, 6, 3), (2, 4, 5)),
    "Conv1d without a batch": (nn.Conv1d(4, 6, 3), (4, 5)),
    "Conv2d": (nn.Conv2d(4, 6, 3, groups=2), (2, 4, 6, 5)),
    "Conv3d": (nn.Conv3d(4, 6, 2), (2, 4, 3, 5, 4)),
    "ConvTranspose2d": (nn.ConvTranspose2d(4, 6, 2), (2, 4, 5, 3)),
    "BatchNorm1d": (nn.BatchNorm1d(4), (5, 4)),
    "BatchNorm1d over time": (nn.BatchNorm1d(4), (5, 4, 3)),
    "BatchNorm2d": (nn.BatchNorm2d(4), (5, 4, 3, 2)),
    "GroupNorm": (nn.GroupNorm(2, 4), (5, 4, 3, 2)),
    "LayerNorm": (nn.LayerNorm(4), (5, 3, 4)),
    "LayerNorm over two axes": (nn.LayerNorm((3, 4)), (5, 3, 4)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_of_any_kind_does_what_a_changed_bias_does(kind: str):
    layer, shape = LAYERS[kind]
    x = torch.randn(shape)
    base = Body(copy.deepcopy(layer)).eval()
    model = get_peft_model(base, BitFitConfig())
    assert torch.equal(model(x), Body(layer).eval()(x))
    shake(model)
    plain = Body(copy.deepcopy(layer)).eval()
    plain.layer.bias.data += deltas(model)["layer.bias"]
    y = model(x)
    # one addition in another place: one rounding, 6e-8 of numbers of size 1
    assert torch.allclose(y, plain(x), rtol=0, atol=2.5e-7)
    y.square().sum().backward()
    plain(x).square().sum().backward()
    grad = model.layer.adapters["default"].delta_bias.grad
    # sums of up to 144 terms in another order: measured 2.1e-7 of the largest
    bound = 1e-6 * float(grad.abs().max())
    assert torch.allclose(grad, plain.layer.bias.grad, rtol=0, atol=bound)
    before = state_of(model)
    model.merge_adapter()
    assert torch.equal(model.layer.base_layer.bias, plain.layer.bias)
    assert torch.equal(model(x), plain(x))
    model.unmerge_adapter()
    assert state_of(model) == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", [name for name in WITH_BIASES if name != "mlp"])
def test_merging_changes_biases_only_and_the_way_back_is_exact(name: str, dtype: torch.dtype):
    model = get_peft_model(tiny(name, dtype), BitFitConfig())
    shake(model)
    before, state = output(model, name), state_of(model)
    model.merge_adapter()
    # the bias is rounded to the model's dtype where the change beside it was not: measured, of the
    # largest logit, 3e-7, 2.2e-3 and 1.4e-2; times four
    bound = {torch.float32: 1.2e-6, torch.float16: 9e-3, torch.bfloat16: 6e-2}[dtype]
    assert (output(model, name) - before).abs().max() <= bound * before.abs().max()
    plain = tiny(name, dtype)
    for key, parameter in plain.named_parameters():
        layer, _, last = key.rpartition(".")
        merged = getattr(model.get_base_model().get_submodule(layer), last)
        assert torch.equal(merged, parameter) is not key.endswith("bias"), key
    model.unmerge_adapter()
    assert state_of(model) == state
    bare = model.merge_and_unload()
    assert own_biases(bare).keys() == own_biases(plain).keys()
    assert (output(bare, name) - before).abs().max() <= bound * before.abs().max()


def test_disable_switch_delete_and_unload_give_the_base_back():
    model = bitfit("gpt2")
    bare = output(tiny("gpt2"), "gpt2")
    model.add_adapter("small", BitFitConfig(biases="small"))
    model.add_adapter("lora", LoraConfig(r=2, init_lora_weights=False))
    one = output(model, "gpt2")
    with model.disable_adapter():
        assert torch.equal(output(model, "gpt2"), bare)
    model.set_adapter("small")
    assert torch.equal(output(model, "gpt2"), bare)
    model.set_adapter(["default", "lora"])
    both = output(model, "gpt2")
    assert not torch.allclose(both, one, atol=1e-3)
    model.merge_adapter(["default", "lora"])
    assert torch.allclose(output(model, "gpt2"), both, rtol=0, atol=1e-5)
    model.unmerge_adapter()
    assert torch.equal(output(model, "gpt2"), both)
    model.delete_adapter("lora")
    model.set_adapter("default")
    assert torch.equal(output(model, "gpt2"), one)
    plain = model.unload()
    assert torch.equal(output(plain, "gpt2"), bare)
    assert state_of(plain)["parameters"][0][3:] == state_of(tiny("gpt2"))["parameters"][0][3:]


def test_a_bias_that_is_not_finite_is_refused():
    model = bitfit("gpt2")
    last = [p for n, p in model.named_parameters() if n.endswith("delta_bias")][-1]
    last.data[0] = float("inf")
    before = state_of(model)
    with pytest.raises(StateError, match="not finite"):
        model.merge_adapter()
    assert state_of(model) == before


def test_a_shared_matrix_is_no_obstacle_where_only_the_bias_changes():
    config = transformers.BertConfig(
        vocab_size=48, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=24,
    )  # fmt: skip
    base = transformers.BertForMaskedLM(config).eval()
    head = base.cls.predictions
    assert head.decoder.weight is base.bert.embeddings.word_embeddings.weight
    assert head.decoder.bias is head.bias  # one bias in two modules, of which one adds it
    model = get_peft_model(base, BitFitConfig())
    assert "cls.predictions.decoder.bias" in deltas(model)
    shake(model)
    before = output(model, "bert_token")
    model.merge_adapter()
    assert torch.allclose(output(model, "bert_token"), before, rtol=0, atol=1e-5)
    linear = get_peft_model(model.unload(), BitFitConfig(target_modules="all-linear"))
    assert "cls.predictions.decoder.bias" not in deltas(linear)  # the output layer, as for LoRA


def test_a_model_in_training_keeps_its_modes_and_its_statistics_run_on():
    base = Body(nn.BatchNorm1d(4)).train()
    model = get_peft_model(base, BitFitConfig())
    assert all(module.training for module in base.modules())
    model(torch.randn(8, 4))
    assert int(base.layer.base_layer.num_batches_tracked) == 1


# --- files and counts ----------------------------------------------------------------------------


@pytest.mark.parametrize("biases", ["all", "small"])
@pytest.mark.parametrize("name", ["gpt2", "bloom", "bert", "vit", "qwen2"])
def test_a_file_brings_back_the_very_values(tmp_path: Path, name: str, biases: str):
    model = bitfit(name, biases=biases)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(tiny(name), tmp_path)
    assert again.active_peft_config.biases == biases
    assert torch.equal(output(again, name), output(model, name))
    assert not torch.equal(output(again, name), output(tiny(name), name))
    numbers = sum(p.numel() for p in model.parameters() if p.requires_grad)
    size = (tmp_path / WEIGHTS).stat().st_size
    assert 4 * numbers < size < 4 * numbers + 6000  # the rest is the table of names
    with pytest.raises(CheckpointError):
        PeftModel.from_pretrained(tiny("llama"), tmp_path)


@pytest.mark.parametrize("biases", ["all", "small"])
@pytest.mark.parametrize("name", [n for n in ALL_FAMILIES if n not in BARE and n != "mlp"])
def test_the_formula_counts_what_is_built(name: str, biases: str):
    config = BitFitConfig(biases=biases)
    built = get_peft_model(tiny(name), config).get_nb_trainable_parameters()
    counted = count(tiny(name), config)
    assert built == (counted.trainable, counted.all)
    if biases == "all":
        assert built[0] == sum(bias.numel() for bias in own_biases(tiny(name)).values())


# (all, small): all are those of the golden counts; small is layers · (d + 4d)
GOLDEN = {
    "gpt2": (102_144, 12 * 5 * 768),
    "gpt2-medium": (271_360, 24 * 5 * 1024),
    "bloom-560m": (272_384, 24 * 5 * 1024),
    "bloom-1b4-zh": (544_768, 24 * 5 * 2048),
    # 102,912 in the body, 2 in the classifier, which without a task is a layer like any other
    "bert-base": (102_914, 12 * 5 * 768),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_counts(name: str):
    both = tuple(count(name, BitFitConfig(biases=b)).trainable for b in ("all", "small"))
    assert both == GOLDEN[name]


def test_with_a_task_the_classifier_is_trained_whole():
    counted = count("bert-base", BitFitConfig(task_type="SEQ_CLS"))
    assert counted.heads == 2 * 768 + 2
    assert counted.trainable == 102_912 + counted.heads


@pytest.mark.parametrize("name", ["llama-2-7b", "t5-base"])
def test_nothing_to_count(name: str):
    with pytest.raises(TargetError, match="has no biases"):
        count(name, BitFitConfig())
