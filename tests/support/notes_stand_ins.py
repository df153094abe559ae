"""The code blocks of the lecture notes that use peft: how they are run, and what they load.

tests/test_notes_*.py have the blocks. One that runs as the note has it is run with minipeft and
with peft, and both are asked the same. Where one does not, the test shows the error, and the least
edit with which it runs. What a later version will have is refused by name. The models are tiny and
random, and lie in the current folder under the names that the notes load.
"""

from __future__ import annotations

import shutil
import textwrap
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import adapted, tiny
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

TEXT = "下面是人和聊天机器人的对话。"  # 001:L55
CHECKPOINTS = {
    "bloom-1b4-zh": "bloom", "gpt2": "gpt2", "t5-base": "t5",
    "mistralai/Mistral-7B-v0.1": "mistral", "meta-llama/Llama-2-7b-hf": "llama",
    "google/vit-base-patch16-224-in21k": "vit",
}  # fmt: skip
ADAPTERS = {
    "alignment-handbook/zephyr-7b-sft-lora": "mistral", "lora_weights": "llama",
    "Lora/checkpoint-100": "bloom",
}  # fmt: skip


class Notebook:
    """Cells that share their names, run in the current folder.

    Args:
        library: what stands in the place of `peft`: "minipeft", or "peft" itself.
        names: what earlier cells are thought to have made.
    """

    def __init__(self, library: str, **names: Any):
        self.library = library
        self.names = names

    def run(self, block: str, *edits: tuple[str, str]) -> dict[str, Any]:
        """Run one block, after `edits` (old, new) of its text; returns all names."""
        block = textwrap.dedent(block).strip()
        for old, new in edits:
            assert block.count(old) == 1, f"{old!r} stands there {block.count(old)} times"
            block = block.replace(old, new)
        block = block.replace("from peft import", f"from {self.library} import")
        exec(compile(block, "note", "exec"), self.names)
        return self.names


Open = Callable[..., Notebook]


@pytest.fixture(name="library", params=["minipeft", "peft"])
def fixture_library(request: pytest.FixtureRequest) -> Iterator[str]:
    """Ours, and then peft, asked the same."""
    with warnings.catch_warnings():
        if request.param == "peft":
            pytest.importorskip("peft")
            warnings.simplefilter("ignore")  # fan_in_fan_out on GPT-2, tied weights
        yield request.param


@pytest.fixture(name="stand_ins", scope="session")
def fixture_stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models and the LoRAs."""
    folder = tmp_path_factory.mktemp("notes")
    for name, kind in CHECKPOINTS.items():
        tiny(kind).save_pretrained(folder / name)
        if kind in ("bloom", "gpt2"):
            tokenizer().save_pretrained(folder / name)
    for name, kind in ADAPTERS.items():
        adapted(kind).save_pretrained(folder / name)
    return folder


@pytest.fixture(name="notebook")
def fixture_notebook(stand_ins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens a notebook, in a folder of its own with a copy of them."""
    shutil.copytree(stand_ins, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    common = {"torch": torch, "nn": nn, "AutoModelForCausalLM": AutoModelForCausalLM}
    return lambda library="minipeft", **names: Notebook(library, **common, **names)


def tokenizer() -> PreTrainedTokenizerFast:
    """One token for each character of `TEXT`, after four special ones: ids 0 to 16."""
    special = ["<pad>", "<bos>", "<eos>", "<unk>"]
    ids = {entry: i for i, entry in enumerate([*special, *sorted(set(TEXT))])}
    made = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )


def no_python(block: str) -> None:
    """Demand that a block cannot even be read, as those with `...` or with printed output."""
    with pytest.raises(SyntaxError):
        compile(textwrap.dedent(block).strip(), "note", "exec")


def size(model: nn.Module) -> int:
    """All parameters, shared ones counted once."""
    return sum(p.numel() for p in model.parameters())


def line(trained: int, total: int) -> str:
    """What `print_trainable_parameters` prints."""
    share = f"{100 * trained / total:.4f}"
    return f"trainable params: {trained:,d} || all params: {total:,d} || trainable%: {share}"


def last(capsys: pytest.CaptureFixture[str]) -> str:
    """The last line on stdout."""
    return capsys.readouterr().out.strip().splitlines()[-1]
