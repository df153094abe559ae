"""The proofs of lesson 01: bytes per parameter, and where each of the notes' tables comes from.

Counts are worked out from the models' published dimensions, so that they do not depend on the code
they check; only the bytes per part are the package's.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ...lab.counting import training_bytes
from ..claims import hold, proves

GB = 1e9
NF4 = (4 + 8 / 64 + 32 / (64 * 256)) / 8  # bytes: 4 bits, an 8-bit scale per 64, its float per 256
CONVENTIONS = ("mixed", "moments32", "half")


def llama(width: int, inner: int, layers: int, kv: int, vocab: int = 32000) -> tuple[int, int]:
    """Parameters of a Llama: those of its linear layers, and the rest."""
    block = 2 * width * width + 2 * width * kv + 3 * width * inner
    return layers * block, 2 * vocab * width + 2 * layers * width + width


SIZES = {
    "7B": (4096, 11008, 32, 4096),
    "13B": (5120, 13824, 40, 5120),
    "70B": (8192, 28672, 80, 1024),
    "65B": (8192, 22016, 80, 8192),  # the first LLaMA, without grouped-query attention
}
# LoRA with r = 16 beside q, k, v and o.
LORA = {
    name: layers * 16 * (2 * (width + width) + 2 * (width + kv))
    for name, (width, _, layers, kv) in SIZES.items()
}


def count(name: str) -> int:
    """All parameters of a Llama."""
    return sum(llama(*SIZES[name]))


def full(name: str, convention: str = "mixed") -> float:
    """GB of full fine-tuning."""
    return sum(training_bytes(0, count(name), convention=convention).values()) / GB


def lora(name: str) -> float:
    """GB of frozen 16-bit weights and a trained LoRA."""
    return sum(training_bytes(count(name), LORA[name]).values()) / GB


def qlora(name: str, rest: float = 4) -> float:
    """GB of NF4 linear layers, the rest of the model in `rest` bytes, and a trained LoRA."""
    linear, other = llama(*SIZES[name])
    packed = training_bytes(linear, LORA[name], bytes_per_frozen=NF4)
    return (sum(packed.values()) + rest * other) / GB


def say(values: dict[str, float]) -> str:
    """7B 13.7, 13B 26.5 GB."""
    return ", ".join(f"{name} {value:,.1f}" for name, value in values.items()) + " GB"


@proves("memory-70b-total")
def total_70b() -> str:
    """140 + 140 + 280 is 8 bytes for each of 70 billion."""
    found = [full("70B", c) for c in CONVENTIONS]
    hold([f"{v:,.0f}" for v in found] == ["1,104", "828", "552"], f"{found}")
    hold(sum(training_bytes(0, 70_000_000_000, convention="half").values()) / GB == 560, "560 GB")
    return "16, 12, 8 bytes: " + ", ".join(f"{v:,.1f}" for v in found) + " GB"


@proves("memory-full-column")
def full_column() -> str:
    """The column is 4 bytes per parameter, half of what the same note's line 24 says."""
    for name, notes in (("7B", 28), ("13B", 52), ("70B", 280)):
        hold(float(name[:-1]) * 4 == notes, f"{name}: the note's number is 4 bytes each")
    found = {name: full(name) for name in ("7B", "13B", "70B")}
    hold([f"{v:.0f}" for v in found.values()] == ["108", "208", "1104"], f"{found}")
    return say(found)


@proves("memory-lora-column")
def lora_column() -> str:
    """The 16-bit weights are the column; the trained part is what it lacks."""
    weights = {name: 2 * count(name) / GB for name in ("7B", "13B", "70B")}
    found = {name: lora(name) for name in weights}
    hold([f"{v:.0f}" for v in weights.values()] == ["13", "26", "138"], f"{weights}")
    hold([f"{v:.1f}" for v in found.values()] == ["13.7", "26.5", "139.0"], f"{found}")
    return say(found)


@proves("memory-qlora-column")
def qlora_column() -> str:
    """What the formula gives without activations."""
    found = {name: qlora(name) for name in ("7B", "13B", "70B")}
    hold([f"{v:.1f}" for v in found.values()] == ["4.7", "8.3", "38.5"], f"{found}")
    return say(found)


