"""How values and names are put into words: near misses, long lists, a value with its type."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


def shown(value: Any) -> str:
    """A value with its type, as an error names it: `'8' (str)`."""
    return f"{value!r} ({type(value).__name__})"


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """`"; did you mean 'c_proj'?"`, naming what among `known` is near; empty if nothing is."""
    near = difflib.get_close_matches(given, list(dict.fromkeys(known)), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def listed(names: Iterable[str], most: int = 8) -> str:
    """At most `most` names, quoted and comma-separated, with the rest counted."""
    names = list(names)
    shown = ", ".join(map(repr, names[:most])) or "none"
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
