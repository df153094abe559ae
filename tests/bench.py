"""`make bench`: what is measured, as ratios in one run; writes tests/BENCH.md.

Both sides of a ratio alternate, and the median of the pairs is quoted, so that a slow minute of the
machine counts for both. Nothing here asserts: a test that depends on the time of day is no test.
"""

from __future__ import annotations

import datetime
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "support"))

import bench_lora
import bench_quant
import bench_trainer
import torch
import transformers

import minipeft
from minipeft.lab.assets.pretrain import NAMES
from minipeft.lab.demo import METHODS, prepare, recipe
from minipeft.lab.tasks import load_task
from minipeft.lab.training import fit

PAGE = Path(__file__).with_name("BENCH.md")
MARKED = r"<!-- (\w+) -->\n(.*?)(?=<!-- \w+ -->|\Z)"


def gpu() -> str:
    """Which GPU there is; the tables are the CPU's."""
    there = torch.cuda.is_available()
    return f"GPU: {torch.cuda.get_device_name()}." if there else "No GPU was at hand."


def seconds_of(code: str) -> float:
    """Wall seconds of a fresh Python process that runs `code`."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return time.perf_counter() - started


def imports(pairs: int = 9) -> list[str]:
    """`import minipeft` and `import peft` against `import torch`, whole processes."""
    names = ("torch", "minipeft", "peft")
    runs: dict[str, list[float]] = {name: [] for name in names}
    for name in names:
        seconds_of(f"import {name}")  # fills the disk cache; not counted
    for _ in range(pairs):
        for name in names:
            runs[name].append(seconds_of(f"import {name}"))
    rows = ["| import | median seconds | times torch (median of pairs) |", "|---|---|---|"]
    for name in names:
        ratio = statistics.median(a / b for a, b in zip(runs[name], runs["torch"], strict=True))
        rows.append(f"| {name} | {statistics.median(runs[name]):.2f} | {ratio:.2f} |")
    return [f"## Importing\n\n{pairs} alternating runs, whole processes.\n", *rows]


def training() -> list[str]:
    """Seconds of one fine-tune with each method, alone on the machine."""
    torch.set_num_threads(os.cpu_count() or 1)
    rows = ["| model | method | trained | steps | seconds |", "|---|---|---:|---:|---:|"]
    data = load_task("opposite")
    for name in NAMES:
        for method, (label, _) in METHODS.items():
            model, tokenizer = prepare(name, method, 0)
            history = fit(model, tokenizer, data["train"], progress=False, **recipe(method))
            trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
            steps = recipe(method)["steps"]
            rows.append(f"| {name} | {label} | {trained:,} | {steps} | {history.seconds:.1f} |")
    said = "One run each, on the task opposite; the accuracies are in ACCURACY.md."
    return [f"## Fine-tuning the bundled models\n\n{said} {os.cpu_count()} threads.\n", *rows]


def page(old: str, sections: dict[str, str], order: list[str]) -> str:
    """The page with these sections in it, new or in the place of older ones; others stay."""
    parts = {name: text.strip() for name, text in re.findall(MARKED, old, re.DOTALL)}
    parts |= {name: text.strip() for name, text in sections.items()}
    there = [f"<!-- {name} -->\n{parts[name]}\n" for name in order if name in parts]
    return "\n".join(["# Measurements\n", *there])


def main() -> None:
    """Run all, or the sections named on the command line, and write them into the page."""
    known = {
        "imports": imports,
        "lora_step": bench_lora.report,
        "quantization": bench_quant.report,
        "trainer_step": bench_trainer.report,
        "training": training,
    }
    machine = (
        f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}, minipeft {minipeft.__version__}, "
        f"bitsandbytes {version('bitsandbytes')}, peft {version('peft')}, {os.cpu_count()} cores, "
        f"{platform.machine()} ({torch.backends.cpu.get_cpu_capability()}). {gpu()} "
    )
    for name in sys.argv[1:] or list(known):
        said = f"Written by `python tests/bench.py {name}`, {datetime.date.today()}. {machine}"
        text = "\n".join([*known[name](), "", said])
        print(text, flush=True)
        old = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(page(old, {name: text}, list(known)), encoding="utf-8")


if __name__ == "__main__":
    main()
