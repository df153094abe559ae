"""PeftModel: a base model, its adapters by name, and the verbs, named as in Hugging Face peft."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from functools import partial
from typing import Any

from torch import nn

from . import learning, refuse
from .config import PeftConfig
from .errors import MinipeftWarning, StateError, listed
from .hub import Stored
from .inputs import Forward
from .merging import warn_of_rounding
from .plans import Plan, plan
from .quant.packed import hidden_parameters
from .several import Several
from .state import unshare
from .tuner import LayerModel


class PeftModel(Several, Stored, nn.Module):
    """A frozen model with one or more adapters in it.

    Args:
        model: any `nn.Module`, on any device (on "meta", to count); it is frozen and gets its
            adapters in place. A call that is refused leaves it as it was.
        peft_config, adapter_name: what to add, such as `LoraConfig(...)`, and its name.

    Attributes:
        base_model: the `LayerModel` around the model; peft_config: the configs, by adapter name.
    """

    def __init__(self, model: nn.Module, peft_config: PeftConfig, adapter_name: str = "default"):
        super().__init__()
        refuse.non_model(model)
        self._start(model, plan(model, peft_config, adapter_name))

    def _start(self, model: nn.Module, first: Plan) -> None:
        self.base_model, self.peft_config = LayerModel(model), {}
        self._active: tuple[str, ...] = ()
        self._trained: tuple[str, ...] = ()
        self.register_state_dict_post_hook(unshare)  # type: ignore[no-untyped-call]
        # the base model's, with the active adapters
        self.forward = Forward(model, self.by_row, partial(learning.warn, self))
        self._add(first)
        self.set_adapter(first.name)

    def _add(self, planned: Plan) -> None:
        known = planned.config.base_model_name_or_path
        base = getattr(getattr(self.get_base_model(), "config", None), "_name_or_path", None)
        planned.config.base_model_name_or_path = known or base or None
        self.base_model.attach(planned)
        self.peft_config[planned.name] = planned.config
        vars(planned.config)["in_use"] = True
        self.base_model.activate(self._active, self._trained)

    def __getattr__(self, name: str) -> Any:
        # generate, config, device, get_input_embeddings, ...: the base model answers.
        try:
            return super().__getattr__(name)
        except AttributeError:
            # not set yet: there is nobody to ask; and what copy and pickle ask is for us
            if name == "base_model" or name.startswith("__"):
                raise
            return getattr(self.base_model.model, name)

    def get_base_model(self) -> nn.Module:
        """The model that was given, with the adapters in it."""
        return self.base_model.model

    @property
    def active_adapters(self) -> list[str]:
        """The names of the adapters in use, in order."""
        return list(self._active)

    @property
    def active_adapter(self) -> str:
        """The name of the adapter in use; the first, if there are several."""
        if self._active:
            return self._active[0]
        raise StateError("no adapter is active; choose one with set_adapter(name)")

    @property
    def active_peft_config(self) -> PeftConfig:
        """The config of the adapter in use."""
        return self.peft_config[self.active_adapter]

    def add_adapter(self, adapter_name: str, peft_config: PeftConfig) -> None:
        """Add an adapter beside the others; `set_adapter` puts it to use."""
        refuse.merged(self.base_model.merged, "add_adapter")
        refuse.taken(self.peft_config, adapter_name)
        self._add(plan(self.get_base_model(), peft_config, adapter_name))

    def set_adapter(
        self, adapter_name: str | Iterable[str], inference_mode: bool | None = None
    ) -> None:
        """Use this adapter, or these together, and train them and no others.

        Args:
            adapter_name: a name or several.
            inference_mode: True uses them without training; None: as each one's config says.

        Raises:
            AdapterNameError: unknown. StateError: one is merged, or they exclude each other.
        """
        names = refuse.non_names("adapter_name", adapter_name)
        refuse.unknown(self.peft_config, names)
        refuse.merged(self.base_model.merged, "set_adapter")
        refuse.two_copies(self.get_base_model(), names)
        frozen = tuple(n for n in names if self.peft_config[n].inference_mode)
        if inference_mode is not None:
            refuse.non_bool("inference_mode", inference_mode)
            frozen = names if inference_mode else ()
        self._active, self._trained = names, tuple(n for n in names if n not in frozen)
        self.base_model.activate(self._active, self._trained)

    def delete_adapter(self, adapter_name: str) -> None:
        """Take an adapter out; warns if that leaves none in use. Errors as `set_adapter`."""
        refuse.non_name(adapter_name)
        refuse.unknown(self.peft_config, (adapter_name,))
        refuse.merged(self.base_model.merged, "delete_adapter")
        self.base_model.delete(adapter_name)
        del self.peft_config[adapter_name]
        if self._active == (adapter_name,) and self.peft_config:
            said = f"{adapter_name!r} was the adapter in use; none is now: set_adapter one of "
            said += f"{listed(self.peft_config)}, or the base model answers"
            warnings.warn(said, MinipeftWarning, stacklevel=2)
        self._active = tuple(name for name in self._active if name != adapter_name)
        self._trained = tuple(name for name in self._trained if name != adapter_name)

    def disable_adapter(self) -> learning.Disabled:
        """`with model.disable_adapter():` the base model answers, merged or not."""
        return learning.Disabled(self.base_model)

    def merge_adapter(
        self, adapter_names: Iterable[str] | None = None, requantize: bool = False
    ) -> None:
        """Fold the active adapters (or those named) into the weights: W <- W + ΔW.

        A quantized layer makes way for a plain one, or with `requantize` for a quantized one; a
        warning then says what the rounding took. The originals are kept for `unmerge_adapter`.
        AdapterNameError, StateError: an unknown name, or why a layer refused; none was merged.
        """
        names = refuse.non_names("adapter_names", adapter_names, self._active)
        refuse.unknown(self.peft_config, names)
        self.base_model.merge(names, requantize)
        vars(self)["forward"].doubtful = True
        warn_of_rounding(self)

    def unmerge_adapter(self) -> None:
        """Put the original weights back, bit for bit; StateError if nothing is merged."""
        if not self.base_model.merged:
            raise StateError("nothing is merged; merge_adapter() comes first")
        self.base_model.unmerge()
        vars(self)["forward"].doubtful = False

    def merge_and_unload(
        self, adapter_names: Iterable[str] | None = None, requantize: bool = False
    ) -> nn.Module:
        """Fold the adapters in for good, and return the plain base model; as `merge_adapter`."""
        if adapter_names is not None or requantize or not self.base_model.merged:
            self.merge_adapter(adapter_names, requantize)
        return self._leave()

    def unload(self) -> nn.Module:
        """Take all adapters out, unmerged; returns the plain base model, as it was given."""
        self.base_model.unmerge()
        return self._leave()

    def _leave(self) -> nn.Module:
        self.peft_config, self._active, self._trained = {}, (), ()
        plain: nn.Module = self.base_model.unload()
        del self.base_model
        self.__dict__["base_model"] = self.forward = learning.Unloaded()
        return plain

    def get_nb_trainable_parameters(self) -> tuple[int, int]:
        """(trainable, all): numbers of parameters, shared ones once, packed ones as they were."""
        sizes = [(p.numel(), p.requires_grad) for p in self.base_model.parameters()]
        return sum(n for n, t in sizes if t), sum(n for n, _ in sizes) + hidden_parameters(self)

    def print_trainable_parameters(self) -> None:
        """`trainable params: 294,912 || all params: 124,734,720 || trainable%: 0.2364`."""
        n, all_ = self.get_nb_trainable_parameters()
        share = f"{100 * n / all_:.4f}"
        print(f"trainable params: {n:,d} || all params: {all_:,d} || trainable%: {share}")


def get_peft_model(
    model: nn.Module, peft_config: PeftConfig, adapter_name: str = "default"
) -> PeftModel:
    """The model with a new adapter in it, ready to train; arguments and errors as `PeftModel`."""
    return PeftModel(model, peft_config, adapter_name)