@proves("memory-65b-lora")
def lora_65b() -> str:
    """Two bytes for each frozen weight are more than the note's total."""
    hold(count("65B") == 65_285_660_672, f"{count('65B'):,}")
    weights = 2 * count("65B") / GB
    hold(f"{weights:.1f}" == "130.6" and f"{lora('65B'):.1f}" == "131.9", f"{weights}")
    return f"weights {weights:.1f} GB, with LoRA {lora('65B'):.1f} GB"


@proves("memory-65b-full")
def full_65b() -> str:
    """12 bytes for each of 65 billion."""
    nominal = sum(training_bytes(0, 65_000_000_000, convention="moments32").values()) / GB
    hold(nominal == 780, f"{nominal}")
    return f"12 bytes: {full('65B', 'moments32'):.0f} GB; 16 bytes: {full('65B'):,.0f} GB"


@proves("memory-65b-qlora")
def qlora_65b() -> str:
    """The floor of weights, LoRA and its optimizer leaves room below 48 GB."""
    floor = qlora("65B")
    hold(36 < floor < 48, f"{floor}")
    return f"{floor:.1f} GB without activations"


@proves("memory-conventions")
def conventions() -> str:
    """One note, four numbers of bytes per parameter of full fine-tuning."""
    found = {"003:L24": 560 / 70, "003:L227": 280 / 70, "003:L218": 780 / 65}
    hold(sorted(found.values()) == [4, 8, 12], f"{found}")
    return ", ".join(f"{where}: {value:.0f}" for where, value in found.items())


@proves("memory-saving")
def saving() -> str:
    """Shares of 16 bytes, and the same note's own table."""
    ours = {"LoRA": lora("7B") / full("7B"), "QLoRA": qlora("7B") / full("7B")}
    own = {"LoRA": 14 / 28, "QLoRA": 8 / 28}
    hold(own["LoRA"] > 0.4 and own["QLoRA"] > 0.25, "the note's table is inside its own range")
    hold(ours["LoRA"] < 0.3 and ours["QLoRA"] < 0.2, f"{ours}")
    ours_text = ", ".join(f"{k} {v:.1%}" for k, v in ours.items())
    return f"{ours_text}; the note's table: LoRA {own['LoRA']:.0%}, QLoRA {own['QLoRA']:.0%}"


@proves("memory-prompt-below-qlora")
def prompt_below_qlora() -> str:
    """A prompt of 20 vectors beside 16-bit weights, against NF4 and a LoRA."""
    prompt = sum(training_bytes(count("7B"), 20 * 4096).values()) / GB
    hold(prompt > 2 * qlora("7B"), f"{prompt} against {qlora('7B')}")
    return f"7B: prompt tuning {prompt:.1f} GB, QLoRA {qlora('7B'):.1f} GB"


def products(frozen: bool) -> int:
    """Multiply-adds of a forward and backward pass of 8 layers, counted by PyTorch."""
    with torch.device("meta"):
        model = nn.Sequential(*(nn.Linear(256, 256, bias=False) for _ in range(8)))
        x = torch.empty(64, 256, requires_grad=frozen)  # as if a trained layer stood below
    model.requires_grad_(not frozen)
    with FlopCounterMode(display=False) as counter:
        model(x).sum().backward()
    return int(counter.get_total_flops()) // 2


@proves("memory-speed")
def speed() -> str:
    """Forward, gradient of the input, gradient of the weight: three products of one size."""
    each = 8 * 64 * 256 * 256
    trained, frozen = products(False), products(True)
    # The lowest layer's input needs no gradient when all layers are trained.
    hold(trained == 3 * each - each // 8 and frozen == 2 * each, f"{trained}, {frozen}")
    return f"{(3 * each) / frozen:.2f} times fewer multiply-adds at most"


@proves("memory-disk")
def disk() -> str:
    """The file of an adapter and the files of the model."""
    adapter, model = 4 * LORA["7B"] / 1e6, 2 * count("7B") / GB
    hold(f"{adapter:.0f}" == "67" and f"{model:.1f}" == "13.5", f"{adapter}, {model}")
    return f"{adapter:.0f} MB against {model:.1f} GB, {adapter / model / 10:.1f} %"
