"""Models small enough to test in milliseconds, and the oracle that the tests compare with.

The models are those of tiny_models.py, the same in every run. Nothing here or in the tests reaches
for the network.
"""

from __future__ import annotations

import copy
import logging
import os
import shutil
import sys
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub is imported: it reads this once
sys.path.insert(0, str(Path(__file__).parent / "support"))  # for scripts that import this file

import pytest
import tiny_models
import torch
from tiny_models import ALL_FAMILIES as ALL_FAMILIES
from tiny_models import CAUSAL as CAUSAL
from tiny_models import FAMILIES as FAMILIES
from tiny_models import MLP as MLP
from tiny_models import VOCAB as VOCAB
from torch import Tensor, nn

import minipeft
from minipeft.tuner.copies import SavedModule
from minipeft.tuner.slots import Slot

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

torch.set_num_threads(1)  # matrices of 16 x 16: threads only cost
_MADE: dict[str, nn.Module] = {}


def tiny(name: str, dtype: torch.dtype = torch.float32) -> Any:
    """A fresh copy of a tiny model, in eval mode, with weights large enough to matter.

    transformers starts weights at a spread of 0.02, where attention is uniform and errors vanish.
    """
    if name not in _MADE:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = tiny_models.MAKERS[name]()
            for parameter in model.parameters():
                parameter.data += 0.2 * torch.randn_like(parameter)
        _MADE[name] = model.eval()
    return copy.deepcopy(_MADE[name]).to(dtype)


def bare_names(model: nn.Module) -> list[str]:
    """The dotted names of all modules but the model itself."""
    return [name for name, _ in model.named_modules() if name]


def inputs(name: str) -> dict[str, Tensor]:
    """A small batch for a tiny model, with labels."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        if name == "mlp":
            return {"x": torch.randn(3, 6)}
        if name == "vit":
            return {"pixel_values": torch.randn(2, 3, 8, 8), "labels": torch.tensor([0, 2])}
        ids = torch.randint(2, VOCAB, (2, 7))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if name == "bert_qa":
        spans = {"start_positions": torch.tensor([1, 0]), "end_positions": torch.tensor([2, 6])}
        return {**batch, **spans}
    labels = {"bert_token": ids % 3, **dict.fromkeys(("bert", "gpt2_cls"), torch.tensor([0, 2]))}
    return {**batch, "labels": labels.get(name, ids)}


def logits(out: Any) -> Tensor:
    """The answer in what a model returns; for question answering the start's and the end's."""
    if isinstance(out, Tensor):
        return out
    return out.logits if "logits" in out else torch.stack([out.start_logits, out.end_logits])


def output(model: nn.Module, name: str) -> Tensor:
    """What the model answers to `inputs(name)`, without gradients."""
    with torch.no_grad():
        return logits(model(**inputs(name)))


def shake(model: nn.Module, seed: int = 2) -> None:
    """Fill every adapter parameter with numbers that change the output visibly.

    In our models that is what stands in a slot, but not a head's copy; in peft's the parameters of
    its layer methods, by their names.
    """
    slots = [m for m in model.modules() if isinstance(m, Slot) and not isinstance(m, SavedModule)]
    ours = {id(p) for slot in slots for p in slot.adapters.parameters()}
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for name, parameter in model.named_parameters():
            if id(parameter) in ours or ".lora_" in name or ".ia3_" in name:
                parameter.copy_(0.3 * torch.randn(parameter.shape))


def adapted(name: str = "gpt2", dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    """A tiny model with a LoRA that changes its output."""
    if name == "mlp":
        options.setdefault("target_modules", ["first", "second"])
    model = minipeft.get_peft_model(tiny(name, dtype), minipeft.LoraConfig(**{"r": 4, **options}))
    shake(model)
    return model


def bits(tensor: Tensor) -> bytes:
    """The tensor's very bits: NaN equals itself, and 0.0 differs from -0.0."""
    return tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def state_of(model: nn.Module) -> dict[str, Any]:
    """Everything that a refused call must leave as it was, in a form that == compares."""
    return {
        "modules": [(n, id(m), type(m), m.training) for n, m in model.named_modules()],
        "parameters": [
            (n, id(p), p.requires_grad, p.dtype, bits(p))
            for n, p in model.named_parameters(remove_duplicate=False)
        ],
        "buffers": [(n, id(b), bits(b)) for n, b in model.named_buffers()],
        "hooks": [
            [dict(h) for h in (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks)]
            for m in model.modules()
        ],
    }


def files_of(folder: Path) -> dict[str, bytes]:
    """All files below a folder with their bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a good adapter for the tiny GPT-2."""
    folder = tmp_path_factory.mktemp("good")
    adapted("gpt2").save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "adapter"))


@pytest.fixture(scope="session")
def peft() -> Any:
    """Hugging Face peft, the oracle."""
    return pytest.importorskip("peft")


def pytest_configure(config: pytest.Config) -> None:
    """Silence two messages of other people's code; all other warnings stay errors."""
    # peft 0.21 reads a name that transformers 5.23 has renamed.
    rename = "ignore:.*is_gradient_checkpointing. is deprecated:FutureWarning"
    config.addinivalue_line("filterwarnings", rename)
    # Models of width 16 are narrower than usual ranks; tests of this warning ask for it by name.
    config.addinivalue_line("filterwarnings", "ignore::minipeft.checks.errors.RankWarning")
    # bitsandbytes, imported by peft, logs the 4-bit kernels that it could not find for the CPU.
    logging.getLogger("bitsandbytes").setLevel(logging.CRITICAL)


CASES = 12  # of a test with more cases than these, `make test-fast` runs about every third


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With MINIPEFT_FAST=1, thin out the tests with many cases; always to the same cases.

    A checksum of the case's name chooses, so that no value of a parameter is passed over as every
    third case of a product of lists would. `make test` runs them all.
    """
    if os.environ.get("MINIPEFT_FAST") != "1":
        return
    cases = Counter(item.nodeid.partition("[")[0] for item in items)
    left_out = [
        item
        for item in items
        if cases[item.nodeid.partition("[")[0]] > CASES and zlib.crc32(item.nodeid.encode()) % 3
    ]
    out = set(map(id, left_out))
    items[:] = [item for item in items if id(item) not in out]
    config.hook.pytest_deselected(items=left_out)
