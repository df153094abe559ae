"""The verbs on virtual tokens: on and off, several, away again, copied; and what is refused."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from conftest import state_of, tiny
from prompt_models import KINDS, WAYS, config, prompted, rows
from torch import Tensor

from minipeft import LoraConfig, PeftModel, get_peft_model
from minipeft.checks.errors import MinipeftWarning, StateError, TargetError

ONCE = ["gpt2", "llama", "t5", "bert"]
TWO_WAYS = [(name, kind) for name in ONCE for kind in ("prompt", "prefix")]


def answer(model: Any) -> Tensor:
    row = rows()[0]
    more = {"decoder_input_ids": row[:, :3]} if model.config.model_type == "t5" else {}
    with torch.no_grad():
        logits: Tensor = model(input_ids=row, **more).logits
    return logits


def hooks(model: torch.nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs")
    kinds += ("_forward_pre_hooks_with_kwargs",)
    return sum(len(getattr(m, kind)) for m in model.modules() for kind in kinds)


@pytest.mark.parametrize(("name", "kind"), WAYS)
def test_disabled_the_base_answers(name: str, kind: str):
    model, plain, row = prompted(name, kind), answer(tiny(name)), rows()[0]
    expected = answer(model)
    with model.disable_adapter():
        assert torch.equal(answer(model), plain)
        with model.disable_adapter():
            assert torch.equal(answer(model), plain)
        assert torch.equal(answer(model), plain)  # the inner one does not switch it on again
        made = model.generate(row, max_new_tokens=3, do_sample=False)
    assert torch.equal(made, tiny(name).generate(row, max_new_tokens=3, do_sample=False))
    assert torch.equal(answer(model), expected)


@pytest.mark.parametrize(("name", "kind"), [*TWO_WAYS, *WAYS])
def test_unload_gives_the_very_model_back(name: str, kind: str):
    base = tiny(name)
    before, plain = state_of(base), answer(base)
    model = get_peft_model(base, config(kind))
    assert hooks(base) > 0
    model.add_adapter("other", config("prefix" if kind == "prompt" else "prompt"))
    answer(model)
    assert model.unload() is base
    assert state_of(base) == before
    assert hooks(base) == 0
    assert torch.equal(answer(base), plain)
    assert hooks(get_peft_model(base, config(kind))) > 0  # and again


@pytest.mark.parametrize(("name", "kind"), TWO_WAYS)
def test_the_last_one_deleted_takes_hooks_and_slot_with_it(name: str, kind: str):
    base = tiny(name)
    frozen = copy.deepcopy(base).requires_grad_(False)
    model = get_peft_model(base, config(kind))
    model.add_adapter("other", config("lstm" if kind == "prefix" else "prefix"))
    model.delete_adapter("other")
    answer(model)
    model.delete_adapter("default")
    assert hooks(base) == 0
    assert [n for n, _ in base.named_modules()] == [n for n, _ in frozen.named_modules()]
    assert [n for n, _ in base.named_parameters()] == [n for n, _ in frozen.named_parameters()]
    assert torch.equal(answer(base), answer(frozen))


def test_several_prompts_switched_and_deleted():
    model = prompted("gpt2", "prompt")
    expected = {"default": answer(model)}
    for kind in KINDS:
        model.add_adapter(f"of_{kind}", config(kind, num_virtual_tokens=2 + len(kind)))
        assert torch.equal(answer(model), expected["default"])  # added, and not yet in use
        model.set_adapter(f"of_{kind}")
        expected[f"of_{kind}"] = answer(model)
        trained = [n for n, p in model.named_parameters() if p.requires_grad]
        assert trained
        assert all(f".of_{kind}." in n for n in trained)
        model.set_adapter("default")
    for name in reversed(expected):
        model.set_adapter(name)
        assert torch.equal(answer(model), expected[name])
    model.delete_adapter("of_prefix")
    before = state_of(model)
    for names in (["default", "of_mlp"], ["of_lstm", "of_v2"]):
        with pytest.raises(StateError, match="are prompts, and only one can stand before"):
            model.set_adapter(names)
    assert state_of(model) == before
    with pytest.warns(MinipeftWarning, match="'default' was the adapter in use; none is now"):
        model.delete_adapter("default")
    assert torch.equal(answer(model), answer(tiny("gpt2")))
    model.set_adapter("of_mlp")
    assert torch.equal(answer(model), expected["of_mlp"])


@pytest.mark.parametrize(("name", "kind"), TWO_WAYS)
def test_merging_is_refused(name: str, kind: str):
    model = prompted(name, kind, task_type="SEQ_CLS" if name == "bert" else None)
    expected, before = answer(model), state_of(model)
    for verb in (model.merge_adapter, model.merge_and_unload):
        with pytest.raises(StateError, match="virtual tokens cannot be merged"):
            verb()
        with model.disable_adapter(), pytest.raises(StateError, match="cannot be merged"):
            verb()
        with pytest.raises(StateError, match="nothing is merged"):
            model.unmerge_adapter()
        assert state_of(model) == before
    assert torch.equal(answer(model), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_virtual_tokens_and_layers_do_not_mix(kind: str):
    for first, second, there in (
        (config(kind), LoraConfig(), "virtual tokens"),
        (LoraConfig(), config(kind), "adapters beside its layers"),
    ):
        model = get_peft_model(tiny("gpt2"), first)
        before = state_of(model)
        with pytest.raises(StateError, match=rf"this model has {there} already \('default'\)"):
            model.add_adapter("other", second)
        assert state_of(model) == before
        assert list(model.peft_config) == ["default"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_reads_no_tokens_is_refused(kind: str):
    for base in (tiny("vit"), tiny("mlp"), torch.nn.Linear(2, 2), torch.nn.Embedding(2, 2)):
        before = state_of(base)
        with pytest.raises(TargetError, match="has no word embeddings, so there is nothing to put"):
            get_peft_model(base, config(kind))
        assert state_of(base) == before


@pytest.mark.parametrize("how", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
@pytest.mark.parametrize(("name", "kind"), [*TWO_WAYS, ("gpt2", "mlp"), ("gpt2", "projected")])
def test_a_copy_is_independent(name: str, kind: str, how: Any):
    model = prompted(name, kind)
    expected, before = answer(model), hooks(model)
    for verb in ("change", "disable", "delete", "unload"):
        twin: PeftModel = how(model)
        assert hooks(twin) == before
        assert torch.equal(answer(twin), expected)
        if verb == "change":
            with torch.no_grad():
                for parameter in twin.parameters():
                    if parameter.requires_grad:
                        parameter.mul_(1.5)
            assert not torch.allclose(answer(twin), expected, atol=1e-3)
        elif verb == "disable":
            with twin.disable_adapter():
                assert torch.equal(answer(twin), answer(tiny(name)))
                assert torch.equal(answer(model), expected)
        elif verb == "delete":
            twin.delete_adapter("default")
            assert hooks(twin.get_base_model()) == 0
        else:
            assert hooks(twin.unload()) == 0
        assert torch.equal(answer(model), expected)
        assert hooks(model) == before


@pytest.mark.parametrize("kind", KINDS)
def test_modes_numbers_and_types(kind: str, capsys: pytest.CaptureFixture[str]):
    model = get_peft_model(tiny("gpt2"), config(kind))
    assert not any(module.training for module in model.get_base_model().modules())  # as it was
    assert all(module.training for module in model.train().modules())
    assert not any(module.training for module in model.eval().modules())
    assert get_peft_model(tiny("gpt2").train(), config(kind)).base_model.model.training
    trained, total = model.get_nb_trainable_parameters()
    model.print_trainable_parameters()
    share = f"trainable%: {100 * trained / total:.4f}"
    said = f"trainable params: {trained:,} || all params: {total:,} || {share}\n"
    assert capsys.readouterr().out == said
    wrapped = get_peft_model(tiny("gpt2").to("meta"), config(kind))
    assert wrapped.get_nb_trainable_parameters()[0] == trained  # .to("meta") unties the head
    assert all(p.is_meta for p in wrapped.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_a_base_in_half_precision(kind: str, dtype: torch.dtype):
    model, row = prompted("llama", kind, dtype), rows()[0]
    trained = [p for p in model.parameters() if p.requires_grad]
    assert {p.dtype for p in trained} == {torch.float32}
    out = model(input_ids=row, labels=row)
    assert out.logits.dtype == dtype
    out.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
    assert sum(p.grad.abs().sum() for p in trained if p.grad is not None) > 0
    moved = prompted("llama", kind).to(dtype)  # everything, the virtual tokens too
    assert {p.dtype for p in moved.parameters()} == {dtype}
    assert moved(input_ids=row).logits.dtype == dtype
    with torch.autocast("cpu", dtype=torch.bfloat16):
        prompted("llama", kind)(input_ids=row, labels=row).loss.backward()
