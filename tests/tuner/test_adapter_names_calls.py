"""adapter_names in every way in which a model is called, and in the dtypes in which it runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import tiny
from peft_pairs import BOUNDS
from test_adapter_names import ROWS, alone, ids_of, row, rows_of, with_three
from test_peft_equality import distance
from torch import Tensor

from minipeft import quantize_model


@torch.no_grad()
def test_the_ways_to_call_agree():
    model, batch = with_three("llama", "lora"), ids_of(rows_of("llama"))
    ids = batch["input_ids"]
    expected = model(**batch, adapter_names=ROWS).logits
    vectors = model.get_input_embeddings()(ids)
    for found in (
        model(ids, adapter_names=ROWS),
        model(input_ids=ids, adapter_names=tuple(ROWS)),
        model(inputs_embeds=vectors, adapter_names=ROWS),
        model(**batch, labels=ids, adapter_names=ROWS),
        model.forward(**batch, adapter_names=ROWS),
    ):
        assert distance(expected, found.logits) <= BOUNDS[0]


def test_the_ways_to_generate_agree():
    model, batch = with_three("gpt2", "lora"), ids_of(rows_of("gpt2"))
    options: dict[str, Any] = {"max_new_tokens": 4, "do_sample": False, "adapter_names": ROWS}
    expected = model.generate(**batch, **options)
    assert torch.equal(model.generate(batch["input_ids"], **options), expected)
    assert torch.equal(model.generate(inputs=batch["input_ids"], **options), expected)
    out = model.generate(**batch, **options, return_dict_in_generate=True, output_logits=True)
    assert torch.equal(out.sequences, expected)
    assert len(out.logits) == 4


def test_words_guessed_ahead_are_checked_with_the_rows_adapter():
    model, batch = with_three("gpt2", "lora"), row(ids_of(rows_of("gpt2")), 0)
    for name in ("a", "b", "__base__"):
        options = {"max_new_tokens": 8, "do_sample": False, "adapter_names": [name]}
        guessed = model.generate(**batch, **options, prompt_lookup_num_tokens=2)
        assert torch.equal(guessed, model.generate(**batch, **options))


def test_the_loss_is_the_mean_over_all_rows():
    model, batch = with_three("llama", "lora"), ids_of(rows_of("llama"))
    loss = model(**batch, labels=batch["input_ids"], adapter_names=ROWS).loss

    def of_row(model: Any, i: int) -> float:
        one = row(batch, i)
        found: float = model(**one, labels=one["input_ids"]).loss.item()
        return found

    each = [alone(model, name, lambda m, i=i: of_row(m, i)) for i, name in enumerate(ROWS)]
    assert loss.item() == pytest.approx(sum(each) / len(each), rel=1e-5)


def test_two_active_adapters_do_not_enter():
    model, batch = with_three("llama", "lora"), rows_of("llama")
    with torch.no_grad():
        expected = model(**batch, adapter_names=ROWS).logits
        model.set_adapter(["a", "b"])
        assert torch.equal(model(**batch, adapter_names=ROWS).logits, expected)
    assert model.active_adapters == ["a", "b"]


@pytest.mark.parametrize("method", ["lora", "dora", "ia3", "adapter"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision(method: str, dtype: torch.dtype):
    model, batch = with_three("llama", method, tiny("llama", dtype)), rows_of("llama")
    with torch.no_grad():
        found = model(**batch, adapter_names=ROWS).logits
        assert found.dtype == dtype
        for i, key in enumerate(ROWS):
            expected = alone(model, key, lambda m, i=i: m(**row(batch, i)).logits)
            # an entry rounded to its other neighbour moves everything after it: a few roundings
            assert (
                distance(expected.float(), found[i : i + 1].float()) <= 16 * torch.finfo(dtype).eps
            )


@pytest.mark.parametrize("method", ["lora", "dora", "ia3", "adapter"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_autocast(name: str, method: str):
    model, batch = with_three(name, method), rows_of(name)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(**batch, adapter_names=ROWS).logits
        for i, key in enumerate(ROWS):
            expected: Tensor = alone(model, key, lambda m, i=i: m(**row(batch, i)).logits)
            assert expected.dtype == found.dtype
            gap = distance(expected.float(), found[i : i + 1].float())
            assert gap <= 16 * torch.finfo(torch.bfloat16).eps


def test_beside_packed_weights():
    base = tiny("llama")
    quantize_model(base)
    model, batch = with_three("llama", "lora", base), rows_of("llama")
    with torch.no_grad():
        found = model(**batch, adapter_names=ROWS).logits
        for i, key in enumerate(ROWS):
            expected = alone(model, key, lambda m, i=i: m(**row(batch, i)).logits)
            assert distance(expected, found[i : i + 1]) <= BOUNDS[0]
