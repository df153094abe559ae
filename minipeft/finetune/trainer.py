"""minipeft in transformers' Trainer: checkpoints that hold the adapter, whole or not at all.

    class MyTrainer(AdapterCheckpoints, Trainer): ...        # any Trainer, trl's SFTTrainer too

Trainer knows how to save its own models and Hugging Face peft's; of anything else it writes the
whole state dict, the frozen base included. This class says how an adapter is written and read;
the optimizer, the schedule and the random state stay Trainer's.

    output_dir/checkpoint-40/            adapter_config.json, adapter_model.safetensors,
                                         optimizer.pt, scheduler.pt, rng_state.pth,
                                         trainer_state.json
    output_dir/.writing/checkpoint-50/   on its way: renamed when it is whole
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from transformers import EarlyStoppingCallback, Trainer, TrainerState
from transformers.trainer_utils import TrainOutput
from transformers.utils.generic import find_labels

from ..checks.errors import CheckpointError, CheckpointNotFoundError
from ..model import PeftModel
from ..saving import digests as proof
from ..saving.checkpoint import save
from ..saving.files import ENCODER, WEIGHTS
from ..saving.keys import PROMPT, fill, parts_in, set_peft_model_state_dict
from ..saving.prompt_network import encoder_of
from .checkpoints import STAGE, STATE, last_checkpoint, publish, put_back, rotate

# The mixin stands before a Trainer in the list of bases; to mypy it is one.
_Base: Any = Trainer if TYPE_CHECKING else object


def folders(model: PeftModel, place: Path) -> dict[str, Path]:
    """Where each adapter is in a checkpoint: "default" in it, others in subfolders."""
    return {name: place if name == "default" else place / name for name in model.peft_config}


def save_adapters(model: PeftModel, place: Path) -> None:
    """Write all adapters, each with the network that computes its virtual tokens."""
    for name, folder in folders(model, place).items():
        encoder = encoder_of(model, name)
        save(model, model.peft_config[name], name, folder, save_encoder=encoder is not None)


def read(weights: Path) -> dict[str, Any]:
    """A weights file's tensors; CheckpointError for one that is not what was saved."""
    with safe_open(weights, framework="pt") as file:
        told = proof.read(file.metadata() or {}, weights)
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    for key, tensor in tensors.items():
        proof.check(key, tensor, told, weights)
    return tensors


def load_adapters(model: PeftModel, place: Path) -> None:
    """Copy a checkpoint's numbers into the adapters that are in the model.

    Raises:
        CheckpointNotFoundError, CheckpointError: an adapter is not there, or does not fit.
    """
    for name, folder in folders(model, place).items():
        if not (folder / WEIGHTS).is_file():
            raise CheckpointNotFoundError(f"{folder} has no {WEIGHTS} for adapter {name!r}")
        try:
            tensors = read(folder / WEIGHTS)
            encoder = encoder_of(model, name)
            if encoder is None:
                set_peft_model_state_dict(model, tensors, name)
                continue
            encoder.load_state_dict(load_file(folder / ENCODER))
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{folder} is damaged ({error}); resume from another") from error
        others = [part for part in parts_in(model, name) if part[1] is not encoder]
        fill(others, {key: tensor for key, tensor in tensors.items() if key != PROMPT})


