"""What is said of names in a config that mean nothing in a model: what is there, and what is near.

Each function returns the error; `tuner/` and `methods/` find out and raise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from .errors import TargetError
from .say import did_you_mean, listed


def ends_of(names: Iterable[str]) -> list[str]:
    """The distinct last parts of dotted names."""
    return list(dict.fromkeys(name.rsplit(".", 1)[-1] for name in names if name))


def kind_of(kind: str | None, model: Any) -> str:
    """How an error names the kind of a model."""
    return f"model type {kind!r}" if kind else f"{type(model).__name__}, a plain nn.Module"


def endings(linear: Iterable[str]) -> str:
    """The last names of the linear layers."""
    return listed(ends_of(linear), most=20)


# --- target_modules ------------------------------------------------------------------------------


def no_default(
    kind: str | None, model: Any, known: Iterable[str], linear: Iterable[str]
) -> TargetError:
    """Nothing was asked for, and the architecture has no default."""
    return TargetError(
        f"target_modules was left out, and there is no default for {kind_of(kind, model)} (there "
        f"is for {', '.join(sorted(known))}); name the layers: {endings(linear)}"
    )


def pattern(target: str, names: list[str], option: str = "target_modules") -> TargetError:
    """A regular expression that matches no name."""
    as_list = any(name == target or name.endswith(f".{target}") for name in names)
    fix = (
        f"; as a list, [{target!r}], it would match by suffix"
        if as_list
        else did_you_mean(target, [*names, *ends_of(names)])
    )
    return TargetError(
        f"{option}={target!r} matches no module: a string is a regular expression that must match "
        f"the whole dotted name, such as {''.join(names[-1:])!r}{fix}"
    )


def entries(lost: list[str], names: list[str], option: str = "target_modules") -> TargetError:
    """Entries of a list that match no name."""
    known = [*names, *ends_of(names)]
    hints = "".join(did_you_mean(each, known) for each in lost)
    ends = [n for n in ends_of(names) if not n.isdigit()]
    return TargetError(
        f"{option}={lost!r} matches no module{hints or ';'} "
        f"the model's modules end in {listed(ends, 40)}"
    )


def entry(option: str, name: str, names: Iterable[str]) -> TargetError:
    """One name that matches no module."""
    names = list(names)
    near = did_you_mean(name, [*names, *ends_of(names)])
    return TargetError(f"{option}: {name!r} matches no module{near}")


def named_twice(name: str, heads: Iterable[str]) -> TargetError:
    """A module that is to be adapted and trained whole."""
    return TargetError(
        f"{name!r} is named in target_modules, and is trained whole by modules_to_save or "
        f"as the task's head ({listed(heads)}): name it in one of them only"
    )


def no_layer(model: Any, target: Any, excluded: Any, linear: Iterable[str]) -> TargetError:
    """Names that leave nothing."""
    minus = "" if excluded is None else f" without exclude_modules={excluded!r}"
    return TargetError(
        f"target_modules={target!r}{minus} leaves no layer to adapt in {type(model).__name__}; "
        f"its linear layers: {endings(linear)}"
    )


def other_kind(name: str, layer: Any, target: Any, wanted: str, inside: list[str]) -> TargetError:
    """A layer that the method cannot stand beside."""
    fix = f"; the linear layers inside it: {listed(inside)}" if inside else ""
    return TargetError(
        f"target_modules={target!r} matches {name!r}, a {type(layer).__name__}; only "
        f"{wanted} can be adapted{fix}"
    )


def not_transposed(kind: str) -> TargetError:
    """fan_in_fan_out=True beside a layer that stores (out, in)."""
    return TargetError(
        f"fan_in_fan_out=True says that weights are stored (in, out), but "
        f"{kind} stores (out, in); leave fan_in_fan_out out, the layer's class decides"
    )


# --- modules_to_save -----------------------------------------------------------------------------

# What transformers calls a model with the head of a task.
CLASSES = {
    "SEQ_CLS": "SequenceClassification",
    "TOKEN_CLS": "TokenClassification",
    "QUESTION_ANS": "QuestionAnswering",
}


def no_head(task: Any, own: Iterable[str], model: Any) -> TargetError:
    """A task whose head the model lacks."""
    parts = listed(name for name, _ in model.named_children())
    return TargetError(
        f"task_type={task.value} trains the model's new head "
        f"({' or '.join(own)}), and {type(model).__name__} has none; name it in "
        f"modules_to_save, if it has another name (the model's parts are {parts}); or load the "
        f"base by AutoModelFor{CLASSES[task.value]}; or leave task_type out"
    )


def packed_head(path: str) -> TargetError:
    """A quantized layer that is to be trained whole."""
    return TargetError(
        f"modules_to_save: {path!r} is, or holds, a quantized layer, whose packed numbers "
        f"cannot be trained; name it in quantize_model(skip_modules=[...]), or adapt it"
    )


# --- LoRA's options ------------------------------------------------------------------------------


def no_layer_for_pattern(option: str, key: str, names: list[str]) -> TargetError:
    """A key of rank_pattern or alpha_pattern that means no adapted layer."""
    ends = ends_of(names)
    near = did_you_mean(key, [*ends, *names])
    return TargetError(
        f"{option}: {key!r} means none of the {len(names)} adapted layers"
        f"{near or ';'} they end in {listed(ends)}"
    )


def no_layer_of_number(
    config: Any, lost: list[int], numbers: Mapping[str, int | None]
) -> TargetError:
    """A number in layers_to_transform that no targeted layer has."""
    there = sorted({n for n in numbers.values() if n is not None})
    where = f" with layers_pattern={config.layers_pattern!r}" if config.layers_pattern else ""
    lists = dict.fromkeys(f[1] for n in numbers for f in re.finditer(r"([^.]+)\.\d+\.", n))
    return TargetError(
        f"layers_to_transform={config.layers_to_transform!r}{where}: no targeted layer has "
        f"the number {', '.join(map(str, lost))}; there are "
        f"{', '.join(map(str, there)) or 'none'} (the numbered lists: {listed(lists)})"
    )


def no_bias_to_train(config: Any, model: Any, adapted: int) -> TargetError:
    """LoRA's bias option where there are no biases."""
    whose = type(model).__name__ if config.bias == "all" else f"the {adapted} adapted layers"
    return TargetError(
        f"bias={config.bias!r} trains biases, and there are none in {whose}; leave bias out"
    )


