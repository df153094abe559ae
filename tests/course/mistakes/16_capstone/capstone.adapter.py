"""Answers to capstone.adapter: folders, each written when the check asks for it.

One adapter is trained, 40 steps of the easiest task, in about two seconds; the others are made of
it or of an untrained one. Nothing is written before a check reads the folder's name, so collecting
the tests costs nothing.
"""

import functools
import os
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from minipeft import (
    AdapterConfig,
    BitFitConfig,
    IA3Config,
    LoraConfig,
    PromptTuningConfig,
    get_peft_model,
)
from minipeft.course.corpus import right, wrong
from minipeft.lab.tasks import load_task
from minipeft.lab.training import fit
from minipeft.lab.zoo import load_base

LORA = LoraConfig(r=2, lora_alpha=8, target_modules="all-linear")


class Later(os.PathLike):
    """A folder that a function fills when its path is asked for."""

    def __init__(self, fill):
        self.fill = functools.cache(fill)

    def __fspath__(self):
        return str(self.fill())


@functools.cache
def home():
    return Path(tempfile.mkdtemp(prefix="capstone-"))


@functools.cache
def made(config, steps=0, lr=1e-2, task="mood", base="tiny-gpt2"):
    """The folder of an adapter, trained or not."""
    model, tokenizer = load_base(base)
    torch.manual_seed(0)
    model = get_peft_model(model, CONFIGS[config])
    if steps:
        rows = load_task(task)["train"]
        fit(model, tokenizer, rows, steps=steps, lr=lr, batch_size=16, progress=False)
    folder = home() / f"{config}-{steps}-{task}-{base}"
    model.save_pretrained(folder)
    return folder


CONFIGS = {
    "lora": LORA,
    "lora8": LoraConfig(r=8, target_modules="all-linear"),
    "ia3": IA3Config(),
    "bitfit": BitFitConfig(),
    "adapter": AdapterConfig(adapter_dim=8, adapter_dropout=0.0),
    "prompt": PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"),
}


def good():
    return made("lora", 40)


def changed(name, change):
    """A copy of the good one with its tensors changed."""
    folder = home() / name
    shutil.copytree(good(), folder)
    file = folder / "adapter_model.safetensors"
    tensors = {key: change(t) for key, t in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    return folder


def without(part):
    folder = home() / f"without-{part}"
    shutil.copytree(good(), folder)
    (folder / part).unlink()
    return folder


def as_file():
    (home() / "a-file").write_text("here")
    return home() / "a-file"


def answer(fill, task="mood", **more):
    return {"folder": Later(fill), "task": task, **more}


missing = wrong("there is no folder 'my-adaptor'")({"folder": "my-adaptor", "task": "mood"})
no_folder = wrong("a-file'; write it with")(answer(as_file))
no_config = wrong("has no adapter_config.json")(answer(lambda: without("adapter_config.json")))
no_weights = wrong("has no adapter_model.safetensors; in it: 'adapter_config.json'")(
    answer(lambda: without("adapter_model.safetensors"))
)
too_large = wrong("has 338,528 bytes")(answer(lambda: made("lora8")))
untrained = wrong("changes nothing: every logit is the base's")(answer(lambda: made("lora")))
three_steps = wrong("Train longer, or with another")(answer(lambda: made("ia3", 3)))
other_task = wrong("On 'mood' it has")(answer(good, task="opposite"))
other_base = wrong("made for the base 'tiny-gpt2', and you name 'tiny-bloom'")(
    answer(good, base="tiny-bloom")
)
not_a_number = wrong("holds NaN or infinity")(answer(lambda: changed("nan", lambda t: t / 0 * 0)))
cut = wrong("the adapter cannot be loaded")(
    answer(lambda: changed("cut", lambda t: t[:1].contiguous()))
)
noise = wrong("it is 0.0%; 30.0% is asked for")(
    answer(lambda: changed("noise", lambda t: 0.05 * torch.randn_like(t)))
)
prompt = wrong("PROMPT_TUNING cannot be folded")(answer(lambda: made("prompt", 1)))
bottleneck = wrong("ADAPTER cannot be folded into the weights")(answer(lambda: made("adapter", 1)))
no_task = wrong("there is no task 'moods'; the tasks are")(answer(good, task="moods"))
only_the_folder = wrong("hand over {")("my-adapter")
the_model = wrong("should be a string or a Path")({"folder": LORA, "task": "mood"})

lora = right(answer(good))
by_name = right({"folder": Later(good), "task": "mood", "base": "tiny-gpt2"})
biases_on_bloom = right(
    answer(lambda: made("bitfit", 60, 3e-2, base="tiny-bloom"), base="tiny-bloom")
)
