"""adapter_names: every row of a batch with its own adapter, as if it had been asked alone.

The oracle is the same model with one adapter active and one row. Rows of equal length without
padding do the same sums row by row; how a matrix product splits its work may depend on the number
of rows, so the bound is the rounding of float32: 5e-5 of the largest entry (test_peft_equality.py).
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import VOCAB, logits, shake, tiny
from kbit_models import quiet
from peft_pairs import BOUNDS
from test_peft_equality import distance
from torch import Tensor

import minipeft
from minipeft import AdapterConfig, BitFitConfig, IA3Config, LoraConfig, PeftConfig, get_peft_model

FAMILIES = ["gpt2", "bloom", "llama", "t5"]
ROWS = ["a", "__base__", "b", "a", "c"]

METHODS: dict[str, list[PeftConfig]] = {
    "lora": [LoraConfig(r=4), LoraConfig(r=2, lora_alpha=5), LoraConfig(r=1, use_rslora=True)],
    "dora": [LoraConfig(r=4, use_dora=True), LoraConfig(r=2, use_dora=True), LoraConfig(r=2)],
    "ia3": [IA3Config(), IA3Config(), IA3Config()],
    "adapter": [AdapterConfig(adapter_dim=4), AdapterConfig(adapter_dim=3), LoraConfig(r=2)],
    "everywhere": [LoraConfig(r=2, target_modules="all-linear"), LoraConfig(r=3), IA3Config()],
    "some layers": [
        LoraConfig(r=2, layers_to_transform=[0]), LoraConfig(r=2, layers_to_transform=1),
        LoraConfig(r=2, rank_pattern={".*1.*": 1}),
    ],
}  # fmt: skip


def configs(method: str, name: str) -> list[PeftConfig]:
    if method == "bitfit":
        return [BitFitConfig(), BitFitConfig(), LoraConfig(r=2)]
    if method == "embedding":
        place = {"gpt2": "wte", "bloom": "word_embeddings", "llama": "embed_tokens"}
        place["t5"] = "embed_tokens"
        return [LoraConfig(r=2, target_modules=[place[name]]), LoraConfig(r=2),
                LoraConfig(r=1, target_modules=[place[name]], use_dora=True)]  # fmt: skip
    return METHODS[method]


def with_three(name: str, method: str, base: Any = None) -> Any:
    """A tiny model with adapters "a", "b", "c" that change its answers visibly."""
    model: Any = None
    for key, config in zip("abc", configs(method, name), strict=True):
        if model is None:
            model = get_peft_model(base or tiny(name), config, key)
        else:
            model.add_adapter(key, config)
    shake(model)
    return model.eval()


def rows_of(name: str, n: int = len(ROWS)) -> dict[str, Tensor]:
    """A batch of n different rows."""
    ids = torch.randint(2, VOCAB, (n, 6), generator=torch.Generator().manual_seed(4))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return {**batch, "decoder_input_ids": ids.flip(1)} if name == "t5" else batch


def row(batch: dict[str, Tensor], i: int) -> dict[str, Tensor]:
    return {key: value[i : i + 1] for key, value in batch.items()}


def alone(model: Any, name: str, call: Any) -> Any:
    """What `call` gives with one adapter in use, or none."""
    if name == "__base__":
        with model.disable_adapter():
            return call(model)
    before = model.active_adapters
    model.set_adapter(name)
    found = call(model)
    model.set_adapter(before)
    return found


CASES = [(name, method) for name in FAMILIES for method in METHODS]
CASES += [(name, "embedding") for name in FAMILIES] + [("gpt2", "bitfit"), ("bloom", "bitfit")]


@pytest.mark.parametrize(("name", "method"), CASES)
def test_each_row_is_answered_as_if_alone(name: str, method: str):
    model, batch = with_three(name, method), rows_of(name)
    with torch.no_grad():
        found = model(**batch, adapter_names=ROWS).logits
        for i, key in enumerate(ROWS):
            expected = alone(model, key, lambda m, i=i: m(**row(batch, i)).logits)
            assert distance(expected, found[i : i + 1]) <= BOUNDS[0]
    for i, j in ((0, 1), (0, 2), (2, 4)):  # and the adapters differ, on one row
        other = [ROWS[j] if k == i else key for k, key in enumerate(ROWS)]
        with torch.no_grad():
            changed = model(**batch, adapter_names=other).logits
        assert distance(found[i], changed[i]) > 1e-3
        rest = [k for k in range(len(ROWS)) if k != i]
        assert distance(found[rest], changed[rest]) <= BOUNDS[0]


@pytest.mark.parametrize(("name", "method"), CASES)
def test_what_is_active_does_not_matter_and_comes_back(name: str, method: str):
    model, batch = with_three(name, method), rows_of(name)
    with torch.no_grad():
        known = [model(**batch, adapter_names=ROWS).logits]
        for active in ("b", "c"):
            model.set_adapter(active)
            before = model(**batch).logits
            known.append(model(**batch, adapter_names=ROWS).logits)
            assert model.active_adapters == [active]
            assert torch.equal(model(**batch).logits, before)
    assert torch.equal(known[0], known[1])
    assert torch.equal(known[0], known[2])
    assert distance(model(**batch).logits, known[0]) > 1e-3


GENERATE: list[dict[str, Any]] = [
    {"do_sample": False},
    {"do_sample": False, "use_cache": False},
    {"num_beams": 3},
    {"num_beams": 4, "num_return_sequences": 2, "length_penalty": 0.5},
]
GENERATED = [(n, m) for n in FAMILIES for m in ("lora", "ia3", "dora", "adapter")]


def ids_of(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in batch.items() if key != "decoder_input_ids"}


@pytest.mark.parametrize("options", GENERATE, ids=str)
@pytest.mark.parametrize(("name", "method"), GENERATED)
def test_each_row_goes_on_as_if_alone(name: str, method: str, options: dict[str, Any]):
    model, batch = with_three(name, method), ids_of(rows_of(name))
    options = {"max_new_tokens": 5, **options}
    found = model.generate(**batch, adapter_names=ROWS, **options)
    each = options.get("num_return_sequences", 1)
    assert len(found) == len(ROWS) * each
    for i, key in enumerate(ROWS):
        expected = alone(model, key, lambda m, i=i: m.generate(**row(batch, i), **options))
        assert torch.equal(found[i * each : (i + 1) * each], expected)
    if method == "lora":  # the names matter: IA3's small changes may leave a word as it is
        assert not torch.equal(model.generate(**batch, **options), found)


@pytest.mark.parametrize("name", FAMILIES)
def test_sampled_with_a_seed_they_are_what_each_adapters_batch_would_be(name: str):
    model, batch = with_three(name, "lora"), ids_of(rows_of(name))
    options = {"max_new_tokens": 5, "do_sample": True, "top_k": 0, "temperature": 0.7}

    def seeded(m: Any, **more: Any) -> Tensor:
        torch.manual_seed(5)
        made: Tensor = m.generate(**batch, **options, **more)
        return made

    found = seeded(model, adapter_names=ROWS)
    for i, key in enumerate(ROWS):
        # one draw is made for each row, whatever the others are
        assert torch.equal(found[i], alone(model, key, seeded)[i])
    several = {"num_return_sequences": 3}
    both = seeded(model, adapter_names=ROWS, **several)
    assert len(both) == 15
    for i, key in enumerate(ROWS):
        expected = alone(model, key, lambda m: seeded(m, **several))
        assert torch.equal(both[3 * i : 3 * i + 3], expected[3 * i : 3 * i + 3])


# --- gradients -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("method", ["lora", "dora", "ia3", "adapter"])
def test_gradients_reach_only_the_rows_adapter(name: str, method: str):
    model, batch = with_three(name, method), rows_of(name)
    for parameter in trained(model).values():
        parameter.requires_grad_(True)
    out = model(**batch, adapter_names=ROWS).logits
    out[[0, 3]].square().sum().backward()  # the rows of "a"
    mine = {n: p.grad for n, p in trained(model).items()}
    for key, grad in mine.items():
        mattered = grad is not None and bool(grad.abs().max() > 0)
        assert mattered is (".a." in key or key.endswith(".a")), key
    model.zero_grad()
    model.set_adapter("a")
    two = {key: value[[0, 3]] for key, value in batch.items()}
    model(**two).logits.square().sum().backward()
    for key, parameter in trained(model).items():
        if parameter.grad is not None:
            assert distance(parameter.grad, mine[key]) <= BOUNDS[1], key


def trained(model: Any) -> dict[str, Any]:
    return {n: p for n, p in model.named_parameters() if ".adapters." in n}


# --- against peft --------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}], ids=str)
@pytest.mark.parametrize("name", FAMILIES)
def test_it_does_what_pefts_does(peft: Any, name: str, options: dict[str, Any]):
    model, batch = with_three(name, "lora"), rows_of(name)
    with quiet():
        theirs: Any = None
        for key, config in zip("abc", METHODS["lora"], strict=True):
            own: Any = config
            other = peft.LoraConfig(r=own.r, lora_alpha=own.lora_alpha, use_rslora=own.use_rslora)
            if theirs is None:
                theirs = peft.get_peft_model(tiny(name), other, key)
            else:
                theirs.add_adapter(key, other)
            state = minipeft.get_peft_model_state_dict(model, key)
            peft.set_peft_model_state_dict(theirs, state, key)
        theirs.eval()
        with torch.no_grad():
            mine, expected = (logits(m(**batch, adapter_names=ROWS)) for m in (model, theirs))
        made = [
            m.generate(**ids_of(batch), adapter_names=ROWS, max_new_tokens=5, **options)
            for m in (model, theirs)
        ]
    assert distance(expected, mine) <= BOUNDS[0]
    assert torch.equal(*made)
