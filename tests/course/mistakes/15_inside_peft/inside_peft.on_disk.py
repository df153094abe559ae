"""Answers to inside_peft.on_disk: only the part after lora_A or lora_B goes."""

import re

from minipeft.course.corpus import right, wrong


@wrong("the path has lost its 'attn'")
def everywhere(name, adapter):
    return name.replace(f".{adapter}", "")


@wrong("has no adapter's name in it")
def last_but_one(name, adapter):
    parts = name.split(".")
    return ".".join([*parts[:-2], parts[-1]])


@wrong("the adapter's name is still there")
def default_only(name, adapter):
    return name.replace(".default.", ".")


@wrong("the file keeps base_model.model.")
def without_prefix(name, adapter):
    return right_one(name, adapter).removeprefix("base_model.model.")


@wrong("the file keeps .weight")
def without_weight(name, adapter):
    return right_one(name, adapter).removesuffix(".weight")


@wrong("the file keeps lora_A or lora_B")
def without_matrix(name, adapter):
    return name.replace(f".lora_A.{adapter}.", ".").replace(f".lora_B.{adapter}.", ".")


@wrong("is there a `return`")
def no_return(name, adapter):
    right_one(name, adapter)


def right_one(name, adapter):
    head, dot, _ = name.rpartition(f".{adapter}.weight")
    return head + ".weight" if dot and head.endswith(("lora_A", "lora_B")) else name


by_the_end = right(right_one)


@right
def by_expression(name, adapter):
    return re.sub(rf"(\.lora_[AB])\.{re.escape(adapter)}(?=\.weight$)", r"\1", name)
