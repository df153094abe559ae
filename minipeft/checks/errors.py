"""One family of errors: every message says what was given, what is allowed, and the fix.

`except MinipeftError` catches all of them; each kind is also the built-in error that Python
programmers expect (a wrong value is a `ValueError`, a missing folder a `FileNotFoundError`).
"""

from __future__ import annotations


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
