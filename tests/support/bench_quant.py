"""`make bench`, the part on quantization: times and bytes against bitsandbytes, peft and float32.

Each table comes from a process of its own, so that threads and memory are as it says; within it
both sides of a ratio alternate, and the median of the pairs is quoted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

THREADS = (1, 2)
# glibc gives 64 MB back to the system when a tensor is freed, and gets new pages for the next: that
# alone takes most of bitsandbytes' time. These keep the memory in the process.
KEEP = {"MALLOC_MMAP_THRESHOLD_": "4000000000", "MALLOC_TRIM_THRESHOLD_": "8000000000"}


def fresh(module: str, call: str, threads: int, **environment: str) -> Any:
    """Call a function of a module of tests/ in a fresh process; returns its numbers."""
    code = f"import json, {module} as q; print(json.dumps(q.{call}))"
    place = os.path.dirname(os.path.abspath(__file__))
    tests = os.path.dirname(place)
    path = os.pathsep.join([place, tests, os.path.dirname(tests)])  # this checkout's package, too
    env = {**os.environ, **environment, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def inner(section: str, threads: int, **environment: str) -> Any:
    """Run one of the measurements of quant_runs.py in a fresh process; returns its numbers."""
    return fresh("quant_runs", f"{section}({threads})", threads, **environment)


HEADS = {
    "blocks": "| | threads | ms | bitsandbytes' ms | times | times, memory kept |",
    "qlora_step": "| | threads | ms | peft's ms | times peft |",
    "layer_speed": "| | threads | ms | float32's ms | times float32 |",
    "memory": "| | bytes for a frozen weight | frozen weights, MB | peak of a step, MB |",
}
SAYS = {
    "blocks": """## Blocks of 4 bits

4096 x 4096 float32, NF4 in blocks of 64, against bitsandbytes on the CPU. In the last column freed
memory stays in the process; without that, both sides wait for new pages of memory, which is most of
the time in which bitsandbytes dequantizes.
""",
    "qlora_step": """
## A QLoRA step

Llama of 6 layers, width 768, batch 4 x 128, forward and backward, LoRA r = 16 on all linear layers,
NF4 with double quantization, against Hugging Face peft over bitsandbytes' `Linear4bit`.
""",
    "layer_speed": """
## A frozen layer in 4 bits

2048 x 2048, double quantization, forward and backward, against the same layer in float32.
""",
    "memory": """
## Memory of a QLoRA step

The same Llama and batch. The peak counts what torch makes during a step, activations and gradients
included. The largest layer in float32 is 6.3 MB (2048 x 768).
""",
}


def head(section: str) -> list[str]:
    """What stands over a table."""
    columns = HEADS[section].count("|") - 1
    return [SAYS[section], HEADS[section], "|---|" + "---:|" * (columns - 1)]


def report() -> list[str]:
    """All tables, as lines of the page."""
    lines = head("blocks")
    for threads in THREADS:
        plain, kept = inner("blocks", threads), inner("blocks", threads, **KEEP)
        for name, (a, b, ratio) in plain.items():
            ms = f"{1e3 * a:.1f} | {1e3 * b:.1f}"
            lines.append(f"| {name} | {threads} | {ms} | {ratio:.2f} | {kept[name][2]:.2f} |")
    for section in ("qlora_step", "layer_speed"):
        lines += head(section)
        for threads in THREADS:
            for name, (a, b, ratio) in inner(section, threads).items():
                ms = f"{1e3 * a:.1f} | {1e3 * b:.1f}"
                lines.append(f"| {name} | {threads} | {ms} | {ratio:.2f} |")
    lines += head("memory")
    for name, (each, held, peak) in inner("memory", 1).items():
        lines.append(f"| {name} | {each:.4f} | {held / 1e6:.2f} | {peak / 1e6:.1f} |")
    copies = [f"{n[0]:.2f} in {dtype}" for dtype, n in inner("one_layer", 1).items()]
    said = (
        f"One layer of 4096 x 4096 alone holds W dequantized {' and '.join(copies)} times at most"
    )
    lines += ["", f"{said}: once to be multiplied, the rest is slices and a token."]
    return lines


if __name__ == "__main__":
    print("\n".join(report()))
