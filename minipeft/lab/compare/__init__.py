"""Every method on equal terms: `python -m minipeft.lab.compare` writes what lesson 14 draws.

tiny-gpt2 is fine-tuned with each method of `minipeft.lab.demo.METHODS` for the same number of
steps of the same rows. Four stages:

    rates   every method at four learning rates, validation split, seed 100: chooses the rate
    table   every method at its rate, three tasks, three seeds, test split: chooses nothing
    ranks   LoRA with r from 1 to 32, on the task that contradicts the model
    costs   a training step in seconds and bytes, the methods taking turns

Each run is kept as soon as it is done, so that an interrupted comparison goes on where it stopped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...checks.errors import CheckpointError

RESULTS = Path(__file__).parents[1] / "assets" / "comparison.json"


def frontier(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """The methods that no other beats: none has as few parameters and as low a loss.

    Args:
        points: {method: (trained parameters, loss)}; less is better in both.

    Returns:
        the methods of the Pareto frontier, those with the fewest parameters first. A method is out
        if another one is at least as good in both numbers and better in one.
    """
    best = [
        name
        for name, (count, loss) in points.items()
        if not any(c <= count and v <= loss and (c, v) != (count, loss) for c, v in points.values())
    ]
    return sorted(best, key=lambda name: points[name])


def versions() -> dict[str, str]:
    """What made the results."""
    import platform
    from importlib.metadata import version

    packages = ("minipeft", "torch", "transformers", "bitsandbytes")
    return {"Python": platform.python_version()} | {name: version(name) for name in packages}


def load(file: Path = RESULTS) -> dict[str, Any]:
    """The results: `versions`, `minutes`, `base`, `runs` and `costs`.

    Raises:
        CheckpointError: the file is not there, or is not what this module writes.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        found["runs"], found["costs"]
        return dict(found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{file} holds no results of a comparison ({error}); "
            "`python -m minipeft.lab.compare` writes them"
        ) from error


def write(file: Path, results: dict[str, Any]) -> None:
    """One line for each run, in a fixed order, so that a change can be read; in one step."""
    lists = {"runs": sorted(results["runs"], key=lambda r: [str(v) for v in r.values()])}
    lists["costs"] = results["costs"]
    head = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in results.items() if k not in lists]
    tables = [
        f'"{name}": [\n{",".join(chr(10) + json.dumps(row) for row in rows).lstrip()}\n]'
        for name, rows in lists.items()
    ]
    new = file.with_name(f"{file.name}.new")
    new.write_text("{" + ",\n".join(head + tables) + "}\n", encoding="utf-8")
    os.replace(new, file)
