"""trl's SFTTrainer as it is, with a `PeftModel` of ours: training, evaluation, resuming."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from minipeft import LoraConfig, MinipeftError, PeftModel, get_peft_model
from minipeft.lab.tasks import load_task
from minipeft.lab.zoo import load_base

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # trl's own imports
    trl = pytest.importorskip("trl")
    from trl import SFTConfig

    from minipeft.finetune.sft import AdapterSFTTrainer


def trainer_of(folder: Path, seed: int) -> Any:
    base, tokenizer = load_base("tiny-gpt2")
    torch.manual_seed(seed)
    model = get_peft_model(base, LoraConfig(r=4, lora_dropout=0.1, target_modules="all-linear"))
    data = load_task("mood", train=40, validation=10, test=1)
    arguments = SFTConfig(
        str(folder), max_steps=8, save_steps=4, learning_rate=3e-3, logging_steps=1,
        per_device_train_batch_size=8, report_to="none", use_cpu=True, disable_tqdm=True,
        dataloader_pin_memory=False, max_length=64, bf16=False, gradient_checkpointing=False,
    )  # fmt: skip
    return AdapterSFTTrainer(
        model=model, args=arguments, processing_class=tokenizer,
        train_dataset=data["train"], eval_dataset=data["validation"],
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_sft_trains_the_adapter_on_completions_and_resumes_to_the_bit(tmp_path: Path):
    whole = trainer_of(tmp_path / "a", 0)
    before = whole.evaluate()["eval_loss"]
    frozen = {n: p.clone() for n, p in whole.model.named_parameters() if not p.requires_grad}
    whole.train()
    assert whole.evaluate()["eval_loss"] < before - 1
    kept = dict(whole.model.named_parameters())
    assert all(torch.equal(kept[name], frozen[name]) for name in frozen)
    names = {p.name for p in (tmp_path / "a" / "checkpoint-4").iterdir()}
    assert "adapter_model.safetensors" in names
    assert "model.safetensors" not in names
    again = trainer_of(tmp_path / "b", 5)
    again.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-4"))
    losses = [[r["loss"] for r in t.state.log_history if "loss" in r] for t in (whole, again)]
    assert losses[0] == losses[1]
    batch = next(iter(whole.get_train_dataloader()))
    counted = [row[row != -100] for row in batch["labels"]]
    # one word and eos: the prompt is not learned
    assert {len(row) for row in counted} == {2}
    loaded = PeftModel.from_pretrained(load_base("tiny-gpt2")[0], tmp_path / "a" / "checkpoint-8")
    ids = batch["input_ids"]
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=ids).logits, whole.model.eval()(input_ids=ids).logits)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_adapter_that_trl_would_pass_by_is_refused(tmp_path: Path):
    base, _ = load_base("tiny-gpt2")
    model = get_peft_model(base, LoraConfig(r=4, target_modules=["c_attn", "lm_head"]))
    with pytest.raises(MinipeftError, match="would never be trained"):
        AdapterSFTTrainer(
            model, SFTConfig(str(tmp_path), report_to="none", use_cpu=True, bf16=False)
        )
