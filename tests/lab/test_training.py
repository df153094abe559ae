"""The loop: what it trains, what it counts, and that it repeats itself."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from minipeft import LoraConfig, get_peft_model
from minipeft.checks.errors import ConfigError, MinipeftError, StateError
from minipeft.lab.assets.pretrain import NAMES
from minipeft.lab.tasks import load_task
from minipeft.lab.training import accuracy, collate, complete, encode, fit, loss_on
from minipeft.lab.zoo import load_base

DATA = load_task("mood", train=64, validation=1, test=10)


def test_the_labels_are_the_completion_and_eos_and_nothing_else():
    _, tokenizer = load_base("tiny-gpt2")
    rows = [
        {"prompt": "mia sobbed . how did mia feel ?", "completion": " sad"},
        {"prompt": "mia sang :", "completion": " la la"},
    ]
    batch = collate([encode(tokenizer, row) for row in rows], tokenizer, torch.device("cpu"))
    assert {key: tuple(value.shape) for key, value in batch.items()} == {
        "input_ids": (2, 10), "attention_mask": (2, 10), "labels": (2, 10),
    }  # fmt: skip
    pad = "<pad> " * 4
    assert tokenizer.decode(batch["input_ids"][1]) == f"mia sang : la la <eos> {pad}".strip()
    assert batch["attention_mask"].sum(1).tolist() == [10, 6]
    learned = [tokenizer.decode(row[row != -100]) for row in batch["labels"]]
    assert learned == ["sad <eos>", "la la <eos>"]
    assert batch["labels"][1].tolist()[:3] == [-100] * 3


@pytest.mark.parametrize("name", NAMES)
def test_padding_changes_no_loss_and_no_answer(name):
    model, tokenizer = load_base(name)
    rows = [DATA["test"][i] for i in range(10)]
    alone = [loss_on(model, tokenizer, [row]) for row in rows]
    assert len({len(row["prompt"].split()) for row in rows}) > 1
    assert loss_on(model, tokenizer, rows) == pytest.approx(sum(alone) / 10, rel=1e-5)


def test_loss_on_is_the_loss_that_fit_trains():
    model, tokenizer = load_base("tiny-gpt2")
    pairs = [encode(tokenizer, DATA["test"][i]) for i in range(10)]
    batch = collate(pairs, tokenizer, torch.device("cpu"))
    with torch.no_grad():
        expected = model(**batch).loss.item()
    assert loss_on(model, tokenizer, DATA["test"]) == pytest.approx(expected, rel=1e-5)


def test_accuracy_is_greedy_decoding():
    model, tokenizer = load_base("tiny-gpt2")
    prompts = [row["prompt"] for row in DATA["test"]]
    own = [{"prompt": p, "completion": " " + complete(model, tokenizer, p, 4)} for p in prompts]
    assert accuracy(model, tokenizer, own, batch_size=3) == 1.0
    own[0]["completion"] = own[0]["completion"].replace("felt", "was")
    assert accuracy(model, tokenizer, own) == 0.9


def test_fit_trains_only_what_requires_a_gradient():
    model, tokenizer = load_base("tiny-bloom")
    model = get_peft_model(model, LoraConfig(r=2))
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    history = fit(model, tokenizer, DATA["train"], steps=3, progress=False)
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {n for n, p in model.named_parameters() if p.requires_grad}
    assert len(history.losses) == 3
    assert history.seconds > 0
    assert not model.training


def test_the_same_seed_gives_the_same_losses_and_another_seed_others():
    losses = []
    for seed in (0, 0, 1):
        model, tokenizer = load_base("tiny-gpt2")
        losses.append(fit(model, tokenizer, DATA["train"], steps=3, seed=seed, progress=False))
    assert losses[0].losses == losses[1].losses != losses[2].losses


def test_more_rows_than_the_data_has_are_taken_epoch_by_epoch():
    model, tokenizer = load_base("tiny-gpt2")
    rows = [DATA["train"][i] for i in range(5)]
    history = fit(model, tokenizer, rows, steps=12, batch_size=8, progress=False)
    assert history.losses[-1] < history.losses[0] / 4


def test_the_bar_goes_to_stdout_and_shows_the_loss(capsys):
    model, tokenizer = load_base("tiny-gpt2")
    fit(model, tokenizer, DATA["train"], steps=2)
    out, err = capsys.readouterr()
    assert "loss=" in out
    assert "2/2" in out
    assert err == ""


def test_any_module_with_the_call_of_a_causal_language_model_can_be_trained():
    class Bigram(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Embedding(128, 128)

        def forward(self, input_ids, attention_mask=None, labels=None):
            logits = self.table(input_ids)
            out = type("Out", (), {"logits": logits})()
            if labels is not None:
                out.loss = functional.cross_entropy(
                    logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
                )
            return out

    _, tokenizer = load_base("tiny-gpt2")
    model = Bigram()
    history = fit(model, tokenizer, DATA["train"], steps=30, lr=0.1, progress=False)
    assert history.losses[-1] < history.losses[0]
    assert 0 <= accuracy(model, tokenizer, DATA["test"]) <= 1


def test_errors_name_the_fix():
    model, tokenizer = load_base("tiny-gpt2")
    with pytest.raises(ConfigError, match="0 rows"):
        fit(model, tokenizer, [])
    with pytest.raises(ConfigError, match="steps=0"):
        fit(model, tokenizer, DATA["train"], steps=0)
    model.requires_grad_(False)
    with pytest.raises(StateError, match="get_peft_model") as caught:
        fit(model, tokenizer, DATA["train"])
    assert isinstance(caught.value, MinipeftError)
