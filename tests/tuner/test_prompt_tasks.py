"""Virtual tokens before classifiers, before questions, and before a decoder's encoder."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from conftest import shake, tiny
from prompt_models import KINDS, V, config, padded, prompted, rows, shift
from torch import Tensor

from minipeft import get_peft_model
from minipeft.checks.errors import TargetError

CLOSE = {"rtol": 1e-5, "atol": 2e-5}  # as in test_prompts.py
END = 1


def alone(side: str, i: int) -> Tensor:
    """Row i of the padded batch without its padding."""
    ids, mask = padded(side)
    return ids[i : i + 1, mask[i] == 1]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_decoders_classifier_finds_the_last_token_of_the_text(kind: str, side: str):
    model, (ids, mask) = prompted("gpt2_cls", kind, task_type="SEQ_CLS"), padded(side)
    with torch.no_grad():
        out = model(input_ids=ids, attention_mask=mask, labels=torch.tensor([0, 1, 2]))
        assert out.loss.isfinite()
        assert out.logits.shape == (3, 3)
        for i in range(3):
            assert torch.allclose(out.logits[i], model(alone(side, i)).logits[0], **CLOSE)
        as_tuple = model(input_ids=ids, attention_mask=mask, return_dict=False)
        assert torch.equal(as_tuple[0], out.logits)


def classifier(name: str) -> Any:
    """A classifier of a further family, with weights that matter and tokens that end a text."""
    small = {"vocab_size": 48, "num_labels": 3, "pad_token_id": 0, "eos_token_id": END}
    bert = {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 24, "max_position_embeddings": 34, "num_labels": 3,
        "vocab_size": 48, "pad_token_id": 0, "is_decoder": False,
    }  # fmt: skip
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    layers = {"encoder_layers": 2, "decoder_layers": 2, "d_model": 16}
    inner = {"encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 32}
    t5 = tiny("t5").config
    t5.update(small)
    configs = {
        "T5": t5,
        "Bart": transformers.BartConfig(**small, **heads, **layers, **inner, bos_token_id=2),
        "Roberta": transformers.RobertaConfig(**{**bert, "pad_token_id": 2}),
        "Electra": transformers.ElectraConfig(**bert, embedding_size=8),
        "DistilBert": transformers.DistilBertConfig(
            vocab_size=48, dim=16, n_heads=2, n_layers=2, hidden_dim=24, num_labels=3
        ),
    }
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}ForSequenceClassification")(configs[name]).eval()
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize("kind", ["prompt", "prefix"])
@pytest.mark.parametrize("name", ["T5", "Bart", "Roberta", "Electra", "DistilBert"])
def test_classifiers_of_further_families(name: str, kind: str):
    base = classifier(name)
    if name == "DistilBert" and kind == "prefix":
        with pytest.raises(TargetError, match="DistilBertModel takes no past_key_values"):
            get_peft_model(base, config(kind))
        return
    if name in ("T5", "Bart"):
        said = rf"{name}ForSequenceClassification has none; .*parts are .*'classification_head'"
        with pytest.raises(TargetError, match=said):
            get_peft_model(base, config(kind, task_type="SEQ_CLS"))
    own = ["classification_head"] if name in ("T5", "Bart") else None
    model = get_peft_model(base, config(kind, task_type="SEQ_CLS", modules_to_save=own)).eval()
    shake(model)
    ids, mask = padded("right")
    for i, row in enumerate(rows()):
        ids[i, row.shape[1] - 1] = END
    ids = ids.masked_fill(mask == 0, base.config.pad_token_id)
    with torch.no_grad():
        out = model(input_ids=ids, attention_mask=mask).logits
        for i, row in enumerate(rows()):
            short = ids[i : i + 1, : row.shape[1]]
            assert torch.allclose(out[i], model(input_ids=short).logits[0], **CLOSE)
        with model.disable_adapter():
            plain = model(input_ids=ids, attention_mask=mask).logits
    assert not torch.allclose(out, plain, atol=1e-3)


@pytest.mark.parametrize("kind", ["prompt", "prefix"])
def test_roberta_counts_positions_from_behind_its_padding_token(kind: str):
    model = get_peft_model(classifier("Roberta"), config(kind)).eval()
    shake(model)
    row = rows()[0].clamp(min=3)  # 2 is its padding
    with torch.no_grad():
        expected = model(input_ids=row).logits
        positions = torch.arange(3, 10)[None]  # pad_token_id + 1 … : where the base counts from
        assert torch.allclose(
            model(input_ids=row, position_ids=positions).logits, expected, **CLOSE
        )
        mask = torch.ones_like(row)
        mask[0, 5:] = 0  # so that our positions are used, and not the model's
        cut = model(input_ids=row[:, :5]).logits
        assert torch.allclose(model(input_ids=row, attention_mask=mask).logits, cut, **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_an_answers_place_moves_with_the_text(kind: str):
    model, row, v = prompted("bert_qa", kind, task_type="QUESTION_ANS"), rows()[0], shift(kind)
    places = {"start_positions": torch.tensor([1]), "end_positions": torch.tensor([4])}
    out = model(input_ids=row, **places)
    assert out.start_logits.shape == (1, v + 7)
    said = out.start_logits.log_softmax(1)[0, v + 1] + out.end_logits.log_softmax(1)[0, v + 4]
    assert torch.allclose(out.loss, -said / 2)
    assert places["start_positions"].tolist() == [1]  # the caller's own is not touched


@pytest.mark.parametrize("kind", ["prompt", "prefix"])
@pytest.mark.parametrize("name", ["bert", "bert_token"])
def test_the_kind_of_virtual_tokens_is_0(name: str, kind: str):
    model, row = prompted(name, kind), rows()[0]
    with torch.no_grad():
        expected = model(input_ids=row).logits  # kinds are 0 where none are given
        zeros = torch.zeros_like(row)
        assert torch.equal(model(input_ids=row, token_type_ids=zeros).logits, expected)
        # a prompt of kind 1 differs from this one, since the kinds of the text are all the same
        ones = model(input_ids=row, token_type_ids=zeros + 1).logits
    assert not torch.allclose(ones, expected, atol=1e-3)


@pytest.mark.parametrize("name", ["bert_token"])
def test_the_kinds_of_a_prompted_text_by_hand(name: str):
    model, row, kinds = prompted(name, "prompt"), rows()[0], torch.tensor([[0, 0, 0, 1, 1, 1, 1]])
    prompt = model.get_base_model().prompt_encoder.adapters["default"].soft_prompt
    base = tiny(name)
    embeds = torch.cat([prompt[None], base.get_input_embeddings()(row)], dim=1)
    longer = torch.cat([torch.zeros(1, V, dtype=torch.long), kinds], dim=1)
    with torch.no_grad():
        expected = base(inputs_embeds=embeds, token_type_ids=longer).logits
        assert torch.equal(model(input_ids=row, token_type_ids=kinds).logits, expected)


@pytest.mark.parametrize("kind", ["prompt", "prefix"])
def test_a_text_of_any_kind_of_label(kind: str):
    """A token classifier's labels are for the text; a sequence classifier's for the whole."""
    model, row = prompted("bert_token", kind), rows()[0]
    out = model(input_ids=row, labels=row % 3)
    text = out.logits[0, shift(kind) :]
    assert torch.allclose(out.loss, torch.nn.functional.cross_entropy(text, row[0] % 3))


# --- an encoder with a decoder -------------------------------------------------------------------


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", KINDS)
def test_t5_reads_the_prompt_right_before_the_text(kind: str, side: str):
    model, (ids, mask) = prompted("t5", kind), padded(side)
    start = torch.tensor([[0, 5, 6]])
    batch = {"attention_mask": mask, "decoder_input_ids": start.expand(3, -1)}
    options = {"max_new_tokens": 5, "do_sample": False}
    with torch.no_grad():
        out = model(input_ids=ids, **batch).logits
        made = model.generate(input_ids=ids, attention_mask=mask, **options)
        for i, row in enumerate(rows()):
            expected = model(input_ids=row, decoder_input_ids=start).logits[0]
            assert torch.allclose(out[i], expected, **CLOSE)
            assert torch.equal(made[i], model.generate(input_ids=row, **options)[0])
        embeds = model.get_input_embeddings()(ids)
        assert torch.equal(model(inputs_embeds=embeds, **batch).logits, out)
        read = model.get_encoder()(input_ids=ids, attention_mask=mask)
        assert read.last_hidden_state.shape == (3, 7 + shift(kind), 16)
        assert torch.equal(model(encoder_outputs=read, **batch).logits, out)
        assert torch.equal(model(input_ids=ids, return_dict=False, **batch)[0], out)
        for more in ({"num_beams": 3}, {"use_cache": False}):
            options["num_beams"] = more.get("num_beams", 1)
            beams = model.generate(input_ids=ids, attention_mask=mask, **options)
            again = {**options, **more, "use_cache": False}
            assert torch.equal(model.generate(input_ids=ids, attention_mask=mask, **again), beams)


def test_t5s_outputs_keep_their_places():
    """The encoder's outputs are those of the prompt, then those of the text with its padding."""
    model, (ids, mask) = prompted("t5", "prompt"), padded("left")
    encoder = model.get_encoder()
    with torch.no_grad():
        read = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        for i, row in enumerate(rows()):
            one = encoder(input_ids=row).last_hidden_state[0]
            assert torch.allclose(read[i, :V], one[:V], **CLOSE)
            assert torch.allclose(read[i, V:][mask[i] == 1], one[V:], **CLOSE)
