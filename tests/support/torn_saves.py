"""A process that saves two adapters in turn into one folder, to be killed or to meet a rival.

    python tests/support/torn_saves.py FOLDER SEED [TIMES]
    python tests/support/torn_saves.py FOLDER               says which of them is there

It writes a line when it begins and one after each save, so that its killer knows where it is.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

import minipeft

# Two adapters that no reader may mix: other α with the same shapes, and another rank.
OPTIONS: list[dict[str, Any]] = [
    {"r": 4, "lora_alpha": 8},
    {"r": 4, "lora_alpha": 64},
    {"r": 2, "lora_alpha": 16},
]


def model_of(which: int) -> Any:
    """A small model with adapter number `which`, all its numbers `which + 1`."""
    torch.manual_seed(0)
    base = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Linear(8, 3))
    config = minipeft.LoraConfig(target_modules=["0", "1"], **OPTIONS[which])
    model = minipeft.get_peft_model(base, config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.fill_(which + 1.0)
    return model


def which_is(folder: Path) -> int:
    """The number of the adapter in a folder, after a check that nothing in it is another's."""
    torch.manual_seed(0)
    base = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Linear(8, 3))
    loaded = minipeft.PeftModel.from_pretrained(base, folder)
    config: Any = loaded.peft_config["default"]
    which = OPTIONS.index({"r": config.r, "lora_alpha": config.lora_alpha})
    numbers = {
        float(x) for t in minipeft.get_peft_model_state_dict(loaded).values() for x in t.unique()
    }
    assert numbers == {which + 1.0}, f"α is {config.lora_alpha}, the numbers are {numbers}"
    return which


def main(folder: str, seed: int, times: int = 10**9) -> None:
    """Save in turn, beginning with number `seed` modulo 3."""
    torch.set_num_threads(1)
    models = [model_of(which) for which in range(len(OPTIONS))]
    print("ready", flush=True)
    for turn in range(times):
        which = (seed + turn) % len(models)
        models[which].save_pretrained(folder)
        print(which, flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        print(which_is(Path(sys.argv[1])))
    else:
        main(sys.argv[1], *map(int, sys.argv[2:]))
