"""PeftModel: a base model, its adapters by name, and the verbs, named as in Hugging Face peft.

Each verb is a guard, which refuses before anything is changed (`checks/refuse.py`), and a deed.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .checks import doubts, refuse
from .checks.errors import StateError
from .layers.quant.packed import hidden_parameters
from .methods.config import PeftConfig, matches
from .methods.lora_options import weighted
from .methods.virtual_tokens import checkpoints
from .saving import checkpoint, hub
from .saving.keys import unshare
from .tuner.attach import Disabled, LayerModel
from .tuner.plan import Plan, plan
from .tuner.rows import batch_size, by_row
from .tuner.slots import Wrapper, named_layers, slots


@dataclass
class Forward:
    """A `PeftModel`'s forward, with its base model's signature, which transformers' Trainer reads.

    Args:
        owner: the `PeftModel`; model: the model inside it.
    """

    owner: PeftModel
    model: nn.Module

    def __call__(self, *args: Any, adapter_names: Any = None, **kwargs: Any) -> Any:
        """The model's answer, its hooks included; `adapter_names`: an adapter for each row."""
        owner, model = self.owner, self.model
        if adapter_names is None:
            out = model(*args, **kwargs)
        else:
            with owner.by_row(adapter_names, batch_size(args, kwargs)):
                out = model(*args, **kwargs)
        if model.training and torch.is_grad_enabled():
            parts: Any = out.values() if isinstance(out, Mapping) else out
            parts = parts if isinstance(out, (Mapping, tuple, list)) else [out]
            taught = any(getattr(part, "requires_grad", False) for part in parts)
            if owner.is_merged or not taught:
                owner.last_doubt = doubts.teaches_nothing(owner, owner.last_doubt)
        return out

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.model.forward)


