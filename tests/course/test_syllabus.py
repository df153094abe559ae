"""What the syllabus promises stands where it says, with the numbers it gives.

`SHOWN` must be printed by a cell or asserted in one: a number in prose alone proves nothing. `SAID`
may stand anywhere in the lesson.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SHOWN: dict[str, tuple[str, ...]] = {
    "00": ("torch", "transformers", "[44, 239, 933, 760]"),
    "01": ("1,104", "208", "108"),
    "02": ("124,439,808", "559,214,592", "1,303,111,680"),
    "03": ("102,144", "544,768"),
    "04": ("2,379,264",),
    "05": ("7,680",),
    "06": ("1,779,456", "45,656,320"),
    "07": ("184,320", "14,772,480", "58"),
    "08": ("294,912", "124,734,720", "786,432", "16,777,216"),
    "09": ("322,560",),
    "10": ("64,512", "55,296"),
    "11": ("0.9677083", "4.127"),
    "12": ("3.87",),  # 3.9 GB for a 7B model
    "13": ("cycles",),
    "14": ("forgets", "trained"),
    "15": ("294,912", "786,432"),
    "16": ("adapter_model.safetensors",),
}
SAID: dict[str, tuple[str, ...]] = {
    "00": ("check(", "hint(", "reveal("),
    "01": ("560", "280", "3 to 5", "master copy"),
    "02": ("110M", "Conv1D", "in_features"),
    "03": ('"bias"', "Llama", "head"),
    "04": ("36 %", "AdapterConfig", "Xavier"),
    "05": ("TEXT", "hard", "vocabulary", "labels", "mask"),
    "06": ("LSTM", "MLP", "stored"),
    "07": ("reparametrisation", "P-tuning v2", "attention"),
    "08": ("fan-in", "33,554,432", "alpha"),
    "09": ("rsLoRA", "DoRA", "LoftQ", "embedding", "convolution", "replication", "Kaiming"),
    "10": ("feedforward_modules", "Bloom", "fused"),
    "11": ("FP4", "INT4", "double quantization", "quantile"),
    "12": ("3.9 GB", "bottleneck", "dequantiz", "gradient"),
    "13": ("safetensors", "tied", "copy", "adapter_names"),
    "14": ("learning rate", "rank", "forgetting", "overfitting", "Pareto", "003"),
    "15": ("call graph", "class tree", "004", "active_adapter", "target_modules"),
    "16": ("Trainer", "resume", "SFTConfig", "MODEL", "held", "seed"),
}


def cells(number: str) -> list[dict]:
    """The cells of a lesson as committed."""
    (file,) = NOTEBOOKS.glob(f"{number}_*.ipynb")
    return json.loads(file.read_text(encoding="utf-8"))["cells"]


def printed(cell: dict) -> str:
    """What a cell printed, or gave back as text."""
    out = cell.get("outputs", [])
    texts = [o.get("text", "") for o in out] + [
        o.get("data", {}).get("text/plain", "") for o in out
    ]
    return "\n".join("".join(text) for text in texts)


def shown(number: str) -> str:
    """All that the lesson's cells print, and all that they assert (1_104 is 1,104)."""
    found = []
    for cell in cells(number):
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            asserts = "\n".join(re.findall(r"assert\b.*", source))
            found.append(f"{printed(cell)}\n{asserts.replace('_', ',')}\n{asserts}")
    return "\n".join(found)


@pytest.mark.parametrize("number", SHOWN)
def test_the_numbers_are_shown_by_a_cell(number: str):
    text = shown(number)
    missing = [n for n in SHOWN[number] if not re.search(rf"(?<![\d,]){re.escape(n)}(?!\d)", text)]
    assert missing == []


@pytest.mark.parametrize("number", SAID)
def test_the_names_are_there(number: str):
    text = "\n".join("".join(c["source"]) for c in cells(number)) + shown(number)
    assert [name for name in SAID[number] if name.lower() not in text.lower()] == []


@pytest.mark.parametrize("number", sorted(set(SHOWN) - {"00"}))
def test_the_lesson_has_a_plot(number: str):
    data = [o.get("data", {}) for c in cells(number) for o in c.get("outputs", [])]
    assert any("image/png" in one for one in data)


def test_all_lessons_are_looked_at():
    there = {f.name[:2] for f in NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")}
    assert there == set(SHOWN) == set(SAID) == {f"{n:02}" for n in range(17)}


@pytest.mark.parametrize("number", SHOWN)
def test_the_head_and_the_links(number: str):
    """Title, minutes, objectives, and the lesson before and after."""
    head = next("".join(c["source"]) for c in cells(number) if c["cell_type"] == "markdown")
    assert re.search(rf"^# {number} · ", head, re.MULTILINE)
    assert re.search(r"\*\*\d+ minutes\.\*\*", head)
    assert "Afterwards you can" in head
    others = {f"{int(number) - 1:02}_": int(number) > 0, f"{int(number) + 1:02}_": int(number) < 16}
    assert all(f"({name}" in head for name, wanted in others.items() if wanted)
    last = "".join(cells(number)[-1]["source"])
    assert all(f"({name}" in last for name, wanted in others.items() if wanted)
