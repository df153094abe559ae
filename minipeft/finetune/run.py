"""One fine-tune from its settings to its folder; `minipeft train` is this and a console.

output/
  run.toml                    the settings, all of them: `minipeft train --config run.toml`
  run.json, run.md, loss.png  the run's card: data, counts, times, losses, versions
  checkpoints/                adapter, optimizer, schedule, random state: to resume from
  adapter_config.json, adapter_model.safetensors   the adapter, once the run is finished
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback, PrinterCallback, TrainingArguments

from .. import get_peft_model, prepare_model_for_kbit_training, quantize_model
from ..checks.errors import ConfigError
from ..lab.zoo import load_base, load_classifier
from ..layers.families import first_position
from . import card, watch
from .checkpoints import last_checkpoint, put_back
from .data import Table, read, split
from .defaults import LONGEST, learning_rate, method_config, steps_of
from .encode import Collator, Encoded, encode
from .measure import RunTrainer
from .settings import Settings, made, read_toml, to_toml
from .signals import StopOnSignal


@dataclass(frozen=True)
class Outcome:
    """What `run` returns.

    Attributes:
        record: what run.json holds.
        stopped: "SIGTERM" or "SIGINT" if a signal ended the run before its last step, else None.
    """

    record: dict[str, Any]
    stopped: str | None


def run(given: Mapping[str, Any], *, resume: bool = False, quiet: bool = False) -> Outcome:
    """Fine-tune, and leave the adapter and the run's card in the output folder.

    Started by torchrun or accelerate in several processes, they share each batch, and the first
    one writes. Dropout draws other numbers then; without it the losses are those of one process.

    Args:
        given: settings by name (see `Settings`); what is missing has its default.
        resume: go on from the last whole checkpoint in the output folder; the settings are those
            of its run.toml, and one that is given must be the same.
        quiet: print nothing.

    Raises:
        MinipeftError: a setting, the data or the base cannot be used, and nothing was written; or
            later, the folder cannot be written, or the loss is no number: the checkpoints stay.
    """
    rank, world = (int(os.environ.get(*name)) for name in (("RANK", "0"), ("WORLD_SIZE", "1")))
    settings = resumed(given) if resume else made(given)
    folder = card.folder_for(settings.output, resume)
    screen = watch.console(rank, quiet)
    if settings.batch_size % (settings.accumulate * world):
        raise ConfigError(
            f"batch_size={settings.batch_size} rows cannot be shared out over {world} processes "
            f"in {settings.accumulate} parts; take a multiple of {world * settings.accumulate}"
        )
    train, held = tables(settings)
    model, tokenizer = adapted(settings, train)
    settings = with_lengths(settings, model, train.kind)
    rows = encoded(settings, train, tokenizer)
    held_rows = encoded(settings, held, tokenizer) if held else None
    settings = with_steps(settings, len(rows.rows))
    parts = [part for part in (train, held, rows, held_rows) if part]
    said = list(dict.fromkeys(sentence for part in parts for sentence in part.said))
    record = card.begin(settings, train, rows, held_rows, model, said, world)
    if resume:
        card.same_data(folder, record)
    seen, stop = watch.Watch(screen), StopOnSignal()
    trainer = trainer_for(settings, model, tokenizer, (rows, held_rows), train.kind, world)
    trainer.accelerator.wait_for_everyone()  # each has looked at the folder: now it is written to
    if rank == 0:
        put_back(folder / "checkpoints")
        card.write(folder, "run.toml", to_toml(settings, "minipeft train --config run.toml"))
        card.write_record(folder, record)
    card.announce(screen, record)
    try:
        if held_rows:
            with model.disable_adapter():
                record["held_out"]["base"] = card.figures(trainer.evaluate())
        trainer.accelerator.wait_for_everyone()
        for callback in (watch.LastLook(), seen, stop):
            trainer.add_callback(callback)
        start = last_checkpoint(folder / "checkpoints") if resume else None
        trainer.train(resume_from_checkpoint=str(start) if start else None)
    finally:
        seen.close()
        stop.close()
    stopped = stop.stopped if trainer.state.global_step < trainer.state.max_steps else None
    card.finish(record, trainer, seen, stopped)
    if rank == 0:
        if stopped is None:
            card.save_adapter(model, folder)
        card.write_all(folder, record, trainer.state.log_history)
    card.summary(screen, record, folder)
    trainer.accelerator.wait_for_everyone()
    return Outcome(record, stopped)


def resumed(given: Mapping[str, Any]) -> Settings:
    """The settings of the run in the output folder; a given one must not differ."""
    output = given.get("output")
    if not output:
        raise ConfigError("--resume needs --output DIR, the folder of the run to go on with")
    file = Path(output) / "run.toml"
    if not file.is_file():
        raise ConfigError(f"{output} holds no run to resume: there is no {file.name} in it")
    kept = made({**read_toml(file), "output": output})
    for name, value in asdict(made({**asdict(kept), **given})).items():
        if value != getattr(kept, name):
            raise ConfigError(
                f"a resumed run keeps its settings: {name} is {getattr(kept, name)!r} in {file}, "
                f"got {value!r}; leave it out, or start anew in another folder"
            )
    return kept


def tables(settings: Settings) -> tuple[Table, Table | None]:
    """The rows to train on and those held out, if any."""
    options: dict[str, Any] = {"columns": settings.column or None, "split": settings.split}
    train = read(settings.data, kind=settings.kind, **options)
    try:
        share = float(settings.validation)
    except ValueError:  # a file's or a dataset's name
        options |= {"kind": train.kind, "labels": train.labels or None}
        return train, read(settings.validation, **options)
    if share == 0:
        return train, None
    return split(train, int(share) if share >= 1 and share.is_integer() else share, settings.seed)


def adapted(settings: Settings, train: Table) -> tuple[Any, Any]:
    """The base model with a new adapter in it, and the tokenizer."""
    classes = train.kind == "class"
    config = method_config(
        settings.method, classes=classes, r=settings.r, alpha=settings.alpha,
        target=settings.target, option=settings.option,
    )  # fmt: skip
    if classes:
        model, tokenizer = load_classifier(settings.base, train.labels, seed=settings.seed)
    else:
        model, tokenizer = load_base(settings.base)
    if settings.quantize:
        quantize_model(model)
        model = prepare_model_for_kbit_training(
            model,
            use_gradient_checkpointing=False,  # the Trainer turns it on
        )
    torch.manual_seed(settings.seed)
    return get_peft_model(model, config), tokenizer


def with_lengths(settings: Settings, model: Any, kind: str) -> Settings:
    """The settings with max_length, packing and lr decided, from the model."""
    config = model.config.get_text_config()
    v = getattr(model.active_peft_config, "num_virtual_tokens", None) or 0
    context = getattr(config, "max_position_embeddings", None)
    room = None if context is None else context - first_position(model.get_base_model()) - v
    longest = settings.max_length or min(LONGEST, room or LONGEST)
    if room is not None and longest > room:
        raise ConfigError(
            f"max_length={longest} is more than the base reads: {context} positions"
            + (f", of which {v} are virtual tokens" if v else "")
            + f"; take at most {room}"
        )
    packing = kind == "text" if settings.packing is None else settings.packing
    lr = settings.lr or learning_rate(settings.method, config.hidden_size)
    return replace(settings, max_length=longest, packing=packing, lr=lr)


def with_steps(settings: Settings, rows: int) -> Settings:
    """The settings with steps and every decided, from the number of rows (or packed blocks)."""
    steps = settings.steps or steps_of(settings.epochs, rows, settings.batch_size)
    return replace(settings, steps=steps, every=settings.every or max(1, steps // 10))


def best_by(kind: str) -> str:
    """What the best checkpoint is best in, on the held-out rows.

    Of classes the share that is right: their loss rises again, with surer mistakes, while more
    and more are right.
    """
    return "accuracy" if kind == "class" else "loss"


def encoded(settings: Settings, table: Table, tokenizer: Any) -> Encoded:
    """The rows as tokens."""
    longest, packing = settings.max_length or LONGEST, bool(settings.packing)
    return encode(table, tokenizer, max_length=longest, packing=packing)


def trainer_for(
    settings: Settings,
    model: Any,
    tokenizer: Any,
    rows: tuple[Encoded, Encoded | None],
    kind: str,
    world: int,
) -> RunTrainer:
    """The Trainer of a run."""
    assert settings.steps is not None and settings.every is not None  # noqa: PT018
    assert settings.lr is not None
    held = rows[1]
    if settings.patience and held is None:
        raise ConfigError("--patience looks at held-out rows, but --validation is 0")
    cpu = settings.device == "cpu" or not torch.cuda.is_available()
    each = settings.batch_size // (settings.accumulate * world)
    arguments = TrainingArguments(
        output_dir=str(Path(settings.output) / "checkpoints"),
        max_steps=settings.steps, per_device_train_batch_size=each,
        gradient_accumulation_steps=settings.accumulate, per_device_eval_batch_size=each,
        learning_rate=settings.lr, lr_scheduler_type="linear",
        warmup_steps=round(settings.warmup * settings.steps), weight_decay=settings.weight_decay,
        max_grad_norm=settings.clip, optim="adamw_torch",
        bf16=settings.bf16, use_cpu=cpu, ddp_backend="gloo" if cpu and world > 1 else None,
        dataloader_pin_memory=not cpu, activation_checkpointing=settings.checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        restore_callback_states_from_checkpoint=True,  # how long the best loss has stood
        seed=settings.seed, data_seed=settings.seed,
        save_strategy="steps", save_steps=settings.every, save_total_limit=settings.keep,
        eval_strategy="steps" if held else "no", eval_steps=settings.every,
        load_best_model_at_end=held is not None, metric_for_best_model=best_by(kind),
        greater_is_better=best_by(kind) == "accuracy",
        logging_steps=1, logging_nan_inf_filter=False, include_num_input_tokens_seen="non_padding",
        remove_unused_columns=False, report_to="none", disable_tqdm=True,
    )  # fmt: skip
    trainer = RunTrainer(
        samples=settings.steps * settings.batch_size, model=model, args=arguments,
        train_dataset=rows[0].rows, eval_dataset=held.rows if held else None,
        data_collator=Collator(tokenizer, kind),
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    if settings.patience:
        trainer.add_callback(EarlyStoppingCallback(settings.patience))
    return trainer
