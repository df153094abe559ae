"""Several adapters at once: each for its own rows of a batch, or added up into a new one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from . import refuse
from .config import PeftConfig
from .core import Wrapper
from .errors import AdapterNameError, ConfigTypeError, StateError
from .methods import weighted
from .names import matches, named_layers
from .plans import plan
from .prompts import PromptSlot
from .refuse import slots
from .rows import BASE, Rows, batch_size
from .tuner import LayerModel
from .virtual import checkpoints


class Several:
    """The verbs of a `PeftModel` that concern several adapters at once."""

    base_model: LayerModel
    peft_config: dict[str, PeftConfig]
    _add: Any

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
        if not isinstance(adapter_names, (list, tuple)):
            raise ConfigTypeError(
                f"adapter_names must be a list with a name for each row of the batch ({BASE!r} for "
                f"no adapter), got {adapter_names!r}"
            )
        if not adapter_names or len(adapter_names) != (batch or len(adapter_names)):
            many = "one name for each row" if batch is None else f"{batch} names, one for each row"
            raise AdapterNameError(f"adapter_names needs {many}, got {len(adapter_names)}")
        refuse.unknown([*self.peft_config, BASE], adapter_names)
        refuse.merged(self.base_model.merged, "adapter_names")
        here = self.base_model.slots().values()
        if any(isinstance(slot, PromptSlot) for slot in here):
            raise StateError(
                "virtual tokens stand before all rows or none, so adapter_names cannot choose "
                "them; set_adapter(name), and run the rows of each adapter as a batch of their own"
            )
        model = self.base_model.model
        if model.training and torch.is_grad_enabled() and checkpoints(model):
            raise StateError(
                "gradient checkpointing runs the layers again in the backward pass, where nothing "
                "says which adapter is for which row; model.gradient_checkpointing_disable()"
            )
        before = [slot.rows for slot in here]
        try:
            for slot in here:
                slot.rows = Rows(adapter_names) if slot.enabled else None
            yield
        finally:
            for slot, rows in zip(here, before, strict=True):
                slot.rows = rows

    def generate(self, *args: Any, adapter_names: Sequence[str] | None = None, **kw: Any) -> Any:
        """The base model's `generate`; `adapter_names`: an adapter for each prompt."""
        model: Any = self.base_model.model
        rows = (
            nullcontext()
            if adapter_names is None
            else self.by_row(adapter_names, batch_size(args, kw))
        )
        with rows:
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
            combination_type: see methods/weighted.py.
            svd_rank: the new rank with "svd"; None: the largest of the adapters'.

        Raises:
            AdapterNameError, ConfigTypeError, ConfigError, StateError: what is wrong, and the fix.
        """
        one = isinstance(adapters, str) or not isinstance(adapters, Iterable)
        names: list[Any] = [adapters] if one else list(adapters)  # one may come twice
        refuse.non_names("adapters", names)
        refuse.unknown(self.peft_config, names)
        refuse.taken(self.peft_config, adapter_name)
        refuse.merged(self.base_model.merged, "add_weighted_adapter")
        pairs = weighted.check(self.peft_config, names, weights, combination_type, svd_rank)
        base = self.base_model.model
        there = {path: slot.adapters for path, slot in slots(base) if isinstance(slot, Wrapper)}
        there = {path: own for path, own in there.items() if any(name in own for name in names)}
        rank, factors = weighted.combine(there, pairs, combination_type, svd_rank)
        first: Any = self.peft_config[names[0]]
        config = weighted.config_of(first, rank, list(there))
        if any(matches(list(there), name) for name, _ in named_layers(base) if name not in there):
            config.target_modules = "|".join(map(re.escape, there))  # names in full, no endings
        planned = plan(base, config, adapter_name)
        with torch.no_grad():
            for path, (a, b) in factors.items():
                method: Any = planned.methods[path]
                method.lora_A.copy_(a.view(method.lora_A.shape))
                method.lora_B.copy_(b.view(method.lora_B.shape))
        self._add(planned)
