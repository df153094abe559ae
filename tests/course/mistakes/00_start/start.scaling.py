"""Answers to start.scaling: α/r, or α/√r."""

import math

import torch

from minipeft.course.corpus import right, wrong


@wrong("that is α; it is divided by r")
def alpha(lora_alpha, r, use_rslora=False):
    return float(lora_alpha)


@wrong("upside down")
def upside_down(lora_alpha, r, use_rslora=False):
    return r / lora_alpha


@wrong("which use_rslora=True asks for")
def always_root(lora_alpha, r, use_rslora=False):
    return lora_alpha / math.sqrt(r)


@wrong("use_rslora=True changes nothing")
def ignores_the_flag(lora_alpha, r, use_rslora=False):
    return lora_alpha / r


@wrong("that is α/r²")
def squared(lora_alpha, r, use_rslora=False):
    return lora_alpha / r**2 if use_rslora else lora_alpha / r


@wrong("the root is of r alone")
def root_of_all(lora_alpha, r, use_rslora=False):
    return math.sqrt(lora_alpha / r) if use_rslora else lora_alpha / r


@wrong("drops the fraction")
def whole_numbers(lora_alpha, r, use_rslora=False):
    return lora_alpha / r**0.5 if use_rslora else lora_alpha // r


@right
def one_power(lora_alpha, r, use_rslora=False):
    return lora_alpha * r ** (-0.5 if use_rslora else -1)


@right
def torch_root(lora_alpha, r, use_rslora=False):
    if use_rslora:
        return lora_alpha * torch.rsqrt(torch.tensor(float(r))).item()
    return lora_alpha / r
