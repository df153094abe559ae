"""One door to every base model: the bundled ones, a local folder, a name on the hub.

`load_base("tiny-gpt2")`, `load_base("./my-model")` and `load_base("gpt2")` return the same two
things, an ordinary transformers causal language model and its tokenizer, so a notebook changes
one name to move from a laptop without a network to a real model on a GPU.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from minipeft.checks.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    ConfigError,
    ConfigTypeError,
)
from minipeft.checks.say import listed

ASSETS = Path(__file__).parent / "assets"
BUNDLED = ("tiny-gpt2", "tiny-bloom", "tiny-llama")


def load_base(
    name: str | os.PathLike[str],
    *,
    dtype: torch.dtype | None = None,
    device: str | torch.device | None = None,
) -> tuple[Any, Any]:
    """Load a causal language model and its tokenizer.

    Args:
        name: `"tiny-gpt2"` or `"tiny-bloom"` (bundled, a million parameters each, on stories of
            128 words), `"tiny-llama"` (bundled, two million, on English prose), a folder that
            `save_pretrained` wrote, or a name on the Hugging Face hub.
        dtype: of the floating-point parameters; float32 when None. The bundled weights are stored
            as float16, which is too coarse to train in.
        device: where to put the model; the CPU when None.

    Returns:
        `(model, tokenizer)`. The model is in eval mode, as transformers returns it. The tokenizer
        has a pad token (eos stands in where it had none) and pads on the right.

    Raises:
        CheckpointNotFoundError: there is no such folder, and no such model could be downloaded.
        CheckpointError: the folder is there but holds no causal language model with a tokenizer.
        ConfigTypeError: `name` is not a string or path, or `dtype` is not a torch dtype.
    """
    from transformers import AutoModelForCausalLM

    model, tokenizer = _load(AutoModelForCausalLM, name, dtype)
    # transformers guesses the loss from the class's name, and for GPT2LMHeadModel warns that it
    # could not, before it takes this one.
    model.loss_type = model.loss_type or "ForCausalLM"
    return (model if device is None else model.to(device)), tokenizer


def load_classifier(
    name: str | os.PathLike[str],
    labels: Sequence[str],
    *,
    seed: int = 0,
    dtype: torch.dtype | None = None,
    device: str | torch.device | None = None,
) -> tuple[Any, Any]:
    """Load a model with a new head that chooses one of several classes for a text.

    Args:
        name, dtype, device: as for `load_base`.
        labels: the names of the classes, by number.
        seed: of the head's weights.

    Returns:
        `(model, tokenizer)`, as `load_base` does; the head reads the last token of the text.

    Raises:
        ConfigError: fewer than two classes, or one twice; else as `load_base`.
    """
    names = list(labels)
    if len(names) < 2 or len(set(names)) < len(names):
        raise ConfigError(f"labels must be two or more different names, got {names!r}")
    from transformers import AutoModelForSequenceClassification

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, tokenizer = _load(
            AutoModelForSequenceClassification, name, dtype,
            id2label=dict(enumerate(names)), label2id={n: i for i, n in enumerate(names)},
        )  # fmt: skip
    # where the text ends is told by its padding
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    model.config.pad_token_id = tokenizer.pad_token_id
    return (model if device is None else model.to(device)), tokenizer


def _load(kind: Any, name: Any, dtype: torch.dtype | None, **options: Any) -> tuple[Any, Any]:
    """A model of this transformers class and its tokenizer; both doors' checks and errors."""
    if not isinstance(name, str | os.PathLike):
        raise ConfigTypeError(
            f"name must be a string or a path, got {type(name).__name__}; "
            f"bundled models: {listed(BUNDLED)}"
        )
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise ConfigTypeError(
            f"dtype must be a torch.dtype such as torch.float16, got {dtype!r}; "
            "leave it out for float32"
        )
    source = str(ASSETS / name) if name in BUNDLED else os.fspath(name)
    from transformers import AutoTokenizer
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging
    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    if name in BUNDLED:
        logging.disable_progress_bar()  # a few megabytes: there is nothing to wait for
    if options:
        logging.set_verbosity_error()  # it reports that the head is new: that was asked for
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(source)
        model: Any = kind.from_pretrained(source, dtype=dtype or torch.float32, **options)
    except (OSError, ValueError) as error:
        raise _explain(os.fspath(name), source) from error
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
    tokenizer.padding_side = "right"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # GPT-2 on the hub has no pad token
    return model, tokenizer


def _explain(name: str, source: str) -> CheckpointError | CheckpointNotFoundError:
    """The error for a model that did not load: what was asked, what is bundled, the fix."""
    bundled = f"Bundled, no network needed: {listed(BUNDLED)}."
    if name in BUNDLED:
        return CheckpointNotFoundError(
            f"the bundled model {name!r} is missing or damaged at {source}; reinstall minipeft, or "
            f"rebuild it (about ten minutes): python -m minipeft.lab.assets.pretrain {name}"
        )
    if Path(source).is_dir():
        return CheckpointError(
            f"the folder {name!r} holds no causal language model with a tokenizer that "
            "transformers can load; it needs config.json, the weights and the tokenizer's files, "
            f"as model.save_pretrained and tokenizer.save_pretrained write them. {bundled}"
        )
    offline = os.environ.get("HF_HUB_OFFLINE", "0")
    if offline in ("", "0"):
        state = "HF_HUB_OFFLINE is not set, so check the network and the spelling"
    else:
        state = f"HF_HUB_OFFLINE is {offline!r}: unset it to allow downloads"
    return CheckpointNotFoundError(
        f"no model {name!r}: there is no such folder, and it could not be had from the Hugging "
        f"Face hub. {bundled} Otherwise download it where there is a network (hf download {name} "
        f"--local-dir FOLDER), copy the folder here and give its path. {state}."
    )
