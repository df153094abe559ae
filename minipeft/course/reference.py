"""Hugging Face peft as the reference in a lesson: imported if it is there, and quietly."""

from __future__ import annotations

import importlib
import logging
import warnings
from types import ModuleType


def reference_peft() -> ModuleType | None:
    """The module `peft`, or None where it is not installed (the lessons do not need it).

    Importing it makes bitsandbytes report, on stderr, the kernels it could not find; and it reads
    an attribute that transformers has renamed. Neither is about the learner's code, so these two
    messages, and no others, are silenced.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing. is deprecated.*")
    try:
        return importlib.import_module("peft")
    except ModuleNotFoundError:
        return None
