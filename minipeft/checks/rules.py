"""The rules of options: each says of one value what was given and what is allowed, or returns it.

    r: int = option(8, whole(1))

A rule is a function of the option's name and its value that returns the value as it is kept (a
numpy integer as an int, a set of names as a sorted list), or raises. A config applies it whenever
the option is set.
"""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from .errors import ConfigError, ConfigTypeError
from .say import did_you_mean, listed, shown

Rule = Callable[[str, Any], Any]


def optional(rule: Rule) -> Rule:
    """None, or what the rule allows."""

    def check(name: str, value: Any) -> Any:
        return None if value is None else rule(name, value)

    return check


def flag(name: str, value: Any) -> bool:
    """True or False, and no string: "False" is true to Python."""
    if not isinstance(value, bool):
        raise ConfigTypeError(f"{name} must be True or False, got {shown(value)}")
    return value


def text(name: str, value: Any) -> str:
    """A non-empty string."""
    if not isinstance(value, str) or not value:
        raise ConfigTypeError(f"{name} must be a non-empty string, got {shown(value)}")
    return value


def whole(low: int) -> Rule:
    """An integer of at least `low`."""

    def check(name: str, value: Any) -> int:
        return integer(name, value, low=low)

    return check


def integer(name: str, value: Any, *, low: int) -> int:
    """The value as an int; refuses what is none (True is none here), or is below `low`."""
    what = "a positive integer" if low == 1 else f"an integer of at least {low}"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ConfigTypeError(f"{name} must be {what}, got {shown(value)}")
    if value < low:
        raise ConfigError(f"{name} must be {what}, got {value!r}")
    return int(value)


def real(low: float, high: float = math.inf, *, open_low: bool = False) -> Rule:
    """A finite number in [low, high), or in (low, high)."""

    def check(name: str, value: Any) -> float:
        return number(name, value, low=low, high=high, open_low=open_low)

    return check


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


def one_of(*allowed: Any) -> Rule:
    """One of these, compared with its type (1 is not True)."""

    def check(name: str, value: Any) -> Any:
        if not any(type(value) is type(a) and value == a for a in allowed):
            near = did_you_mean(str(value), [a for a in allowed if isinstance(a, str)])
            choices = ", ".join(map(repr, allowed))
            raise ConfigError(f"{name} must be one of {choices}, got {shown(value)}{near}")
        return value

    return check


def member(kinds: type[Enum]) -> Rule:
    """A member of an enumeration, or its value; kept as the member."""
    value_of = one_of(*(kind.value for kind in kinds))

    def check(name: str, value: Any) -> Enum:
        return kinds(value_of(name, value.value if isinstance(value, kinds) else value))

    return check


def pattern(name: str, value: str) -> str:
    """A regular expression that is not empty."""
    if not value:
        raise ConfigError(f"{name} must not be an empty string; leave it out for the default")
    try:
        re.compile(value)
    except re.error as error:
        raise ConfigError(
            f"{name}={value!r} is a string, so it is read as a regular expression, and is not "
            f"one: {error}; for plain names give a list, such as ['q_proj', 'v_proj']"
        ) from None
    return value


def names(name: str, value: Any) -> list[str]:
    """A list of non-empty names without repeats, from a list, tuple or set."""
    if isinstance(value, (str, bytes)) or not isinstance(value, (list, tuple, set, frozenset)):
        raise ConfigTypeError(f"{name} must be a list of module names, got {shown(value)}")
    if not value:
        raise ConfigError(f"{name} must not be empty; leave it out for the default")
    for entry in value:
        if not isinstance(entry, str) or not entry:
            raise ConfigTypeError(
                f"{name} must hold module names (non-empty strings), got {shown(entry)} "
                f"in {listed(map(str, value))}"
            )
    ordered = sorted(value) if isinstance(value, (set, frozenset)) else value
    return list(dict.fromkeys(ordered))


def names_or_pattern(name: str, value: Any) -> Any:
    """A list of names, or a string that is a regular expression."""
    return (pattern if isinstance(value, str) else names)(name, value)


def patterns_to(rule: Rule, example: str) -> Rule:
    """A dict from layers' names, read as regular expressions, to what the rule allows."""

    def check(name: str, value: Any) -> dict[str, Any]:
        value = {} if value is None else value
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise ConfigTypeError(
                f"{name} must map layers' names to numbers, such as {example}, got {shown(value)}"
            )
        for key in value:
            pattern(name, key)
        return {key: rule(f"{name}[{key!r}]", each) for key, each in value.items()}

    return check


def unavailable(why: str, *neutral: Any) -> Rule:
    """An option of peft's that minipeft lacks: only None and its neutral value are taken."""

    def check(name: str, value: Any) -> Any:
        if value is not None and value not in neutral:
            nothing = neutral[0] if neutral else None
            raise ConfigError(
                f"{name}={value!r} is not available in this version of minipeft ({why}); "
                f"leave {name} out (its value is {nothing!r})"
            )
        return value

    return check
