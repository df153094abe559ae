"""Quantizing a model's linear layers in place, and preparing a quantized model for training.

QLoRA is nothing new beside a LoRA: the same wrapper, over layers whose W is in four bits.
(arXiv 2305.14314; lecture note 003_2a78d11827cb1020.txt, lines 171-214.)
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..checks import refuse, unfit, unmatched
from ..checks.rules import flag
from ..checks.rules import names as list_of_names
from ..checks.say import listed
from ..layers import bases
from ..layers.names import linear_endings, output_layers
from ..layers.quant import packed
from ..layers.quant.blocks import check_block, refuse_non_finite
from ..layers.quant.codebook import bits_of
from ..layers.quant.linear import QuantizedLinear
from ..methods.config import HEADS, matches
from .slots import slots


@dataclass(frozen=True)
class QuantizationReport:
    """What `quantize_model` did.

    Attributes:
        layers: the dotted names of the layers that are quantized now.
        left: the linear layers that were left alone.
        weights: how many numbers were quantized.
        bytes_before, bytes_after: what they took, and what they take with their scales.
    """

    layers: tuple[str, ...]
    left: tuple[str, ...]
    weights: int
    bytes_before: int
    bytes_after: int

    @property
    def bits_per_weight(self) -> float:
        """Bits held for each quantized weight."""
        return 8 * self.bytes_after / self.weights

    def __str__(self) -> str:
        before, after = self.bytes_before / 1e6, self.bytes_after / 1e6
        return (
            f"{len(self.layers)} layers, {self.weights:,} weights: {before:,.2f} MB -> "
            f"{after:,.2f} MB ({self.bits_per_weight:.3f} bits per weight); "
            f"left alone: {listed(self.left)}"
        )


@torch.no_grad()
def quantize_model(
    model: nn.Module,
    quant_type: str = "nf4",
    *,
    blocksize: int = 64,
    double_quant: bool = True,
    skip_modules: Collection[str] = (),
    compute_dtype: torch.dtype | None = None,
    compile: bool = False,
) -> QuantizationReport:
    """Put a `QuantizedLinear` in the place of each linear layer (`nn.Linear`, GPT-2's `Conv1D`).

    One layer at a time, so that at no moment there is more than one layer twice. The output layer
    and new heads stay as they are, and so do layers whose weight another module uses as well, or is
    computed (weight_norm, pruning). To keep the result, save the model's own checkpoint and
    quantize again after loading; or save its `state_dict()`, and load it into a model on which
    `quantize_model` was called in the same way.

    Args:
        model: any module without adapters, on any device ("meta" gives shapes to load into).
        quant_type, blocksize, double_quant: as in `quant.quantize`; the defaults are QLoRA's.
        skip_modules: more names or dotted suffixes to leave alone, such as `["c_proj"]`.
        compute_dtype, compile: as in `QuantizedLinear`.

    Raises:
        ConfigError, ConfigTypeError: an option that is not allowed, or a weight with NaN or
            infinity, by name and position. TargetError: a name that matches nothing, or nothing to
            quantize. StateError: the model has adapters. The model was not changed.
    """
    refuse.adapted(model, slots)
    check_block(blocksize, 8 // bits_of(quant_type))
    flag("double_quant", double_quant)
    flag("compile", compile)
    if compute_dtype is not None and not getattr(compute_dtype, "is_floating_point", False):
        raise unfit.no_compute_dtype(compute_dtype)
    names, left = chosen(model, skip_modules)
    for name in names:
        weight: Any = model.get_submodule(name).weight
        refuse_non_finite(weight, weight.abs().amax(-1), f"{name}.weight")
    weights = before = after = 0
    for name in names:
        old: Any = model.get_submodule(name)
        base = bases.view(old)
        assert base is not None
        new = QuantizedLinear.of(
            base.matrix(),
            old._parameters.get("bias"),
            quant_type=quant_type,
            blocksize=blocksize,
            double_quant=double_quant,
            compute_dtype=compute_dtype,
            compile=compile,
            source_cls=type(old),
        ).train(old.training)
        weights += old.weight.numel()
        before += old.weight.numel() * old.weight.element_size()
        after += new.quantized().nbytes
        for parent in list(model.modules()):  # a layer used twice stands in two places
            for key, child in parent._modules.items():
                if child is old:
                    parent._modules[key] = new
    return QuantizationReport(tuple(names), tuple(left), weights, before, after)


def chosen(model: nn.Module, skip_modules: Collection[str]) -> tuple[list[str], list[str]]:
    """The linear layers to quantize, and those to leave alone, by dotted name."""
    none = skip_modules in ((), [], set())
    skip = [] if none else list_of_names("skip_modules", skip_modules)
    layers = {name: m for name, m in model.named_modules() if name}
    for entry in skip:
        if not any(matches([entry], name) for name in layers):
            raise unmatched.entry("skip_modules", entry, layers)
    new_heads = {head for heads in HEADS.values() for head in heads}
    kept = [*skip, *new_heads, *output_layers(model, layers)]
    apart = [name for name in layers if matches(kept, name)]
    users: dict[int, int] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            users[id(parameter)] = users.get(id(parameter), 0) + 1
    names: list[str] = []
    left: list[str] = []
    for name, layer in layers.items():
        if not (type(layer) is nn.Linear or bases.is_conv1d(layer)):
            continue
        inside = any(name == a or name.startswith(f"{a}.") for a in apart)
        base = bases.view(layer)
        own = base is not None and base.mergeable and users.get(id(layer.weight)) == 1
        (names if own and layer.weight.numel() and not inside else left).append(name)
    if not names:
        raise unfit.nothing_to_quantize(model, linear_endings(layers), left)
    return names, left


def prepare_model_for_kbit_training(
    model: Any,
    use_gradient_checkpointing: bool = True,
    gradient_checkpointing_kwargs: dict[str, Any] | None = None,
) -> Any:
    """Freeze everything, put what is not quantized into float32, and checkpoint activations.

    Norms, embeddings and the head are small beside the quantized layers, and 16 bits are few for
    their sums. Checkpointing keeps only each block's input and computes the rest again in the
    backward pass: less memory for about a third more time.

    Args:
        model: quantized, by `quantize_model` or by transformers and bitsandbytes.
        use_gradient_checkpointing: whether to do so; the model must be one of transformers, and
            its config's use_cache is put to False (`generate` has its own).
        gradient_checkpointing_kwargs: `torch.utils.checkpoint`'s; use_reentrant is False if it
            is left out, so that frozen embeddings do not stop the gradient.

    Returns:
        the model, changed in place.

    Raises:
        ConfigTypeError: no module, or one that cannot checkpoint. StateError: it has adapters.
    """
    refuse.adapted(model, slots)
    enable = getattr(model, "activation_checkpointing_enable", None)  # the newer name
    enable = enable or getattr(model, "gradient_checkpointing_enable", None)
    if use_gradient_checkpointing and enable is None:
        raise unfit.no_checkpointing(model)
    if not any(packed.kind(module) for module in model.modules()):
        raise unfit.not_quantized()
    model.requires_grad_(False)
    packed.settle(model)
    for module in model.modules():
        if packed.kind(module) and not isinstance(module, QuantizedLinear):
            continue  # bitsandbytes takes care of its own
        for parameter in module.parameters(recurse=False):
            if parameter.dtype in (torch.float16, torch.bfloat16):
                parameter.data = parameter.data.float()
    if use_gradient_checkpointing and enable is not None:
        options = {"use_reentrant": False, **(gradient_checkpointing_kwargs or {})}
        if hasattr(model.config, "use_cache"):
            model.config.use_cache = False  # keys and values kept would be computed again as well
        if options["use_reentrant"]:
            model.enable_input_require_grads()
        enable(options)
    return model