class AdapterCheckpoints(_Base):  # type: ignore[misc]
    """A Trainer of a `PeftModel`, whose checkpoints hold the adapters and no base model.

    A model of another class is saved as Trainer does. `trainer.train(resume_from_checkpoint=True)`
    goes on from the newest checkpoint; on a CPU, with the same losses to the bit.

    Raises:
        CheckpointError: a checkpoint could not be written; those before it are whole.
        CheckpointNotFoundError: there is none to resume from.
    """

    _stage: Path | None = None
    # The adapters' handle, for a Trainer that is given the base model with the adapters in it.
    peft_model: PeftModel | None = None

    def __init__(self, *args: Any, **kwargs: Any):
        try:
            super().__init__(*args, **kwargs)
        except OSError as error:  # it makes args.output_dir
            raise CheckpointError(f"there can be no folder for checkpoints: {error}") from error
        model = self._adapters()
        if model is not None and self.args.label_names is None:
            # Trainer looks for them in the class's forward, and ours is the base model's
            self.label_names = find_labels(type(model.get_base_model()))  # type: ignore[no-untyped-call]

    def _adapters(self) -> PeftModel | None:
        model = self.accelerator.unwrap_model(self.model)
        return model if isinstance(model, PeftModel) else self.peft_model

    def train(self, resume_from_checkpoint: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As Trainer's; True takes the newest whole checkpoint in `args.output_dir`."""
        place = Path(self.args.output_dir)
        if self.args.should_save:
            put_back(place)
        self.accelerator.wait_for_everyone()
        if resume_from_checkpoint is True:
            newest = last_checkpoint(place)
            if newest is None:
                raise CheckpointNotFoundError(
                    f"there is no checkpoint in {place} to resume from; start with "
                    f"resume_from_checkpoint=None"
                )
            resume_from_checkpoint = str(newest)
        if resume_from_checkpoint:
            file = Path(resume_from_checkpoint) / STATE
            if not file.is_file():
                raise CheckpointNotFoundError(f"{file.parent} is no checkpoint: it has no {STATE}")
            state = TrainerState.load_from_json(str(file))
            model = self._adapters()
            over = 0 < self.args.max_steps <= state.global_step or self._stopped_early(state)
            if model is not None and over:
                self.state = state  # finished: Trainer would go on, by a step or by a whole look
                load_adapters(model, file.parent)
                if self.args.load_best_model_at_end:
                    self._load_best_model()
                return TrainOutput(state.global_step, 0.0, {})
        # An evaluate() before train() marks the model as prepared, and accelerate 1.15 then never
        # wraps it for several processes: each would train on its own rows alone.
        self.model.__dict__.pop("_is_accelerate_prepared", None)
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _stopped_early(self, state: TrainerState) -> bool:
        """Whether the run that wrote this state had lost its patience."""
        callbacks_then: Any = state.stateful_callbacks or {}  # from a file: a dict by name
        kept = callbacks_then.get(EarlyStoppingCallback.__name__, {})
        waited = kept.get("attributes", {}).get("early_stopping_patience_counter", 0)
        callbacks = self.callback_handler.callbacks
        mine = [c for c in callbacks if isinstance(c, EarlyStoppingCallback)]
        return any(waited >= callback.early_stopping_patience for callback in mine)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        model = self._adapters()
        if model is None:
            return super()._save(output_dir, state_dict)  # type: ignore[no-any-return]
        if self.args.should_save:
            place = Path(output_dir or self.args.output_dir)
            save_adapters(model, place)
            if self.processing_class is not None and self._stage is None:
                self.processing_class.save_pretrained(place)
        return None

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        adapters = self._adapters()
        if adapters is None or model is not None:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            load_adapters(adapters, Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        adapters, best = self._adapters(), self.state.best_model_checkpoint
        if adapters is None or not best:
            super()._load_best_model()
        else:
            load_adapters(adapters, Path(best))

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._stage or super()._get_output_dir(trial))

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self._stage is None:  # else it is about to be renamed
            super()._push_from_checkpoint(checkpoint_folder)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        place = Path(self._get_output_dir(trial))
        final = place / f"checkpoint-{self.state.global_step}"
        writer = self.args.should_save
        with self._writing(place):
            if writer:
                shutil.rmtree(place / STAGE, ignore_errors=True)  # left by a kill
                (place / STAGE).mkdir(parents=True)
            self.accelerator.wait_for_everyone()
            self._stage = place / STAGE
            super()._save_checkpoint(model, trial)  # every process writes its random state
            self.accelerator.wait_for_everyone()
            if self.state.best_global_step == self.state.global_step:
                self.state.best_model_checkpoint = str(final)
            if writer:
                self.state.save_to_json(str(self._stage / final.name / STATE))
                publish(self._stage / final.name, final)
        if writer:
            best = self.state.best_model_checkpoint
            rotate(place, self.args.save_total_limit, best and Path(best))
        self.accelerator.wait_for_everyone()
        if self.args.push_to_hub:
            super()._push_from_checkpoint(str(final))

    @contextmanager
    def _writing(self, place: Path) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError, SafetensorError, CheckpointError) as error:
            shutil.rmtree(place / STAGE, ignore_errors=True)
            last = last_checkpoint(place)
            raise CheckpointError(
                f"the checkpoint of step {self.state.global_step} cannot be written to {place}: "
                f"{error}; make room or check the folder's rights, then resume from "
                f"{last.name if last else 'the start: there is no earlier one'}"
            ) from error
        finally:
            self._stage = None


class AdapterTrainer(AdapterCheckpoints, Trainer):
    """transformers' Trainer with `AdapterCheckpoints`."""
