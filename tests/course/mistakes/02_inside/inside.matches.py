"""Answers to inside.matches."""

import re

from minipeft.course.corpus import right, wrong


@wrong("a suffix begins after a dot")
def ends_with(target, name):
    if isinstance(target, str):
        return re.fullmatch(target, name) is not None
    return any(name.endswith(entry) for entry in target)


@wrong("not its middle")
def inside(target, name):
    if isinstance(target, str):
        return re.fullmatch(target, name) is not None
    return any(f".{entry}." in f".{name}." for entry in target)


@wrong("fullmatch, not search")
def search(target, name):
    if isinstance(target, str):
        return re.search(target, name) is not None
    return any(name == entry or name.endswith(f".{entry}") for entry in target)


@wrong("fullmatch, not match")
def match(target, name):
    if isinstance(target, str):
        return re.match(target, name) is not None
    return any(name == entry or name.endswith(f".{entry}") for entry in target)


@wrong("an entry may have dots")
def last_name(target, name):
    if isinstance(target, str):
        return re.fullmatch(target, name) is not None
    return name in target or name.rpartition(".")[2] in target


@wrong("asked for is True or False")
def match_object(target, name):
    if isinstance(target, str):
        return re.fullmatch(target, name) or ""
    return any(name == entry or name.endswith(f".{entry}") for entry in target)


@right
def with_a_dot(target, name):
    if isinstance(target, str):
        return bool(re.fullmatch(target, name))
    return any(f".{name}".endswith(f".{entry}") for entry in target)


@right
def suffixes(target, name):
    if isinstance(target, str):
        return bool(re.compile(target).fullmatch(name))
    parts = name.split(".")
    return any(".".join(parts[i:]) in target for i in range(len(parts)))
