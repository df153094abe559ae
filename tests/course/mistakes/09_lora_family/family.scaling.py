"""Answers to family.scaling: α/r, and α/√r with use_rslora."""

import math

from minipeft.course.corpus import right, wrong


@wrong("use_rslora is not used")
def always_plain(lora_alpha, r, use_rslora=False):
    return lora_alpha / r


@wrong("without use_rslora the scale is α/r; this is α/√r")
def always_stable(lora_alpha, r, use_rslora=False):
    return lora_alpha / math.sqrt(r)


@wrong("that is √(α/r); the root is of r alone")
def root_of_both(lora_alpha, r, use_rslora=False):
    return math.sqrt(lora_alpha / r) if use_rslora else lora_alpha / r


@wrong("that is α/r²; rank-stabilised divides by √r")
def squared(lora_alpha, r, use_rslora=False):
    return lora_alpha / r**2 if use_rslora else lora_alpha / r


@wrong("that is α · √r; it is divided")
def multiplied(lora_alpha, r, use_rslora=False):
    return lora_alpha * math.sqrt(r) if use_rslora else lora_alpha / r


@wrong("that is an integer division; α/r need not be whole")
def whole(lora_alpha, r, use_rslora=False):
    return lora_alpha / math.sqrt(r) if use_rslora else lora_alpha // r


@wrong("that is r/α: upside down")
def upside_down(lora_alpha, r, use_rslora=False):
    return r / lora_alpha


@wrong("is None: is there a `return`?")
def nothing(lora_alpha, r, use_rslora=False):
    lora_alpha / r


@right
def a_power(lora_alpha, r, use_rslora=False):
    return lora_alpha * r ** (-0.5 if use_rslora else -1)


@right
def plain_with_another_alpha(lora_alpha, r, use_rslora=False):
    """At one rank, rank-stabilised LoRA is LoRA with α√r."""
    alpha = lora_alpha * math.sqrt(r) if use_rslora else lora_alpha
    return alpha / r
