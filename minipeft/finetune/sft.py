"""trl's SFTTrainer with checkpoints that hold the adapter; apart from the rest: trl is optional."""

from __future__ import annotations

from typing import Any

from trl import SFTTrainer  # type: ignore[attr-defined]

from ..checks.errors import TargetError
from ..model import PeftModel
from ..tuner.slots import Slot
from .trainer import AdapterCheckpoints


class AdapterSFTTrainer(AdapterCheckpoints, SFTTrainer):
    """`SFTTrainer(model, args, train_dataset=..., ...)` of a `PeftModel`.

    trl 1.16 takes the logits apart: it calls the model's layers, and multiplies by the head itself.
    So it is given the base model, in which the adapters are; `trainer.peft_model` is the handle to
    save and merge with.

    Raises:
        TargetError: an adapter stands beside the head, which trl does not call.
    """

    def __init__(self, model: PeftModel, *args: Any, **kwargs: Any):
        base: Any = model.get_base_model()
        if isinstance(base.get_output_embeddings(), Slot):
            raise TargetError(
                "an adapter stands beside the model's head, and trl's SFTTrainer multiplies by the "
                "head's weight without calling it, so it would never be trained; leave the head "
                "out of target_modules and modules_to_save, or take AdapterTrainer"
            )
        self.peft_model = model
        super().__init__(base, *args, **kwargs)
