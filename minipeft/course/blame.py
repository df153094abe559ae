"""An exception in the learner's code, told in their terms: which line, called with which shapes."""

from __future__ import annotations

import inspect
import linecache
import sysconfig
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any

import torch

from .expect import describe, safe

# Code in these folders is not the learner's.
FOLDERS = [str(Path(__file__).parents[1]), str(Path(torch.__file__).parent)]
FOLDERS += [sysconfig.get_paths()[k] for k in ("stdlib", "platstdlib", "purelib", "platlib")]
OTHERS = tuple(folder.rstrip("/") + "/" for folder in FOLDERS)


def _theirs(code: CodeType) -> bool:
    return not code.co_filename.startswith((*OTHERS, "<frozen"))


def _call(frame: FrameType) -> str:
    """`forward(x: a tensor of shape (2, 3), float32)` for a running function."""
    code = frame.f_code
    values = inspect.getargvalues(frame)
    shown = [
        f"{name}: {describe(values.locals[name])}"
        for name in values.args
        if name not in ("self", "cls") and name in values.locals
    ]
    return f"{code.co_name}({', '.join(shown)})"


def explain(error: BaseException, signature: str) -> str:
    """One message about an exception that came out of an answer.

    Args:
        error: the exception, with its traceback.
        signature: what the exercise calls, `forward(self, x)`; shown when no line of the
            learner's code is to blame.
    """
    kind = f"{type(error).__name__}: {safe(str, error)}"
    found: tuple[FrameType, int] | None = None
    step: TracebackType | None = error.__traceback__
    while step is not None:
        if _theirs(step.tb_frame.f_code):
            found = step.tb_frame, step.tb_lineno
        step = step.tb_next
    if found is None:
        return f"calling your answer raised {kind.rstrip(': ')}\nasked for is `{signature}`"
    frame, line = found
    source = linecache.getline(frame.f_code.co_filename, line).strip()
    where = f"line {line} of your cell" + (f", `{source}`" if source else "")
    return f"{kind.rstrip(': ')}\nin {where}\nin {_call(frame)}"


def signature_of(target: Any, fallback: str) -> str:
    """`forward(self, x, base_output)` of a function or of a class's constructor."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return fallback
    names = [p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters]
    return f"{getattr(target, '__name__', fallback)}({', '.join(names)})"