# --- the other methods ---------------------------------------------------------------------------


def no_layer_with_bias(target: Any, biased: list[str], lost: list[str]) -> TargetError:
    """BitFit where no layer that is named has a bias."""
    ends = ends_of(biased)
    hints = "".join(did_you_mean(each, ends) for each in lost)
    return TargetError(
        f"target_modules={target!r} matches no layer with a bias{hints or ';'} "
        f"the layers with one end in {listed(ends, 40)}"
    )


def no_small_biases(kind: str | None, model: Any, known: Iterable[str]) -> TargetError:
    """BitFit's small variant in a family of which nobody wrote down which biases these are."""
    return TargetError(
        f"biases='small' is not known for {kind_of(kind, model)} (it is for "
        f"{', '.join(sorted(known))}); name the layers in target_modules, with biases='all'"
    )


def no_sublayers(
    wanted: list[str], kind: str | None, model: Any, known: Iterable[str], linear: Iterable[str]
) -> TargetError:
    """Adapters after sublayers in a family of which nobody wrote down where these end."""
    return TargetError(
        f"target_modules={wanted!r} means the layers that end these sublayers; they are known for "
        f"{', '.join(sorted(known))}, not for {kind_of(kind, model)}; name the layers whose output "
        f"is added to the residual stream, among {endings(linear)}"
    )


def no_such_sublayer(gone: list[str], looked: list[str], kind: Any, model: Any) -> TargetError:
    """A sublayer that the model lacks, such as the attention of a model that was cut."""
    return TargetError(
        f"target_modules={gone!r} matches no layer of this {type(model).__name__}: in "
        f"{kind!r} it is looked for as {looked!r}"
    )


def nothing_fused(target: Any, known: Any, model: Any) -> TargetError:
    """IA³'s fused_qkv="kv" where no layer computes Q, K and V together."""
    return TargetError(
        f"fused_qkv='kv' needs a layer that computes Q, K and V together ({known}); "
        f"target_modules={target!r} chooses none in {type(model).__name__}; leave it out"
    )


def no_feedforward(part: Any, target: Any) -> TargetError:
    """IA³'s feedforward_modules among none of the layers that a pattern chooses."""
    return TargetError(
        f"feedforward_modules={part!r} matches none of the layers that "
        f"target_modules={target!r} chooses; a pattern chooses alone, so let it "
        f"match them too, or give two lists, which are joined"
    )
