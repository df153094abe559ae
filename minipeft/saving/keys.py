"""An adapter's tensors by their names on disk, which are Hugging Face peft's.

How a name ends is said by the method's class (`on_disk`), where it is not the parameter's own.

base_model.model.<path>.lora_A.weight   (r, in)
base_model.model.<path>.lora_B.weight   (out, r)
base_model.model.<path>.lora_embedding_A (r, vocab), and lora_embedding_B (dim, r)
base_model.model.<head>.weight          a module trained whole
prompt_embeddings                       (v, d), or (v, 2·L·d) for keys and values
base_model.<head>.weight                a module trained whole, beside virtual tokens
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..checks import doubts, misfit, refuse
from ..checks.errors import CheckpointError
from ..methods.virtual_tokens import PromptMethod
from ..tuner.attach import LayerModel
from ..tuner.plan import Plan
from ..tuner.prompts import NAME
from ..tuner.slots import Slot, named_layers, slots

PREFIX = "base_model.model."
PROMPT = "prompt_embeddings"
FROZEN = ".base_layer.weight"


def keys_of(
    path: str, adapter: nn.Module, in_wrapper: bool, prefix: str = PREFIX
) -> dict[str, str]:
    """{name on disk: name in the module} for the module of one layer."""
    theirs: Any = adapter.on_disk if in_wrapper else {}
    return {f"{prefix}{path}.{theirs.get(name, name)}": name for name in adapter.state_dict()}


# One module of an adapter: its layer's dotted name, the module, and whether a wrapper holds it.
Part = tuple[str, nn.Module, bool]


def inside(model: nn.Module) -> nn.Module:
    """The base model in a `PeftModel` or a `LayerModel`."""
    root: nn.Module = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    return root.model if isinstance(root, LayerModel) else root


def parts_in(model: nn.Module, adapter_name: str) -> list[Part]:
    """The modules of one adapter in a model."""
    root = inside(model)
    here = [(path, m) for path, m in root.named_modules() if isinstance(m, Slot)]
    there = [(path, slot) for path, slot in here if adapter_name in slot.adapters]
    if not there:
        raise refuse.not_in(adapter_name, root)
    return [(path, slot.adapters[adapter_name], slot.kind == "layer") for path, slot in there]


def parts_of(planned: Plan) -> list[Part]:
    """The modules of an adapter that is not attached yet."""
    methods: list[Part] = [(path, module, True) for path, module in planned.methods.items()]
    prompt = [(NAME, planned.prompt, False)] if planned.prompt is not None else []
    copies = [(path, module, False) for path, module in planned.copies.items()]
    return [*methods, *prompt, *copies]


def tensors_of(parts: list[Part]) -> dict[str, Tensor]:
    """An adapter's tensors under their names on disk, as its modules show them."""
    tensors: dict[str, Tensor] = {}
    for path, module, in_wrapper in parts:
        if isinstance(module, PromptMethod):
            tensors[PROMPT] = module.virtual_tokens().detach()
            continue
        state = module.state_dict()
        names = keys_of(path, module, in_wrapper, prefix_of(parts))
        tensors.update({key: state[name] for key, name in names.items()})
    return tensors


def prefix_of(parts: list[Part]) -> str:
    """What stands before a path: peft wraps the layers' model once more than a prompt's."""
    virtual = any(isinstance(module, PromptMethod) for _, module, _ in parts)
    return "base_model." if virtual else PREFIX


def fill(parts: list[Part], tensors: Mapping[str, Tensor]) -> None:
    """Give the modules of an adapter their tensors: the other direction of `tensors_of`."""
    for path, module, in_wrapper in parts:
        if isinstance(module, PromptMethod):
            module.take(tensors[PROMPT])
            continue
        names = keys_of(path, module, in_wrapper, prefix_of(parts))
        module.load_state_dict({name: tensors[key] for key, name in names.items()})


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shapes, by name."""
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}


def finite(tensor: Tensor) -> bool:
    """Whether a tensor holds neither NaN nor infinity; whole numbers do not."""
    wide = tensor.float() if tensor.dtype.itemsize == 1 else tensor  # isfinite knows no float8
    return bool(wide.isfinite().all())


def get_peft_model_state_dict(model: nn.Module, adapter_name: str = "default") -> dict[str, Tensor]:
    """One adapter's tensors under their names on disk, as `save_pretrained` writes them."""
    return tensors_of(parts_in(model, adapter_name))


def set_peft_model_state_dict(
    model: nn.Module, state_dict: Mapping[str, Tensor], adapter_name: str = "default"
) -> None:
    """Copy tensors, named as on disk, into an adapter; all must be there, and fit.

    Raises:
        CheckpointError: keys, shapes or values do not fit. StateError: the adapter is merged.
            Nothing was copied.
    """
    parts, here = parts_in(model, adapter_name), slots(inside(model))
    misfit.refuse_non_tensors(state_dict)
    if bad := [key for key, tensor in state_dict.items() if not finite(tensor)]:
        doubts.not_finite(adapter_name, bad)
    refuse.changes(
        [adapter_name] if adapter_name in refuse.merged_in(here) else [],
        "set_peft_model_state_dict",
    )
    state_dict = without_frozen(inside(model), state_dict, f"the state dict for {adapter_name!r}")
    own = {key: tensor.clone() for key, tensor in tensors_of(parts).items()}
    what = f"the tensors for {adapter_name!r}"
    if wrong := misfit.other_tensors(shapes_of(own), shapes_of(state_dict), what, None):
        raise wrong
    try:
        fill(parts, state_dict)
    except CheckpointError:  # a module refused a value: put back what the others took
        fill(parts, own)
        raise


def without_frozen(model: nn.Module, given: Mapping[str, Any], what: Any) -> dict[str, Any]:
    """The tensors without the frozen weights among them, which must be this model's own.

    peft writes an adapted embedding's weight beside the adapter, whether it was changed or not.

    Raises:
        CheckpointError: one is another.
    """
    layers = dict(named_layers(model))
    for key in [key for key in given if key.endswith(FROZEN)]:
        path = key.removeprefix(PREFIX).removesuffix(FROZEN)
        own = getattr(layers[path], "weight", None) if path in layers else None
        if own is None or own.shape != given[key].shape or not same(own, given[key]):
            raise misfit.own_weight(what, path)
    return {key: tensor for key, tensor in given.items() if not key.endswith(FROZEN)}


def same(own: Tensor, given: Tensor) -> bool:
    """Whether both hold the same values, as far as the coarser dtype tells; "meta" has none."""
    coarse = min(own.dtype, given.dtype, key=lambda dtype: dtype.itemsize)
    return own.is_meta or own.to(coarse).equal(given.to(own.device, coarse))


def unshare(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    """Give a tied weight's second name in a state dict a copy of its own.

    safetensors refuses tensors that share memory, and so does transformers' Trainer, which writes
    the state dict of what it trains; loading writes one weight twice, which does no harm.
    """
    seen: set[tuple[Any, ...]] = set()
    for key, tensor in state.items():
        if not isinstance(tensor, Tensor) or tensor.is_meta or tensor.numel() == 0:
            continue
        place = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.shape)
        if place in seen:
            state[key] = tensor.clone()
        seen.add(place)
