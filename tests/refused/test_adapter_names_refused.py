"""adapter_names: heads that are trained whole, what is refused, and that nothing stays behind."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from conftest import VOCAB, shake, state_of, tiny
from peft_pairs import BOUNDS
from test_adapter_names import ROWS, alone, ids_of, row, rows_of, with_three
from test_lora_conv_models import CNN, image, made
from test_peft_equality import distance
from torch import Tensor

from minipeft import (
    LoraConfig,
    MinipeftError,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    PTuningV2Config,
    get_peft_model,
)
from minipeft.checks.errors import AdapterNameError, StateError

# --- heads ---------------------------------------------------------------------------------------


def classifiers(options: dict[str, Any]) -> Any:
    """A BERT with two adapters, each with a classifier of its own."""
    model = get_peft_model(tiny("bert"), LoraConfig(r=2, **options), "a")
    model.add_adapter("b", LoraConfig(r=3, **options))
    shake(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "classifier" in name and (".a." in name or ".b." in name):
                parameter.add_(0.3 * torch.randn(parameter.shape))
    return model.eval()


@pytest.mark.parametrize("options", [{"task_type": "SEQ_CLS"}, {"modules_to_save": ["pooler"]},
                                     {"modules_to_save": ["pooler", "classifier"]}],
                         ids=str)  # fmt: skip
def test_each_row_has_its_adapters_head(options: dict[str, Any]):
    model, names = classifiers(options), ["a", "b", "__base__", "b"]
    batch = rows_of("bert", 4)
    with torch.no_grad():
        found = model(**batch, adapter_names=names).logits
        for i, key in enumerate(names):
            expected = alone(model, key, lambda m, i=i: m(**row(batch, i)).logits)
            assert distance(expected, found[i : i + 1]) <= BOUNDS[0]
        swapped = model(**batch, adapter_names=["b", "a", "a", "b"]).logits
    assert all(distance(found[i], swapped[i]) > 1e-3 for i in range(3))


def test_a_task_head_with_labels_gives_its_loss():
    model, names = classifiers({"task_type": "SEQ_CLS"}), ["a", "b", "b"]
    batch = {**rows_of("bert", 3), "labels": torch.tensor([0, 2, 1])}
    out = model(**batch, adapter_names=names)
    assert out.loss == torch.nn.functional.cross_entropy(out.logits, batch["labels"])


def test_convolutions_have_rows_too():
    targets = ["stem", "conv1", "fc"]
    model = get_peft_model(made(CNN)(), LoraConfig(r=2, target_modules=targets), "a")
    model.add_adapter("b", LoraConfig(r=2, target_modules=targets[:2], use_dora=True))
    shake(model)
    model.eval()
    x = torch.cat([image()["x"]] * 2)
    names = ["b", "a", "__base__", "b"]
    found = model(x, adapter_names=names)
    for i, key in enumerate(names):
        expected = alone(model, key, lambda m, i=i: m(x[i : i + 1]))
        assert distance(expected, found[i : i + 1]) <= BOUNDS[0]


def test_a_padded_batch():
    model, batch = with_three("llama", "lora"), ids_of(rows_of("llama"))
    for i in range(len(ROWS)):
        batch["attention_mask"][i, :i] = 0  # on the left, so many
    found = model.generate(**batch, adapter_names=ROWS, max_new_tokens=4)
    for i, key in enumerate(ROWS):
        short = {k: v[i : i + 1, i:] for k, v in batch.items()}
        expected = alone(model, key, lambda m, s=short: m.generate(**s, max_new_tokens=4))
        assert torch.equal(found[i, i:], expected[0])


# --- refusals ------------------------------------------------------------------------------------

BAD: list[tuple[Any, str]] = [
    (["a", "b"], r"adapter_names.*\b2\b.*\b5\b|\b5\b.*\b2\b"),
    (["a"] * 6, r"\b6\b.*\b5\b|\b5\b.*\b6\b"),
    ([], r"adapter_names"),
    ("a", r"adapter_names.*'a'"),
    (["a", "a", "zz", "b", "c"], r"'zz'.*'a', 'b', 'c'"),
    (["a", "a", "__bass__", "b", "c"], r"'__bass__'.*__base__"),
    (["a", "a", None, "b", "c"], r"None"),
    (["a", "a", 3, "b", "c"], r"3"),
    (3, r"adapter_names.*3"),
]


@pytest.mark.parametrize("verb", ["forward", "generate"])
@pytest.mark.parametrize(("names", "said"), BAD, ids=str)
def test_bad_names_are_refused(names: Any, said: str, verb: str):
    model, batch = with_three("gpt2", "lora"), ids_of(rows_of("gpt2"))
    before = state_of(model)
    with pytest.raises(MinipeftError, match=said), torch.no_grad():
        run(model, verb, batch, adapter_names=names)
    assert state_of(model) == before
    assert torch.equal(run(model, verb, batch), run(copy.deepcopy(model), verb, batch))
    run(model, verb, batch, adapter_names=ROWS)


def run(model: Any, verb: str, batch: dict[str, Tensor], **options: Any) -> Tensor:
    if verb == "generate":
        found: Tensor = model.generate(**batch, max_new_tokens=2, **options)
        return found
    with torch.no_grad():
        answered: Tensor = model(**batch, **options).logits
    return answered


@pytest.mark.parametrize("verb", ["forward", "generate"])
def test_unknown_names_are_name_errors(verb: str):
    model, batch = with_three("gpt2", "lora"), ids_of(rows_of("gpt2"))
    with pytest.raises(AdapterNameError, match="no adapter 'zz'"):
        run(model, verb, batch, adapter_names=["zz"] * 5)


@pytest.mark.parametrize("verb", ["forward", "generate"])
@pytest.mark.parametrize("names", [["a"], ["a", "b"], ["a", "b"] * 4])
def test_fewer_names_than_rows_are_refused(names: list[str], verb: str):
    model, batch = with_three("gpt2", "lora"), ids_of(rows_of("gpt2", 4))
    before = state_of(model)
    with pytest.raises(MinipeftError, match=rf"\b{len(names)}\b.*\b4\b|\b4\b.*\b{len(names)}\b"):
        run(model, verb, batch, adapter_names=names)
    assert state_of(model) == before


def gradients(checkpointed: bool) -> dict[str, Tensor]:
    """The gradients of all three adapters after one backward pass in training mode."""
    model, batch = with_three("llama", "lora"), rows_of("llama")
    model.train()
    if checkpointed:
        model.activation_checkpointing_enable()
        model.enable_input_require_grads()
    own = {n: p for n, p in model.named_parameters() if ".adapters." in n}
    for parameter in own.values():
        parameter.requires_grad_(True)
    out = model(**batch, adapter_names=ROWS, use_cache=False).logits
    out.square().mean().backward()
    return {n: p.grad for n, p in own.items()}


def test_with_gradient_checkpointing_it_is_the_same_or_refused():
    expected = gradients(False)
    try:
        found = gradients(True)
    except MinipeftError as error:
        found = expected if "checkpoint" in str(error) else {}
    assert found.keys() == expected.keys()
    assert all(distance(expected[n], found[n]) <= BOUNDS[1] for n in expected)


@pytest.mark.parametrize("verb", ["forward", "generate"])
def test_while_merged_it_is_refused(verb: str):
    model, batch = with_three("gpt2", "lora"), ids_of(rows_of("gpt2"))
    model.merge_adapter(["a"])
    before = state_of(model)
    with pytest.raises(StateError, match=r"merged.*unmerge_adapter\(\)"):
        run(model, verb, batch, adapter_names=ROWS)
    assert state_of(model) == before
    model.unmerge_adapter()
    run(model, verb, batch, adapter_names=ROWS)


PROMPTS = [
    PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=3, encoder_hidden_size=8),
    PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    PTuningV2Config(task_type="CAUSAL_LM", num_virtual_tokens=3),
]


@pytest.mark.parametrize("config", PROMPTS, ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("verb", ["forward", "generate"])
def test_prompt_methods_are_refused(config: Any, verb: str):
    model = get_peft_model(tiny("gpt2"), config, "a").eval()
    batch = ids_of(rows_of("gpt2", 2))
    for names in (["a", "__base__"], ["a", "a"]):
        with pytest.raises(MinipeftError, match=r"adapter_names"):
            run(model, verb, batch, adapter_names=names)


def test_a_call_that_fails_leaves_nothing_behind():
    model, batch = with_three("gpt2", "lora"), ids_of(rows_of("gpt2"))
    expected, before = run(model, "forward", batch), state_of(model)
    wrong = {**batch, "input_ids": batch["input_ids"] + VOCAB}  # no such tokens
    for verb in ("forward", "generate"):
        with pytest.raises(IndexError):
            run(model, verb, wrong, adapter_names=ROWS)
        assert state_of(model) == before
        assert torch.equal(run(model, "forward", batch), expected)


def test_none_means_the_active_adapter():
    model, batch = with_three("gpt2", "lora"), ids_of(rows_of("gpt2"))
    for verb in ("forward", "generate"):
        given = run(model, verb, batch, adapter_names=None)
        assert torch.equal(given, run(model, verb, batch))


def test_inside_disable_adapter_the_base_answers():
    model, batch = with_three("gpt2", "lora"), ids_of(rows_of("gpt2"))
    bare = tiny("gpt2")(**batch).logits
    with model.disable_adapter():
        found = run(model, "forward", batch, adapter_names=ROWS)
    assert torch.equal(found, bare)
    assert not torch.equal(run(model, "forward", batch, adapter_names=ROWS), bare)


def test_a_model_asked_again_and_again_answers_the_same():
    model, batch = with_three("t5", "dora"), rows_of("t5")
    first = run(model, "forward", batch, adapter_names=ROWS)
    model.generate(**ids_of(batch), adapter_names=ROWS, num_beams=2, max_new_tokens=3)
    assert torch.equal(run(model, "forward", batch, adapter_names=ROWS), first)
