"""Virtual tokens in use: each row of a padded batch answers as it does alone, by every way in.

The oracle is the same model on one unpadded row, or the same computation without the cache.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import tiny
from prompt_models import DECODERS, WAYS, V, config, padded, prompted, rows, shift
from torch import Tensor
from torch.nn.functional import cross_entropy

from minipeft import get_peft_model
from minipeft.checks.errors import ConfigError, StateError

GREEDY = {"max_new_tokens": 5, "do_sample": False}
# Logits of size 10 in float32, summed in another order when other rows and columns stand beside.
CLOSE = {"rtol": 1e-5, "atol": 2e-5}
TWO_WAYS = ["prompt", "prefix"]


def new_tokens(model: Any, ids: Tensor, mask: Tensor | None, **options: Any) -> Tensor:
    made = model.generate(input_ids=ids, attention_mask=mask, **{**GREEDY, **options})
    return made[:, ids.shape[1] :]


@torch.no_grad()
def loop(model: Any, ids: Tensor, mask: Tensor | None) -> Tensor:
    """Greedy generation by hand: one new token in each call, the rest in the cache."""
    past, made = None, []
    for _ in range(GREEDY["max_new_tokens"]):
        out = model(input_ids=ids, attention_mask=mask, past_key_values=past, use_cache=True)
        past, ids = out.past_key_values, out.logits[:, -1:].argmax(-1)  # (b, 1)
        made.append(ids)
        mask = None if mask is None else torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
    return torch.cat(made, dim=1)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(("name", "kind"), WAYS)
def test_padding_on_either_side_changes_no_logits(name: str, kind: str, side: str):
    model, (ids, mask) = prompted(name, kind), padded(side)
    with torch.no_grad():
        out = model(input_ids=ids, attention_mask=mask).logits
        assert out.shape[1] == 7 + shift(kind)
        for i, row in enumerate(rows()):
            alone = model(input_ids=row).logits[0, shift(kind) :]  # without a mask
            assert torch.allclose(out[i, shift(kind) :][mask[i] == 1], alone, **CLOSE)
            assert not torch.allclose(alone, tiny(name)(input_ids=row).logits[0], atol=1e-2)


@pytest.mark.parametrize(("name", "kind"), WAYS)
def test_a_padded_batch_generates_what_its_rows_do(name: str, kind: str):
    model, (ids, mask) = prompted(name, kind), padded("left")
    made = new_tokens(model, ids, mask)
    for i, row in enumerate(rows()):
        assert torch.equal(made[i], new_tokens(model, row, torch.ones_like(row))[0])
    assert torch.equal(made, new_tokens(model, ids, mask, use_cache=False))
    assert torch.equal(made, loop(model, ids, mask))
    assert torch.equal(made[:1], loop(model, rows()[0], None))
    embeds = model.get_input_embeddings()(ids)
    assert torch.equal(made, model.generate(inputs_embeds=embeds, attention_mask=mask, **GREEDY))


@pytest.mark.parametrize("options", [{"num_beams": 3}, {"do_sample": True}], ids=str)
@pytest.mark.parametrize(("name", "kind"), WAYS)
def test_beams_and_samples_are_the_same_without_the_cache(name: str, kind: str, options: Any):
    model, (ids, mask) = prompted(name, kind), padded("left")
    made = []
    for use_cache in (True, False):
        torch.manual_seed(1)
        made.append(new_tokens(model, ids, mask, use_cache=use_cache, **options))
    assert torch.equal(*made)


@pytest.mark.parametrize(("name", "kind"), WAYS)
def test_labels_stand_at_the_text(name: str, kind: str):
    model, (ids, mask) = prompted(name, kind), padded("right")
    labels = ids.masked_fill(mask == 0, -100)
    out = model(input_ids=ids, attention_mask=mask, labels=labels)
    # after virtual tokens in the sequence, the last of them says the text's first token
    said = out.logits[:, V - 1 : -1] if shift(kind) else out.logits[:, :-1]
    wanted = labels if shift(kind) else labels[:, 1:]
    assert torch.allclose(out.loss, cross_entropy(said.reshape(-1, 48), wanted.reshape(-1)))
    assert labels.shape == ids.shape  # the caller's own are not touched


@pytest.mark.parametrize("kind", TWO_WAYS)
@pytest.mark.parametrize("name", [n for n in DECODERS if n != "bloom"])
def test_positions_of_the_caller_are_the_texts(name: str, kind: str):
    model, row = prompted(name, kind), rows()[0]
    positions = torch.arange(7)[None]
    with torch.no_grad():
        expected = model(input_ids=row).logits
        for given in (positions, positions.expand(1, -1)):
            for mask in (None, torch.ones_like(row)):
                out = model(input_ids=row, attention_mask=mask, position_ids=given).logits
                assert torch.allclose(out, expected, **CLOSE)
        two = model(input_ids=row.expand(2, -1), position_ids=positions).logits
        assert torch.allclose(two, expected.expand(2, -1, -1), **CLOSE)
        other = model(input_ids=row, position_ids=positions * 2).logits[:, shift(kind) :]
    assert not torch.allclose(other, expected[:, shift(kind) :], atol=1e-3)
    assert torch.equal(positions, torch.arange(7)[None])


@pytest.mark.parametrize("kind", TWO_WAYS)
@pytest.mark.parametrize("name", ["gpt2", "bloom", "llama"])
def test_tuples_and_masks_that_count_the_virtual_tokens(name: str, kind: str):
    model, row = prompted(name, kind), rows()[0]
    with torch.no_grad():
        expected = model(row).logits  # by place
        for use_cache in (True, False):
            assert torch.equal(model(row, return_dict=False, use_cache=use_cache)[0], expected)
        longer = torch.ones(1, V + 7, dtype=torch.long)
        assert torch.equal(model(input_ids=row, attention_mask=longer).logits, expected)


@pytest.mark.parametrize("kind", TWO_WAYS)
@pytest.mark.parametrize("name", DECODERS)
def test_what_the_base_does_with_an_empty_batch(name: str, kind: str):
    empty = torch.zeros(0, 7, dtype=torch.long)
    for model in (tiny(name), prompted(name, kind)):
        with pytest.raises(RuntimeError, match=r"reshape|size of tensor") as raised:
            model(input_ids=empty, attention_mask=empty)
        assert raised.type is RuntimeError  # torch's own


@pytest.mark.parametrize("kind", TWO_WAYS)
def test_what_does_not_fit_is_refused_with_the_numbers(kind: str):
    model = prompted("gpt2", kind)
    assert model(input_ids=torch.ones(1, 29, dtype=torch.long)).logits.isfinite().all()
    too_long = "3 virtual tokens and 30 tokens of text are 33 positions, and GPT2Model reads at "
    with pytest.raises(StateError, match=f"{too_long}most 32: shorten the text to 29"):
        model(input_ids=torch.ones(1, 30, dtype=torch.long))
    with pytest.raises(StateError, match="30 tokens of text are 33 positions"):
        model.generate(torch.ones(1, 28, dtype=torch.long), max_new_tokens=5, min_new_tokens=5)
    row = rows()[0]
    for mask, got in ((torch.ones(1, 1, 7, 7), r"\(1, 1, 7, 7\)"), (row[:, :5], r"\(1, 5\)")):
        with pytest.raises(StateError, match=rf"must be \(1, 7\), .* got {got}"):
            model(input_ids=row, attention_mask=mask)
    with pytest.raises(StateError, match=r"must be \(1, 7\), .* got dict"):
        model(input_ids=row, attention_mask={"full_attention": None})
    with pytest.raises(StateError, match="StaticCache has a fixed size, and no room for virtual"):
        new_tokens(model, row, None, cache_implementation="static")
    with pytest.raises(StateError, match=r"needs input_ids .* or inputs_embeds .* got neither"):
        model(attention_mask=row)
    assert get_peft_model(tiny("gpt2"), type(config(kind))(num_virtual_tokens=31))
    with pytest.raises(ConfigError, match="num_virtual_tokens=32 leaves no room for text"):
        get_peft_model(tiny("gpt2"), type(config(kind))(num_virtual_tokens=32))


@pytest.mark.parametrize("name", ["gpt2", "llama", "bloom", "opt"])
def test_gradient_checkpointing(name: str):
    row = rows()[0]
    for kind in ("prompt", "mlp"):
        model, gradients = prompted(name, kind, task_type="CAUSAL_LM"), []
        for _ in range(2):
            model.zero_grad()
            model(input_ids=row, labels=row).loss.backward()
            gradients.append([p.grad.clone() for p in model.parameters() if p.requires_grad])
            model.activation_checkpointing_enable()  # gradients the second time through it
            model.train()
            for module in model.modules():  # the same numbers both times
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
                elif isinstance(getattr(module, "dropout", None), float):
                    module.dropout = 0.0
        for plain, again in zip(*gradients, strict=True):
            assert torch.allclose(plain, again, rtol=1e-5, atol=1e-6)
    model = prompted(name, "prefix").train()
    model.activation_checkpointing_enable()
    with pytest.raises(StateError, match="gradient checkpointing drops the attention cache"):
        model(input_ids=row)
    assert model.eval()(input_ids=row).logits.shape == (1, 7, 48)  # it is off outside training
