"""Checks of one option, shared by all configs: each says what was given, and what is allowed."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Collection
from typing import Any

from .errors import ConfigError, ConfigTypeError, did_you_mean, listed


def shown(value: Any) -> str:
    """A value with its type, as an error names it: `'8' (str)`."""
    return f"{value!r} ({type(value).__name__})"


def check_bool(config: Any, name: str) -> None:
    """Refuse anything but True and False: the string "False" is true to Python."""
    value = getattr(config, name)
    if not isinstance(value, bool):
        raise ConfigTypeError(f"{name} must be True or False, got {shown(value)}")


def check_string(config: Any, name: str) -> None:
    """Refuse anything but a non-empty string."""
    value = getattr(config, name)
    if not isinstance(value, str) or not value:
        raise ConfigTypeError(f"{name} must be a non-empty string, got {shown(value)}")


def check_int(config: Any, name: str, *, low: int) -> None:
    """Refuse anything but an integer of at least `low` (True is no integer here)."""
    setattr(config, name, integer(name, getattr(config, name), low=low))


def integer(name: str, value: Any, *, low: int) -> int:
    """The value as an int; refuses what is none, or is below `low`."""
    what = "a positive integer" if low == 1 else f"an integer of at least {low}"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ConfigTypeError(f"{name} must be {what}, got {shown(value)}")
    if value < low:
        raise ConfigError(f"{name} must be {what}, got {value!r}")
    return int(value)


def check_number(
    config: Any, name: str, *, low: float, high: float = math.inf, open_low: bool = False
) -> None:
    """Refuse anything but a finite number in [low, high), or in (low, high)."""
    value = getattr(config, name)
    setattr(config, name, number(name, value, low=low, high=high, open_low=open_low))


def number(
    name: str, value: Any, *, low: float, high: float = math.inf, open_low: bool = False
) -> float:
    """The value as an int or float; refuses what is no finite number in the interval."""
    bracket = "(" if open_low else "["
    top = "infinity" if high == math.inf else f"{high:g}"
    what = f"a number in {bracket}{low:g}, {top})"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ConfigTypeError(f"{name} must be {what}, got {shown(value)}")
    if not (low <= float(value) < high) or (open_low and value == low):  # NaN fails as well
        raise ConfigError(f"{name} must be {what}, got {value!r}")
    # numpy's numbers are numbers, but JSON cannot hold them
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def check_choice(config: Any, name: str, allowed: Collection[Any]) -> None:
    """Refuse anything but one of `allowed`, compared with its type (1 is not True)."""
    value = getattr(config, name)
    if not any(type(value) is type(a) and value == a for a in allowed):
        near = did_you_mean(str(value), [a for a in allowed if isinstance(a, str)])
        choices = ", ".join(map(repr, allowed))
        raise ConfigError(f"{name} must be one of {choices}, got {shown(value)}{near}")


def check_pattern(name: str, pattern: str) -> None:
    """Refuse an empty string and what is not a regular expression."""
    if not pattern:
        raise ConfigError(f"{name} must not be an empty string; leave it out for the default")
    try:
        re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"{name}={pattern!r} is a string, so it is read as a regular expression, and is not "
            f"one: {error}; for plain names give a list, such as ['q_proj', 'v_proj']"
        ) from None


def check_names(name: str, names: Any) -> list[str]:
    """A list of non-empty names without repeats, from a list, tuple or set; refuses the rest."""
    if isinstance(names, (str, bytes)) or not isinstance(names, (list, tuple, set, frozenset)):
        raise ConfigTypeError(f"{name} must be a list of module names, got {shown(names)}")
    if not names:
        raise ConfigError(f"{name} must not be empty; leave it out for the default")
    for entry in names:
        if not isinstance(entry, str) or not entry:
            raise ConfigTypeError(
                f"{name} must hold module names (non-empty strings), got {shown(entry)} "
                f"in {listed(map(str, names))}"
            )
    ordered = sorted(names) if isinstance(names, (set, frozenset)) else names
    return list(dict.fromkeys(ordered))
