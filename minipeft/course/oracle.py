"""Hugging Face peft for the cells that compare with it; it is no dependency of the course.

peft imports bitsandbytes where that is installed, and bitsandbytes warns, on a machine without its
optional kernels, about speed. The lessons run nothing of bitsandbytes on that path: its logger is
told to keep to errors.
"""

from __future__ import annotations

import importlib
import logging
from types import ModuleType


def import_peft() -> ModuleType | None:
    """The module `peft`, or None where it is not installed; then it prints what to install."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        return importlib.import_module("peft")
    except ImportError:
        print("Hugging Face peft is not installed; for this comparison: pip install peft")
        return None
