"""The prompt methods: padding, masks, caches, lengths."""

from __future__ import annotations

from typing import Any

import torch
from conftest import VOCAB, tiny
from machine import Case, Lab, never
from torch import Tensor

KINDS = ("prompt", "prefix")


def prompted(lab: Lab, kind: str, base: str = "gpt2", train: bool = False) -> Any:
    """A model with three virtual tokens that matter."""
    task = "SEQ_CLS" if base == "bert" else "CAUSAL_LM"
    name = {"prompt": "PromptTuningConfig", "prefix": "PrefixTuningConfig"}[kind]
    config = getattr(lab.lib, name)(num_virtual_tokens=3, task_type=task)
    model = lab.lib.get_peft_model(tiny(base), config)
    with torch.no_grad():
        torch.manual_seed(7)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape))
    return lab.watch(model.train(train))


def ids(*lengths: int) -> list[Tensor]:
    torch.manual_seed(3)
    return [torch.randint(2, VOCAB, (length,)) for length in lengths]


def last(model: Any, **batch: Any) -> Tensor:
    """The logits at the last position of each row."""
    with torch.no_grad():
        logits: Tensor = model(**batch).logits
    return logits[:, -1]


def padded(left: bool) -> Any:
    """A padded row answers as it does alone."""

    def make(kind: str) -> Any:
        def run(lab: Lab) -> bool:
            model = prompted(lab, kind)
            short, long = ids(4, 7)
            pad = torch.full((3,), 1)
            row = torch.cat([pad, short] if left else [short, pad])
            mask = torch.tensor([[0, 0, 0, 1, 1, 1, 1] if left else [1, 1, 1, 1, 0, 0, 0], [1] * 7])
            with torch.no_grad():
                both = model(input_ids=torch.stack([row, long]), attention_mask=mask).logits
                ones = torch.ones(1, 4, dtype=torch.long)
                alone = model(input_ids=short[None], attention_mask=ones).logits[0, -1]
            found = both[0, -1] if left else both[0, -4]
            return torch.allclose(found, alone, atol=1e-4)

        return run

    return make


def no_mask(kind: str) -> Any:
    """Without a mask all is read."""

    def run(lab: Lab) -> bool:
        model = prompted(lab, kind)
        row = ids(6)[0][None]
        with_mask = last(model, input_ids=row, attention_mask=torch.ones_like(row))
        return torch.allclose(last(model, input_ids=row), with_mask, atol=1e-5)

    return run


def mask_of(shape: Any) -> Any:
    """A mask of another size."""

    def make(kind: str) -> Any:
        def run(lab: Lab) -> bool:
            model = prompted(lab, kind)
            last(
                model, input_ids=ids(6)[0][None], attention_mask=torch.ones(shape, dtype=torch.long)
            )
            return False

        return run

    return make


def too_long(kind: str) -> Any:
    """A text that fits alone, and not with the virtual tokens."""

    def run(lab: Lab) -> bool:
        model = prompted(lab, kind)
        longest = model.config.max_position_embeddings
        last(model, input_ids=torch.full((1, longest - 1), 5))
        return False

    return run


def too_long_alone(kind: str) -> Any:
    """A text too long even without them."""

    def run(lab: Lab) -> bool:
        model = prompted(lab, kind)
        last(model, input_ids=torch.full((1, model.config.max_position_embeddings + 4), 5))
        return False

    return run


def nothing(kind: str) -> Any:
    """No input at all."""

    def run(lab: Lab) -> bool:
        last(prompted(lab, kind))
        return False

    return run


def written(kind: str, **more: Any) -> Any:
    """generate, against a loop that reads everything anew for each token."""

    def run(lab: Lab) -> bool:
        model = prompted(lab, kind)
        row = ids(5)[0][None]
        text = row
        for _ in range(4):
            best = last(model, input_ids=text, attention_mask=torch.ones_like(text)).argmax(-1)
            text = torch.cat([text, best[:, None]], dim=1)
        given = {"input_ids": row, "attention_mask": torch.ones_like(row), **more}
        made = model.generate(
            **given, max_new_tokens=4, min_new_tokens=4, do_sample=False, pad_token_id=0
        )
        return torch.equal(made[:, -4:], text[:, -4:])

    return run


def by_hand(kind: str) -> Any:
    """A loop over past_key_values, one token at a time."""

    def run(lab: Lab) -> bool:
        model = prompted(lab, kind)
        row = ids(6)[0][None]
        whole = last(model, input_ids=row, attention_mask=torch.ones_like(row))
        with torch.no_grad():
            first = model(input_ids=row[:, :5], use_cache=True)
            second = model(
                input_ids=row[:, 5:], past_key_values=first.past_key_values,
                attention_mask=torch.ones(1, 6, dtype=torch.long), use_cache=True,
            )  # fmt: skip
        return torch.allclose(second.logits[:, -1], whole, atol=1e-4)

    return run


