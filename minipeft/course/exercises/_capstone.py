"""What the exercises of lesson 16 test: budgets, a batch by hand, a call with today's names."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch

from ..expect import Wrong, describe, expect, expect_close, expect_number

# What each design trains beside L blocks of GPT-2, width d; each block has layers from d to 3d,
# d to d, d to 4d and 4d to d. tests/test_capstone.py counts the same on real modules.
DESIGNS: dict[str, tuple[Callable[[int, int], int], bool]] = {  # (numbers, can it be folded in?)
    "lora-8": (lambda d, n: 8 * n * 16 * d, True),
    "lora-2": (lambda d, n: 2 * n * 16 * d, True),
    "ia3": (lambda d, n: n * (3 * d + 4 * d), True),
    "bitfit": (lambda d, n: n * (3 * d + d + 4 * d + d + 2 * d) + d, True),
    "adapter-8": (lambda d, n: 2 * n * (2 * d * 8 + 8 + d), False),
    "prompt-10": (lambda d, n: 10 * d, False),
}
TINY, GPT2 = (128, 5), (768, 12)
JOBS: dict[str, tuple[tuple[int, int], int, bool]] = {  # ((d, L), limit in bytes, must it fold?)
    "capstone": (TINY, 100_000, True),
    "keyring": (TINY, 25_000, True),
    "apart": (TINY, 100_000, False),
    "postcard": (TINY, 6_000, False),
    "gpt2": (GPT2, 100_000, True),
}


def best(job: str) -> str:
    """The design that trains the most, of those that a job allows; "none" if there is none."""
    size, limit, folded = JOBS[job]
    fit = {
        name: numbers(*size)
        for name, (numbers, folds) in DESIGNS.items()
        if 4 * numbers(*size) < limit and (folds or not folded)
    }
    return max(fit, key=lambda name: fit[name]) if fit else "none"


def choose(answer: Any) -> str:
    """Five jobs; each design is judged by its bytes and by whether it folds."""
    if not isinstance(answer, Mapping):
        raise Wrong(f"give a dictionary {{job: design}}; this is {describe(answer)}")
    expect(
        answer.keys() == JOBS.keys(),
        f"the jobs are {', '.join(JOBS)}; got {', '.join(map(str, answer)) or 'none'}",
    )
    for job, (size, limit, folded) in JOBS.items():
        design, wanted = answer[job], best(job)
        expect(
            isinstance(design, str) and design in {*DESIGNS, "none"},
            f"{job}: the designs are {', '.join(DESIGNS)} and none; got {design!r}",
        )
        if design == "none":
            expect(wanted == "none", f"{job}: there is a design that fits; count the small ones")
            continue
        count, folds = DESIGNS[design]
        numbers = count(*size)
        expect(
            4 * numbers < limit,
            f"{job}: {design} trains {numbers:,} numbers there, {4 * numbers:,} bytes; allowed are "
            f"less than {limit:,}",
        )
        expect(folds or not folded, f"{job}: {design} cannot be folded into the weights")
        expect(
            design == wanted, f"{job}: {design} is allowed, but another allowed design trains more"
        )
    return "five jobs, each design by its bytes and by what it can do"


def largest_rank(answer: Any) -> str:
    """Layers, a header and a limit whose quotient is known by hand."""
    block = [(128, 384), (128, 128), (128, 512), (512, 128)]  # the sums are 512, 256, 640, 640
    header, limit = 4_864, 200_000
    left = limit - 8 - header  # 195,128 bytes for numbers, 40,960 for each rank
    got = answer(block * 5, limit, header)
    known = [
        (left / 40_960, "r is a whole number: round down"),
        (5.0, "five is one too many: 8 + 4,864 + 5 · 40,960 = 209,672 bytes"),
        (19.0, "that counts one byte for each number; float32 takes 4"),
        (9.0, "that counts 2 bytes for each number; float32 takes 4"),
        (23.0, "that is one block; add up all the layers given"),
        (float(left // (4 * 5 * 896)), "that counts A alone, (r, in); B is saved too"),
        (float(left // (4 * 5 * 1152)), "that counts B alone, (out, r); A is saved too"),
        (0.0, "A and B have r · (in + out) numbers together, not in · out"),
    ]
    expect_number(got, 4, "the rank for tiny-gpt2's 20 layers and 200,000 bytes", known)
    expect(type(got) is int, f"the rank should be a whole number, an int; it is {describe(got)}")
    one = [(10, 14)]  # 96 bytes for each rank
    full = 8 + 500 + 3 * 96
    known = [
        (2.0, "a file of exactly the limit is allowed, so 3 fits: use // on the bytes left"),
        (8.0, "the header is left out: its bytes are in the file too"),
    ]
    expect_number(answer(one, full, 500), 3, f"the rank for one layer and {full} bytes", known)
    known = [(3.0, "one byte is missing for 3: the file begins with 8 bytes of its own")]
    expect_number(answer(one, full - 1, 500), 2, f"the rank for {full - 1} bytes", known)
    expect_number(answer(one, full + 95, 500), 3, f"the rank for {full + 95} bytes")
    known = [(float((100 - 508) // 96), "a rank is not negative: nothing fits, so it is 0")]
    expect_number(answer(one, 100, 500), 0, "the rank where the header alone is too large", known)
    return "20 layers by hand, a file that fits to the byte, one byte less, and no room at all"


class Tokenizer:
    """What `collate` needs of one, with the end as padding, as GPT-2 has it."""

    eos_token_id = pad_token_id = 9


def collated(answer: Any) -> str:
    """Two rows of different lengths, padded with the very token that ends them."""
    rows = [([1, 2, 3], [4, 9]), ([5], [6, 7, 9]), ([8], [9])]
    got = answer(rows, Tokenizer, torch.device("cpu"))
    if not isinstance(got, Mapping):
        raise Wrong(f"return a dictionary of three tensors; this is {describe(got)}")
    keys = {"input_ids", "attention_mask", "labels"}
    missing = sorted(keys - got.keys())
    expect("labels" not in missing, "there are no labels: without them the model has no loss")
    expect(not missing, f"the batch has no {' and no '.join(missing)}")
    ids = torch.tensor([[1, 2, 3, 4, 9], [5, 6, 7, 9, 9], [8, 9, 9, 9, 9]])
    left = torch.tensor([[1, 2, 3, 4, 9], [9, 5, 6, 7, 9], [9, 9, 9, 8, 9]])
    known = [(left, "the rows are padded on the left; here they are padded on the right")]
    expect_close(got["input_ids"], ids, "input_ids", known)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0], [1, 1, 0, 0, 0]])
    known = [
        ((ids != 9).long(), "the mask hides the eos that ends a row: padding has the same id"),
        (torch.ones_like(ids), "the mask is 1 on padding too: it is 1 on text and 0 on padding"),
        (1 - mask, "the mask is upside down: 1 on text, 0 on padding"),
    ]
    expect_close(got["attention_mask"], mask, "attention_mask", known)
    labels = torch.tensor(
        [[-100, -100, -100, 4, 9], [-100, 6, 7, 9, -100], [-100, 9, -100, -100, -100]]
    )
    asked = ids.masked_fill(mask == 0, -100)
    shifted = torch.tensor(
        [[-100, -100, 4, 9, -100], [6, 7, 9, -100, -100], [9, -100, -100, -100, -100]]
    )
    known = [
        (ids, "the labels are the ids: prompt and padding count in the loss; they are -100"),
        (asked, "the prompt counts in the loss: its labels are -100 as well"),
        (
            labels.masked_fill(ids == 9, -100),
            "the eos has no label: the model never learns to stop. Padding has the same id",
        ),
        (
            torch.where(mask == 0, ids, labels),
            "padding counts in the loss: its labels are -100",
        ),
        (shifted, "the labels are shifted; transformers' models shift them themselves"),
        (labels.masked_fill(labels == -100, 0), "0 is a token; what is left out is -100"),
    ]
    expect_close(got["labels"], labels, "labels", known)
    return "three rows of three lengths, padded with the token that ends them"


# The note's options (003:L431-455), with what they are called today where that has changed.
WRITTEN: dict[str, Any] = {
    "num_train_epochs": 3,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 4,
    "learning_rate": 2e-4,
    "lr_scheduler_type": "cosine",
    "logging_steps": 10,
    "save_strategy": "epoch",
    "optim": "paged_adamw_8bit",
}
TODAY = {"warmup_steps": 0.03, "train_sampling_strategy": "group_by_length"}
DATA = {"dataset_text_field": "text", "max_length": 2048}  # options of trl's SFTConfig
GONE = {
    "warmup_ratio": "warmup_ratio is gone: warmup_steps below 1 is a share of the steps",
    "group_by_length": 'group_by_length is gone: train_sampling_strategy="group_by_length"',
    "max_seq_length": "max_seq_length is called max_length today",
    "evaluation_strategy": "evaluation_strategy is called eval_strategy, and was not in the note",
}


def notes_call(answer: Any) -> str:
    """Every name is one that the installed transformers has, and every meaning is kept."""
    if not isinstance(answer, Mapping) or answer.keys() != {"training", "data"}:
        raise Wrong(
            'give a dictionary {"training": {...}, "data": {...}}; this is ' + describe(answer)
        )
    for part, options in answer.items():
        expect(isinstance(options, Mapping), f"{part} should be a dictionary of options")
        for name in options:
            expect(name not in GONE, GONE.get(name, ""))
    # it imports bitsandbytes where that is installed, which logs the optional kernels that it lacks
    logging.getLogger("bitsandbytes").setLevel(logging.CRITICAL)
    from transformers import TrainingArguments

    training, data = answer["training"], answer["data"]
    known = {field.name for field in dataclasses.fields(TrainingArguments)}
    for name in training:
        expect(name not in DATA, f"{name} is no option of the training: it belongs to the data")
        expect(name in known, f"TrainingArguments has no {name!r} in this transformers")
    for name, value in {**WRITTEN, **TODAY}.items():
        expect(name in training, f"training lacks {name}: keep what the note asks for")
        got = training[name]
        expect(
            name != "warmup_steps" or got == value,
            f"warmup_steps={got!r} is not 3 % of the steps; from 1 on it is a number of steps",
        )
        expect(got == value, f"{name} should stay {value!r}, not {got!r}")
    expect(
        training.get("fp16") is True or training.get("bf16") is True,
        "training lacks fp16=True (or bf16=True): the note trains in 16 bits",
    )
    expect(
        not (training.get("fp16") and training.get("bf16")),
        "fp16 and bf16 exclude each other: one of them",
    )
    expect(dict(data) == DATA, f"data should hold the note's two options; it is {dict(data)}")
    return "every name against the installed TrainingArguments, every value against the note"
