"""10,000 mutated adapter folders: no crash, no hang, no memory, and every refusal one of ours."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "support" / "fuzz_folders.py"


def fuzz(cases: int, seed: int) -> dict[str, int]:
    """Run the script in a process of its own, where a crash and its memory can be seen."""
    ran = subprocess.run(
        [sys.executable, str(SCRIPT), str(cases), str(seed)], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    counts: dict[str, int] = json.loads(ran.stdout)
    print(counts)
    return counts


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_2500_mutated_folders(seed: int):
    counts = fuzz(2500, seed)
    assert counts["refused"] + counts["loaded"] + counts["warned"] == 2500
    assert min(counts["refused"], counts["loaded"]) > 100  # neither end is always reached
    assert counts["grown_kib"] < 64 * 1024


@pytest.mark.smoke
def test_20_mutated_folders():
    assert sum(fuzz(20, 4).values()) > 20
