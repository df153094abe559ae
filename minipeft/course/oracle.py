"""Hugging Face peft for the cells that compare with it; it is no dependency of the course.

Two messages of its surroundings would stand in the notebooks and say nothing to a learner. peft
imports bitsandbytes where that is installed, and bitsandbytes logs that optional CPU kernels are
missing; and peft 0.21 reads an attribute that transformers 5.23 has renamed.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from types import ModuleType


def import_peft() -> ModuleType | None:
    """The module `peft`, or None where it is not installed; then it prints what to install."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", ".is_gradient_checkpointing. is deprecated", FutureWarning)
    try:
        return importlib.import_module("peft")
    except ImportError:
        print("Hugging Face peft is not installed; for this comparison: pip install peft")
        return None