class PeftModel(nn.Module):
    """A frozen model with one or more adapters in it.

    Args:
        model: any `nn.Module`, on any device (on "meta", to count); it is frozen and gets its
            adapters in place. A call that is refused leaves it as it was.
        peft_config, adapter_name: what to add, such as `LoraConfig(...)`, and its name.

    Attributes:
        base_model: the `LayerModel` around the model; peft_config: the configs, by adapter name.
        is_merged: whether an adapter is in the weights at the moment.
        last_doubt: why the last training forward taught nothing, if it did not.
    """

    def __init__(self, model: nn.Module, peft_config: PeftConfig, adapter_name: str = "default"):
        super().__init__()
        refuse.adapted(model, slots)
        self._start(model, plan(model, peft_config, adapter_name))

    def _start(self, model: nn.Module, first: Plan) -> None:
        refuse.attachment(first, {})
        self.base_model = LayerModel(model)
        self.peft_config: dict[str, PeftConfig] = {}
        self._active: tuple[str, ...] = ()
        self._trained: tuple[str, ...] = ()
        self.is_merged, self.last_doubt = False, ""
        self.register_state_dict_post_hook(unshare)  # type: ignore[no-untyped-call]
        self.forward = Forward(self, model)
        self.base_model.attach(first)
        self.peft_config[first.name] = first.config
        self._use((first.name,), None)

    def _add(self, planned: Plan) -> None:
        refuse.attachment(planned, self.base_model.slots(), self.base_model.reshapes)
        self.base_model.attach(planned)
        self.peft_config[planned.name] = planned.config
        self.base_model.activate(self._active, self._trained)

    def _use(self, names: tuple[str, ...], inference_mode: bool | None) -> None:
        frozen = names if inference_mode else ()
        if inference_mode is None:
            frozen = tuple(n for n in names if self.peft_config[n].inference_mode)
        self._active, self._trained = names, tuple(n for n in names if n not in frozen)
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

    # --- which adapters --------------------------------------------------------------------------

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
        config: PeftConfig = self.peft_config[self.active_adapter]
        return config

    def add_adapter(self, adapter_name: str, peft_config: PeftConfig) -> None:
        """Add an adapter beside the others; `set_adapter` puts it to use."""
        refuse.another(self.peft_config, self.base_model.merged, "add_adapter", adapter_name)
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
        layers = self.base_model
        names = refuse.switch(self.peft_config, layers, adapter_name, inference_mode)
        self._use(names, inference_mode)

    def delete_adapter(self, adapter_name: str) -> None:
        """Take an adapter out; warns if that leaves none in use. Errors as `set_adapter`."""
        refuse.deletion(self.peft_config, self.base_model, adapter_name)
        self.base_model.delete(adapter_name)
        del self.peft_config[adapter_name]
        if self._active == (adapter_name,) and self.peft_config:
            doubts.none_active(adapter_name, self.peft_config)
        self._active = tuple(name for name in self._active if name != adapter_name)
        self._trained = tuple(name for name in self._trained if name != adapter_name)

    def disable_adapter(self) -> Disabled:
        """`with model.disable_adapter():` the base model answers, merged or not."""
        return Disabled(self.base_model)

    # --- several at once -------------------------------------------------------------------------

    @contextmanager
    def by_row(self, adapter_names: Sequence[str], batch: int | None = None) -> Iterator[None]:
        """`with model.by_row(["a", "b"]):` row 0 of a batch gets adapter "a", row 1 "b".

        So does `model(..., adapter_names=["a", "b"])`; "__base__" stands for no adapter.

        Args:
            adapter_names: a name for each row.
            batch: how many rows there will be, where that is known.

        Raises:
            ConfigTypeError: no list. AdapterNameError: an unknown name, or too few or many.
            StateError: an adapter is merged or has virtual tokens, or layers will run twice.
        """
        model, here = self.base_model.model, self.base_model.slots()
        again = model.training and torch.is_grad_enabled() and checkpoints(model)
        refuse.rows(self.peft_config, here, adapter_names, batch, again)
        with by_row(here.values(), adapter_names):
            yield

    def generate(self, *args: Any, adapter_names: Sequence[str] | None = None, **kw: Any) -> Any:
        """The base model's `generate`; `adapter_names`: an adapter for each prompt."""
        model: Any = self.base_model.model
        if adapter_names is None:
            return model.generate(*args, **kw)
        with self.by_row(adapter_names, batch_size(args, kw)):
            return model.generate(*args, **kw)

    def add_weighted_adapter(
        self,
        adapters: Iterable[str],
        weights: Sequence[float],
        adapter_name: str,
        combination_type: str = "svd",
        svd_rank: int | None = None,
    ) -> None:
        """Add the LoRA whose ΔW is Σ wᵢ ΔWᵢ: exactly ("cat"), or nearly ("svd", "linear").

        Args:
            adapters, weights: the LoRAs and their w, of any sign.
            adapter_name: the new one's name; `set_adapter` puts it to use.
            combination_type: see methods/lora_options/weighted.py.
            svd_rank: the new rank with "svd"; None: the largest of the adapters'.

        Raises:
            AdapterNameError, ConfigTypeError, ConfigError, StateError: what is wrong, and the fix.
        """
        one = isinstance(adapters, str) or not isinstance(adapters, Iterable)
        names: list[Any] = [adapters] if one else list(adapters)  # one may come twice
        refuse.names("adapters", names, self.peft_config)
        merged = self.base_model.merged
        refuse.another(self.peft_config, merged, "add_weighted_adapter", adapter_name)
        pairs = weighted.check(self.peft_config, names, weights, combination_type, svd_rank)
        base = self.base_model.model
        here = {p: s.adapters for p, s in self.base_model.slots().items() if isinstance(s, Wrapper)}
        there = {path: own for path, own in here.items() if any(name in own for name in names)}
        rank, factors = weighted.combine(there, pairs, combination_type, svd_rank)
        first: Any = self.peft_config[names[0]]
        config = weighted.config_of(first, rank, list(there))
        if any(matches(list(there), name) for name, _ in named_layers(base) if name not in there):
            config.target_modules = "|".join(map(re.escape, there))  # names in full, no endings
        planned = plan(base, config, adapter_name)
        weighted.fill(planned.methods, factors)
        self._add(planned)

    # --- merging ---------------------------------------------------------------------------------

    def merge_adapter(
        self, adapter_names: Iterable[str] | None = None, requantize: bool = False
    ) -> None:
        """Fold the active adapters (or those named) into the weights: W <- W + ΔW.

        A quantized layer makes way for a plain one, or with `requantize` for a quantized one; a
        warning then says what the rounding took. The originals are kept for `unmerge_adapter`.
        AdapterNameError, StateError: an unknown name, or why a layer refused; none was merged.
        """
        names = refuse.names("adapter_names", adapter_names, self.peft_config, self._active)
        self.base_model.merge(names, requantize)
        self.is_merged = True
        doubts.merged(*self.base_model.losses())

    def unmerge_adapter(self) -> None:
        """Put the original weights back, bit for bit; StateError if nothing is merged."""
        if not self.base_model.merged:
            raise StateError("nothing is merged; merge_adapter() comes first")
        self.base_model.unmerge()
        self.is_merged = False

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
        self.base_model = self.forward = Unloaded()  # type: ignore[assignment]
        return plain

    # --- folders and the hub ---------------------------------------------------------------------

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        selected_adapters: Iterable[str] | None = None,
        save_encoder: bool = False,
    ) -> None:
        """Write the adapters, all or those named, as peft does: but "default" into subfolders.

        `save_encoder` adds the network of a P-tuning or a projected prefix, to train it on.
        """
        configs = self.peft_config
        if selected_adapters is not None:
            names = refuse.names("selected_adapters", selected_adapters, self.peft_config)
            configs = {name: self.peft_config[name] for name in names}
        checkpoint.save_all(self.get_base_model(), configs, save_directory, save_encoder)

    @classmethod
    def from_pretrained(
        cls,
        model: nn.Module,
        model_id: str | os.PathLike[str],
        adapter_name: str = "default",
        is_trainable: bool = False,
        *,
        revision: str | None = None,
        subfolder: str | None = None,
        token: str | bool | None = None,
    ) -> Any:
        """The base model with an adapter in it.

        Args:
            model: the base model that the adapter was made for.
            model_id: the folder, or the name of a repository on the Hugging Face hub.
            adapter_name: what to call it.
            is_trainable: True to go on training; otherwise it is frozen, in eval mode.
            revision: of the repository: a branch, tag or commit; token: of your account.
            subfolder: where in the folder or the repository the adapter is.

        Raises:
            CheckpointNotFoundError, CheckpointError: the model was not changed.
        """
        refuse.adapted(model, slots)
        where = {"revision": revision, "subfolder": subfolder, "token": token}
        planned = checkpoint.load(model, model_id, adapter_name, is_trainable, **where)
        self: Any = cls.__new__(cls)
        nn.Module.__init__(self)
        self._start(model, planned)
        return self if is_trainable else self.eval()

    def load_adapter(
        self,
        model_id: str | os.PathLike[str],
        adapter_name: str,
        is_trainable: bool = False,
        *,
        revision: str | None = None,
        subfolder: str | None = None,
        token: str | bool | None = None,
    ) -> None:
        """Load one more adapter, with `from_pretrained`'s errors; `set_adapter` puts it to use."""
        refuse.another(self.peft_config, self.base_model.merged, "load_adapter", adapter_name)
        where = {"revision": revision, "subfolder": subfolder, "token": token}
        base = self.get_base_model()
        self._add(checkpoint.load(base, model_id, adapter_name, is_trainable, **where))

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        revision: str | None = None,
        commit_message: str = "Upload adapter",
        create_pr: bool = False,
    ) -> str:
        """Upload the adapters and a model card.

        Args:
            repo_id: "you/name"; made if it is not there.
            private: whether a new repository is private; None: as your account says.
            token: of your account; None: the one that `hf auth login` keeps.
            revision: the branch; create_pr: propose the commit instead of making it.
            commit_message: of the commit.

        Returns:
            the address of the commit.

        Raises:
            HubError: no network, no right, a name that is none; nothing was uploaded.
        """
        return hub.push(
            self,
            repo_id,
            private=private,
            token=token,
            revision=revision,
            commit_message=commit_message,
            create_pr=create_pr,
        )

    # --- counting --------------------------------------------------------------------------------

    def get_nb_trainable_parameters(self) -> tuple[int, int]:
        """(trainable, all): numbers of parameters, shared ones once, packed ones as they were."""
        sizes = [(p.numel(), p.requires_grad) for p in self.base_model.parameters()]
        return sum(n for n, t in sizes if t), sum(n for n, _ in sizes) + hidden_parameters(self)

    def print_trainable_parameters(self) -> None:
        """`trainable params: 294,912 || all params: 124,734,720 || trainable%: 0.2364`."""
        n, all_ = self.get_nb_trainable_parameters()
        share = f"{100 * n / all_:.4f}"
        print(f"trainable params: {n:,d} || all params: {all_:,d} || trainable%: {share}")


class Unloaded:
    """What a `PeftModel` has instead of its model once that has been given back."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # copy and pickle ask
        self()

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Refuse.

        Raises:
            StateError: always.
        """
        raise StateError(
            "this PeftModel was unloaded: its model has no adapters any more. Use the model that "
            "unload() or merge_and_unload() returned; get_peft_model(model, config) adapts it anew"
        )


def get_peft_model(
    model: nn.Module, peft_config: PeftConfig, adapter_name: str = "default"
) -> PeftModel:
    """The model with a new adapter in it, ready to train; arguments and errors as `PeftModel`."""
    return PeftModel(model, peft_config, adapter_name)
