"""One family of errors: every message says what was given, what is allowed, and the fix.

`except MinipeftError` catches all of them; each kind is also the built-in error that Python
programmers expect (a wrong value is a `ValueError`, a missing folder a `FileNotFoundError`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MinipeftError(Exception):
    """The base of all errors that minipeft raises on purpose."""


class ConfigError(MinipeftError, ValueError):
    """An option of a config has a value that is not allowed."""


class ConfigTypeError(MinipeftError, TypeError):
    """An option of a config, or an argument, has a type that is not allowed."""


class TargetError(MinipeftError, ValueError):
    """`target_modules` matches nothing, or matches a layer that cannot be adapted."""


class AdapterNameError(MinipeftError, ValueError):
    """An adapter name is unknown, taken, or not usable as a name."""


class StateError(MinipeftError, RuntimeError):
    """The model is not in a state that allows the call (merged twice, nothing trainable, ...)."""


class CheckpointError(MinipeftError, ValueError):
    """An adapter on disk is damaged, or does not fit the model."""


class CheckpointNotFoundError(MinipeftError, FileNotFoundError):
    """There is no adapter, or no model, where one was looked for."""


class DataError(MinipeftError, ValueError):
    """Rows to learn from cannot be read, or are not what a row must be."""


class HubError(MinipeftError, OSError):
    """The Hugging Face hub could not be reached, or refused."""


class MinipeftWarning(UserWarning):
    """The base of all warnings that minipeft gives."""


class CannotLearnWarning(MinipeftWarning):
    """A training forward has no way to reach the adapters, so they stay as they are."""


class DamagedWarning(MinipeftWarning):
    """An adapter, in memory or on disk, holds what it should not: NaN, or another's config."""


class RankWarning(MinipeftWarning):
    """A rank is above the layer's own, so that a part of the adapter can do nothing."""


class RoundingWarning(MinipeftWarning):
    """The weights' dtype takes away a part of what was merged into them."""


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """`"; did you mean 'c_proj'?"`, naming what among `known` is near; empty if nothing is."""
    near = difflib.get_close_matches(given, list(dict.fromkeys(known)), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def listed(names: Iterable[str], most: int = 8) -> str:
    """At most `most` names, quoted and comma-separated, with the rest counted."""
    names = list(names)
    shown = ", ".join(map(repr, names[:most])) or "none"
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
