"""`AdapterTrainer`: checkpoints hold adapters alone, are whole, and resume to the bit."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny
from safetensors.torch import load_file
from torch import nn
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainingArguments

import minipeft
from minipeft import (
    AdapterConfig,
    BitFitConfig,
    IA3Config,
    LoraConfig,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    PTuningV2Config,
    get_peft_model,
    quantize_model,
)
from minipeft.checks.errors import CheckpointError, CheckpointNotFoundError
from minipeft.finetune import checkpoints
from minipeft.finetune import trainer as room
from minipeft.finetune.checkpoints import last_checkpoint
from minipeft.finetune.trainer import AdapterTrainer

TOKENS: dict[str, Any] = {"num_virtual_tokens": 3, "task_type": "CAUSAL_LM"}
CONFIGS: dict[str, Any] = {
    "lora": LoraConfig(r=2, lora_dropout=0.3),
    "dora": LoraConfig(r=2, use_dora=True),
    "adapter": AdapterConfig(adapter_dim=4),
    "ia3": IA3Config(),
    "bitfit": BitFitConfig(),
    "prefix": PrefixTuningConfig(**TOKENS, prefix_projection=True),
    "p_tuning_v2": PTuningV2Config(**TOKENS),
    "p_tuning": PromptEncoderConfig(**TOKENS, encoder_dropout=0.0),
    "prompt": PromptTuningConfig(**TOKENS),
}


def rows(count: int = 20) -> list[dict[str, list[int]]]:
    generator = torch.Generator().manual_seed(0)
    made = torch.randint(3, 40, (count, 6), generator=generator).tolist()
    return [{"input_ids": ids, "labels": ids} for ids in made]


def collate(batch: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    return {key: torch.tensor([row[key] for row in batch]) for key in batch[0]}


def model_of(config: Any, seed: int = 0, quantized: bool = False, family: str = "gpt2") -> Any:
    base = tiny(family)
    if quantized:
        quantize_model(base)
    torch.manual_seed(seed)
    return get_peft_model(base, config)


def trainer_of(model: Any, folder: Path, cls: Any = AdapterTrainer, **options: Any) -> Any:
    given: dict[str, Any] = {
        "output_dir": str(folder), "max_steps": 8, "per_device_train_batch_size": 4,
        "learning_rate": 1e-2, "weight_decay": 0.1, "save_steps": 3, "logging_steps": 1,
        "report_to": "none", "disable_tqdm": True, "use_cpu": True, "dataloader_pin_memory": False,
        "seed": 1, **options,
    }  # fmt: skip
    made = cls(
        model=model, args=TrainingArguments(**given), train_dataset=rows(),
        eval_dataset=rows(6), data_collator=collate,
    )  # fmt: skip
    made.remove_callback(PrinterCallback)
    return made


def losses(trainer: Any) -> list[float]:
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def trained(model: nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_a_resumed_run_is_the_whole_run_to_the_bit(name: str, tmp_path: Path):
    whole = trainer_of(model_of(CONFIGS[name]), tmp_path / "a")
    whole.train()
    again = trainer_of(model_of(CONFIGS[name], seed=5), tmp_path / "b")
    again.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-3"))
    assert losses(again) == losses(whole)
    mine, theirs = trained(again.model), trained(whole.model)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "quantized"),
    [({"gradient_accumulation_steps": 3}, False), ({"bf16": True}, False), ({}, True)],
)
def test_so_is_one_that_accumulates_or_has_16_or_4_bits(
    options: dict[str, Any], quantized: bool, tmp_path: Path
):
    config = LoraConfig(r=2, lora_dropout=0.2)
    whole = trainer_of(model_of(config, quantized=quantized), tmp_path / "a", **options)
    whole.train()
    again = trainer_of(model_of(config, 5, quantized), tmp_path / "a", **options)
    again.train(resume_from_checkpoint=True)  # from step 8: nothing is left to do
    assert all(map(torch.equal, trained(again.model).values(), trained(whole.model).values()))
    again = trainer_of(model_of(config, 5, quantized), tmp_path / "b", **options)
    again.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-6"))
    assert losses(again) == losses(whole)


def test_the_losses_are_those_of_a_loop_by_hand(tmp_path: Path):
    config = LoraConfig(r=2)
    kept = trainer_of(model_of(config, family="llama"), tmp_path, weight_decay=0.0, warmup_steps=0)
    batches: list[Any] = []

    def remember(batch: Any) -> Any:
        batches.append(collate(batch))
        return batches[-1]

    kept.data_collator = remember
    kept.train()
    model = model_of(config, family="llama").train()
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-2, weight_decay=0.0)
    mine = []
    for step, batch in zip(range(8), batches, strict=False):
        loss = model(**batch).loss
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (8 - step) / 8
        optimizer.step()
        optimizer.zero_grad()
        mine.append(loss.item())
    # the same sums in another order: rounding of float32 over eight steps
    assert losses(kept) == pytest.approx(mine, rel=1e-4)


def test_a_checkpoint_holds_the_adapter_and_no_base(tmp_path: Path):
    trainer = trainer_of(model_of(LoraConfig(r=2)), tmp_path)
    trainer.train()
    folder = tmp_path / "checkpoint-8"
    assert sorted(p.name for p in folder.iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "optimizer.pt", "rng_state.pth",
        "scheduler.pt", "trainer_state.json",
    ]  # fmt: skip
    stored = load_file(folder / "adapter_model.safetensors")
    assert sum(t.numel() for t in stored.values()) == sum(
        p.numel() for p in trainer.model.parameters() if p.requires_grad
    )
    again = minipeft.PeftModel.from_pretrained(tiny("gpt2"), folder)
    batch = collate(rows(2))
    with torch.no_grad():
        assert torch.equal(again(**batch).logits, trainer.model.eval()(**batch).logits)


def test_several_adapters_and_heads_are_all_resumed(tmp_path: Path):
    def make(seed: int) -> Any:
        model = model_of(LoraConfig(r=2, modules_to_save=["ln_f"]), seed)
        model.add_adapter("other", IA3Config())
        return model

    whole = trainer_of(make(0), tmp_path / "a")
    whole.train()
    again = trainer_of(make(5), tmp_path / "b")
    again.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-6"))
    assert (tmp_path / "a" / "checkpoint-6" / "other" / "adapter_config.json").is_file()
    assert losses(again) == losses(whole)


def test_the_best_is_loaded_and_kept(tmp_path: Path):
    trainer = trainer_of(
        model_of(LoraConfig(r=2)), tmp_path, learning_rate=0.5, eval_strategy="steps",
        eval_steps=1, save_steps=1, save_total_limit=2, load_best_model_at_end=True,
    )  # fmt: skip
    trainer.add_callback(EarlyStoppingCallback(3))
    trainer.train()
    best = Path(trainer.state.best_model_checkpoint)
    assert best.parent == tmp_path
    looks = {r["step"]: r["eval_loss"] for r in trainer.state.log_history if "eval_loss" in r}
    assert min(looks, key=looks.__getitem__) == checkpoints.step_of(best) < max(looks)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(min(looks.values()), rel=1e-6)
    assert {p.name for p in checkpoints.checkpoints(tmp_path)} == {
        best.name,
        f"checkpoint-{trainer.state.global_step}",
    }
    # killed after the last checkpoint: nothing is left to train, and the best is loaded as well
    late = trainer_of(
        model_of(LoraConfig(r=2), 5), tmp_path, max_steps=trainer.state.global_step,
        eval_strategy="steps", eval_steps=1, save_steps=1, load_best_model_at_end=True,
    )  # fmt: skip
    late.train(resume_from_checkpoint=True)
    assert all(map(torch.equal, trained(late.model).values(), trained(trainer.model).values()))
    recorded = json.loads((best / checkpoints.STATE).read_text())["best_model_checkpoint"]
    assert recorded == str(best)


@pytest.mark.parametrize("point", range(6))
def test_a_full_disk_leaves_the_earlier_checkpoints(
    point: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trainer = trainer_of(model_of(LoraConfig(r=2)), tmp_path)
    places = [
        (room, "save_adapters"), (torch, "save"), (torch, "save"), (torch, "save"),
        (checkpoints, "sync_all"), (room, "publish"),
    ]  # fmt: skip
    owner, name = places[point]
    real, seen = getattr(owner, name), [0]

    def full(*args: Any, **kwargs: Any) -> Any:
        seen[0] += 1
        per_checkpoint = 3 if owner is torch else 1
        if seen[0] > per_checkpoint + (point - 1 if owner is torch else 0):
            raise OSError(28, "No space left on device")
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, full)
    with pytest.raises(CheckpointError, match=r"step 6 cannot be written.*No space.*checkpoint-3"):
        trainer.train()
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-3"]
    again = trainer_of(model_of(LoraConfig(r=2), 5), tmp_path)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 8


def test_a_folder_that_cannot_be_made_or_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")  # below it not even root can make a folder
    with pytest.raises(CheckpointError, match=str(tmp_path / "file" / "x")):
        trainer_of(model_of(LoraConfig(r=2)), tmp_path / "file" / "x")
    trainer = trainer_of(model_of(LoraConfig(r=2)), tmp_path / "y")
    (tmp_path / "y").rmdir()
    (tmp_path / "y").write_text("")
    with pytest.raises(CheckpointError, match=r"step 3 cannot be written.*there is no earlier one"):
        trainer.train()


def test_nothing_to_resume_from(tmp_path: Path):
    with pytest.raises(CheckpointNotFoundError, match="no checkpoint in"):
        trainer_of(model_of(LoraConfig(r=2)), tmp_path).train(resume_from_checkpoint=True)
    with pytest.raises(CheckpointNotFoundError, match="is no checkpoint"):
        trainer_of(model_of(LoraConfig(r=2)), tmp_path).train(resume_from_checkpoint=str(tmp_path))
    assert last_checkpoint(tmp_path / "nowhere") is None


def test_what_a_kill_left_is_put_back(tmp_path: Path):
    trainer_of(model_of(LoraConfig(r=2)), tmp_path).train()
    stage = tmp_path / checkpoints.STAGE
    stage.mkdir()
    os.rename(tmp_path / "checkpoint-8", stage / "old-checkpoint-8")
    (stage / "checkpoint-9").mkdir()
    (stage / "old-checkpoint-8" / "mark").write_text("")  # it is this one, not one made anew
    again = trainer_of(model_of(LoraConfig(r=2), 5), tmp_path)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 8
    assert (tmp_path / "checkpoint-8" / "mark").exists()
    assert not stage.exists()
    assert [p.name for p in checkpoints.checkpoints(tmp_path)][-1] == "checkpoint-8"


def test_another_model_is_saved_as_trainer_does(tmp_path: Path):
    trainer = trainer_of(tiny("gpt2"), tmp_path, save_steps=4)
    trainer.train()
    assert (tmp_path / "checkpoint-4" / "model.safetensors").is_file()
    again = trainer_of(tiny("gpt2"), tmp_path)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert losses(again) == losses(trainer)


def test_the_loss_of_accumulated_batches_is_the_mean_over_their_tokens(tmp_path: Path):
    bare, ours = Trainer, AdapterTrainer
    flags = [
        trainer_of(m, tmp_path, cls).model_accepts_loss_kwargs
        for m, cls in ((tiny("gpt2"), bare), (model_of(LoraConfig(r=2)), ours))
    ]
    assert flags == [True, True]
    one = trainer_of(
        model_of(LoraConfig(r=2), family="llama"), tmp_path / "a", per_device_train_batch_size=8
    )
    one.train()  # before the other is made: making a Trainer seeds the order of the rows
    parts = trainer_of(
        model_of(LoraConfig(r=2), family="llama"), tmp_path / "b", per_device_train_batch_size=2,
        gradient_accumulation_steps=4,
    )  # fmt: skip
    parts.train()
    assert losses(parts)[:2] == pytest.approx(
        losses(one)[:2], rel=1e-4
    )  # later epochs' ends differ


def test_checkpointing_of_activations_gives_the_same_losses(tmp_path: Path):
    plain = trainer_of(model_of(LoraConfig(r=2), family="llama"), tmp_path / "a")
    plain.train()
    model = model_of(LoraConfig(r=2), family="llama")
    again = trainer_of(model, tmp_path / "b", activation_checkpointing=True)
    again.train()
    assert losses(again) == pytest.approx(losses(plain), rel=1e-5)