def embeddings(kind: str) -> Any:
    """The text as embeddings."""

    def run(lab: Lab) -> bool:
        model = prompted(lab, kind)
        row = ids(6)[0][None]
        vectors = model.get_input_embeddings()(row).detach()
        ones = torch.ones_like(row)
        one = last(model, input_ids=row, attention_mask=ones)
        return torch.allclose(
            last(model, inputs_embeds=vectors, attention_mask=ones), one, atol=1e-5
        )

    return run


def labelled(kind: str) -> Any:
    """The loss counts the text's tokens and no virtual one."""

    def run(lab: Lab) -> bool:
        model = prompted(lab, kind)
        row = ids(6)[0][None]
        with torch.no_grad():
            out = model(input_ids=row, attention_mask=torch.ones_like(row), labels=row)
            logits = out.logits[:, -6:-1].reshape(-1, VOCAB)
        by_us = torch.nn.functional.cross_entropy(logits, row[:, 1:].reshape(-1))
        more = out.logits[:, -7:-1].reshape(-1, VOCAB) if out.logits.shape[1] > 6 else None
        # a virtual position before the text predicts its first token: peft counts that one too
        also = None if more is None else torch.nn.functional.cross_entropy(more, row.reshape(-1))
        return any(x is not None and torch.allclose(out.loss, x, atol=1e-4) for x in (by_us, also))

    return run


def labels_short(kind: str) -> Any:
    """Fewer labels than tokens: the base model refuses them in its own words."""

    def run(lab: Lab) -> bool:
        model = prompted(lab, kind)
        row = ids(6)[0][None]
        model(input_ids=row, attention_mask=torch.ones_like(row), labels=row[:, :4])
        return False

    return run


def positions(kind: str) -> Any:
    """position_ids given for the text alone."""

    def run(lab: Lab) -> bool:
        model = prompted(lab, kind)
        row = ids(6)[0][None]
        ones = torch.ones_like(row)
        plain = last(model, input_ids=row, attention_mask=ones)
        own = last(model, input_ids=row, attention_mask=ones, position_ids=torch.arange(6)[None])
        return torch.allclose(own, plain, atol=1e-4)

    return run


def two_prompts(kind: str) -> Any:
    def run(lab: Lab) -> bool:
        model = prompted(lab, kind)
        name = {"prompt": "PromptTuningConfig", "prefix": "PrefixTuningConfig"}[kind]
        config = getattr(lab.lib, name)(num_virtual_tokens=2, task_type="CAUSAL_LM")
        model.add_adapter("other", config)
        lab.watch(model).set_adapter(["default", "other"])
        return False

    return run


def checkpointed(kind: str) -> Any:
    """Gradient checkpointing: the virtual tokens get the same gradient, or it is refused."""

    def run(lab: Lab) -> bool:
        found = []
        row = ids(6)[0][None]
        for on in (False, True):
            model = prompted(lab, kind, train=True)
            if on:
                model.get_base_model().activation_checkpointing_enable({"use_reentrant": False})
                lab.watch(model)
            model(input_ids=row, attention_mask=torch.ones_like(row), labels=row).loss.backward()
            found.append([p.grad for p in model.parameters() if p.requires_grad])
        if any(g is None for g in found[1]):
            return False
        return all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*found, strict=True))

    return run


ALL: list[tuple[str, Any, tuple[str, ...], Any]] = [
    ("padding before the text", padded(True), ("pad", "mask"), bool),
    ("padding behind the text", padded(False), ("pad", "mask"), bool),
    ("no mask", no_mask, ("mask",), bool),
    ("a mask too long", mask_of((1, 8)), ("mask",), None),
    ("a mask too short", mask_of((1, 4)), ("mask",), None),
    ("a mask for other rows", mask_of((2, 6)), ("mask",), None),
    ("a mask of one dimension", mask_of((6,)), ("mask",), None),
    ("a text too long beside the virtual tokens", too_long, ("virtual", "at most", "longer"), None),
    ("a text too long by itself", too_long_alone, ("position", "at most", "longer"), None),
    ("no input", nothing, ("input_ids",), None),
    ("generate", written, ("cache",), bool),
    ("generate without a mask", lambda k: written(k, attention_mask=None), ("mask",), bool),
    ("generate without a cache", lambda k: written(k, use_cache=False), ("cache",), bool),
    ("generate with a cache of fixed size", lambda k: written(k, cache_implementation="static"), ("static", "fixed"), bool),
    ("a loop over the cache", by_hand, ("cache", "past_key_values"), bool),
    ("embeddings as input", embeddings, ("inputs_embeds",), bool),
    ("a loss", labelled, ("labels",), bool),
    ("labels too short", labels_short, ("labels", "batch_size", "size", "shape"), None),
    ("position_ids of the text", positions, ("position_ids",), bool),
    ("two prompts at once", two_prompts, ("default", "prompt", "list"), None),
    ("gradient checkpointing", checkpointed, ("checkpointing",), bool),
]  # fmt: skip

BASES = ("labels too short",)  # without an adapter the model refuses these itself
CASES = [
    Case(f"{kind} tuning: {name}", "prompts", make(kind), names, right or never, base=name in BASES)
    for kind in KINDS
    for name, make, names, right in ALL
]
