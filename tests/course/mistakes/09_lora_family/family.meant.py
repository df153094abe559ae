"""Answers to family.meant: the whole name, or its end from a dot on."""

import re

from minipeft.course.corpus import right, wrong


@wrong("it is the end of the name, from a dot on")
def whole(key, name):
    return re.fullmatch(key, name) is not None


@wrong("it is the whole name")
def after_a_dot(key, name):
    return re.search(rf"\.({key})$", name) is not None


@wrong("a key is a regular expression")
def plain_text(key, name):
    return name == key or name.endswith("." + key)


@wrong("'c_attn' does not mean 'h.0.attn.not_c_attn'")
def any_end(key, name):
    return re.search(rf"({key})$", name) is not None


@wrong("the key is not the end of the name but stands inside it")
def no_end(key, name):
    return re.match(rf"(.*\.)?({key})", name) is not None


@wrong("`|` needs parentheses")
def no_parentheses(key, name):
    return re.match(rf"(.*\.)?{key}$", name) is not None


@wrong("return True or False")
def a_match(key, name):
    return re.match(rf"(.*\.)?({key})$", name)


@wrong("is None: is there a `return`?")
def nothing(key, name):
    re.match(rf"(.*\.)?({key})$", name)


@right
def full(key, name):
    return bool(re.fullmatch(rf"(?:.+\.)?(?:{key})", name))


@right
def every_end(key, name):
    parts = name.split(".")
    ends = (".".join(parts[i:]) for i in range(len(parts)))
    return any(re.fullmatch(key, end) for end in ends)
