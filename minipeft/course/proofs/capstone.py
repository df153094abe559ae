"""The proofs of lesson 16: what the notes' training cells say, held against today's libraries."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from ...lab.zoo import ASSETS
from ..claims import hold, proves


def fields() -> set[str]:
    """The options that the installed transformers' TrainingArguments has."""
    from transformers import TrainingArguments

    return {field.name for field in dataclasses.fields(TrainingArguments)}


def one_layer() -> Any:
    """A GPT-2 of one layer with a LoRA, made in milliseconds."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from ... import LoraConfig, get_peft_model

    ids: dict[str, Any] = {"vocab_size": 11, "bos_token_id": 1, "eos_token_id": 1}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        base = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=2, **ids))
        base.loss_type = "ForCausalLM"
        return get_peft_model(base, LoraConfig(r=2))


def raised(error: type[Exception], code: str) -> str:
    """The message of the error that a piece of code raises in a fresh namespace."""
    try:
        exec(compile(code, "cell", "exec"), {})
    except error as caught:
        return str(caught).partition("(")[0].strip()
    hold(False, f"no {error.__name__}: {code}")
    return ""


@proves("capstone-no-labels")
def no_labels() -> str:
    """A batch of ids, as a dataset without labels gives it, and one with labels."""
    model, ids = one_layer(), torch.tensor([[1, 2, 3]])
    bare, labelled = model(input_ids=ids), model(input_ids=ids, labels=ids)
    hold(bare.get("loss") is None, "there is a loss without labels")
    hold(labelled.loss.requires_grad, "the loss reaches no adapter")
    return f"without labels no loss; with labels {labelled.loss.item():.2f} nats"


@proves("capstone-ragged")
def ragged() -> str:
    """What Trainer makes of rows of two lengths, given no tokenizer and no collator."""
    from transformers import default_data_collator

    rows: list[Mapping[str, Any]] = [{"input_ids": [1, 2, 3]}, {"input_ids": [1]}]
    try:
        default_data_collator(list(rows))
    except ValueError as error:
        return f"ValueError: {error}"
    hold(False, "rows of two lengths became a batch")
    return ""


@proves("capstone-warmup-ratio")
def warmup_ratio() -> str:
    """The name, and what a warmup_steps below 1 means."""
    from transformers import TrainingArguments

    hold("warmup_ratio" not in fields(), "TrainingArguments has warmup_ratio")
    # get_warmup_steps reads nothing else of the arguments, and making those needs accelerate
    arguments: Any = type("Arguments", (), {"warmup_steps": 0.03})()
    steps = TrainingArguments.get_warmup_steps(arguments, 1000)
    hold(steps == 30, f"warmup_steps=0.03 warms up for {steps} of 1,000 steps")
    return f"no such option; warmup_steps=0.03 is {steps} of 1,000 steps"


@proves("capstone-group-by-length")
def group_by_length() -> str:
    """The name of then and of now."""
    names = fields()
    hold("group_by_length" not in names, "TrainingArguments has group_by_length")
    hold("train_sampling_strategy" in names, "there is no train_sampling_strategy")
    return "no such option; train_sampling_strategy is there"


@proves("capstone-imports")
def imports() -> str:
    """One line of each cell, in a fresh namespace."""
    lines = {  # what a cell needs and does not import; in order, cells above have done so
        "003:L150": "torch_dtype = torch.float16",
        "003:L462": "base_model = AutoModelForCausalLM.from_pretrained('m')",
        "001:L27": "model = AutoModelForCausalLM.from_pretrained('m', low_cpu_mem_usage=True)",
    }
    found = {raised(NameError, code) for code in lines.values()}
    return f"{len(lines)} lines: NameError, {', '.join(sorted(found))}"


@proves("capstone-fenced")
def fenced() -> str:
    """What was printed, compiled as Python."""
    printed = "trainable params: 294,912 || all params: 124,734,720 || trainable%: 0.2364"
    own = "可训练参数量: 294912\n可训练参数占比: 0.24%"
    found = [raised(SyntaxError, text) for text in (printed, own)]
    return f"SyntaxError in {len(found)} of 2"


def loaded(**options: Any) -> Any:
    """The bundled GPT-2 as transformers loads it, without its bar and its log."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        return AutoModelForCausalLM.from_pretrained(ASSETS / "tiny-gpt2", **options)
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@proves("capstone-low-memory")
def low_memory() -> str:
    """The bundled GPT-2 with and without the option."""
    plain, *others = (loaded(**o) for o in ({}, *({"low_cpu_mem_usage": b} for b in (True, False))))
    for other in others:
        pairs = zip(plain.state_dict().values(), other.state_dict().values(), strict=True)
        hold(all(torch.equal(a, b) for a, b in pairs), "the option changes a weight")
    return f"True, False or left out: the same {len(plain.state_dict())} tensors"


@proves("capstone-dtype-name")
def dtype_name() -> str:
    """The old name, the new one, and neither."""
    old, new = loaded(torch_dtype=torch.float32).dtype, loaded(dtype=torch.float32).dtype
    hold(old == new == torch.float32, f"torch_dtype gives {old}, dtype gives {new}")
    hold(loaded().dtype == torch.float16, "left out, the dtype is not the file's")
    return "torch_dtype and dtype do the same; with neither, the file's float16"
