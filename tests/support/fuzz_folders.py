"""Mutated adapter folders, loaded one after the other: what may come is an adapter or one of our
errors, and the model is as it was.

    python tests/support/fuzz_folders.py CASES [SEED]

Prints one JSON object: how many were refused, loaded, loaded with a warning, and the memory taken.
"""

from __future__ import annotations

import collections
import copy
import json
import random
import resource
import signal
import struct
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from conftest import CONFIG, WEIGHTS, shake, state_of, tiny

import minipeft
from minipeft import MinipeftError, MinipeftWarning, PeftModel
from minipeft.saving.files import ENCODER

CONFIGS = {
    "lora": minipeft.LoraConfig(r=4, target_modules=["c_attn"], rank_pattern={"c_attn": 2}),
    "lora with a head": minipeft.LoraConfig(modules_to_save=["ln_f"], bias="all"),
    "dora": minipeft.LoraConfig(use_dora=True),
    "ia3": minipeft.IA3Config(),
    "adapter": minipeft.AdapterConfig(),
    "bitfit": minipeft.BitFitConfig(),
    "prompt": minipeft.PromptTuningConfig(num_virtual_tokens=3),
    "p-tuning": minipeft.PromptEncoderConfig(num_virtual_tokens=3, encoder_hidden_size=8),
    "prefix": minipeft.PrefixTuningConfig(num_virtual_tokens=3, prefix_projection=True),
}
Folder = dict[str, bytes]


def corpus() -> dict[str, Folder]:
    """A good folder of each method; a second one as peft writes it, without our header."""
    found = {}
    for name, config in CONFIGS.items():
        model = minipeft.get_peft_model(tiny("gpt2"), config)
        shake(model)
        with tempfile.TemporaryDirectory() as place:
            model.save_pretrained(place, save_encoder=name in ("p-tuning", "prefix"))
            files = {p.name: p.read_bytes() for p in Path(place).iterdir()}
        found[name] = files
        found[f"{name}, no hashes"] = {**files, WEIGHTS: without_proof(files[WEIGHTS])}
    return found


def without_proof(data: bytes) -> bytes:
    """A weights file without our entry in its header."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = {"format": "pt"}
    return packed(header) + data[end:]


def packed(header: Any) -> bytes:
    """The first part of a safetensors file: the header's length, and the header."""
    text = json.dumps(header).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    return struct.pack("<Q", len(text)) + text


# --- mutations -----------------------------------------------------------------------------------

STRANGE: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 8, 17, 1024, 10**6, 10**9, 10**18, 2**63, -(2**31), 1e308,
    0.5, float("nan"), float("inf"), "", " ", "8", "true", "LORA", "c_attn", "all-linear", ".*",
    "(", "../..", "/etc/passwd", "\x00", "\ud800", "a" * 2000, [], [1], ["c_attn"], ["wte"],
    [["x"]], {}, {"c_attn": 4}, {"": 0}, {"r": {"r": {}}}, [0, 1], [[0, 2], [0, 2]],
]  # fmt: skip


def bytes_changed(chance: random.Random, data: bytes) -> bytes:
    """One to four changes of bytes anywhere, or of the first few hundred."""
    changed = bytearray(data)
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        end = max(1, min(len(changed), chance.choice([8, 300, 10**9])))
        at, length = chance.randrange(end), chance.choice([1, 1, 2, 8, 64, 1000])
        match chance.randrange(7):
            case 0 if changed:
                changed[at % len(changed)] ^= 1 << chance.randrange(8)
            case 1:
                changed[at : at + length] = chance.randbytes(length)
            case 2:
                del changed[at : at + length]
            case 3:
                changed[at:at] = chance.randbytes(length)
            case 4:
                changed[at:at] = changed[at : at + length]
            case 5:
                changed = changed[:at]
            case 6:
                changed[:8] = struct.pack(
                    "<Q", chance.choice([0, 1, 2**16, 2**31, 2**63, 2**64 - 1])
                )
    return bytes(changed)


def value_changed(chance: random.Random, value: Any) -> Any:
    """A JSON value with one part of it replaced, renamed, taken away or doubled."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key, new = chance.choice(sorted(value)), dict(value)
        match chance.randrange(5):
            case 0:
                new[key] = chance.choice(STRANGE)
            case 1:
                new[key] = value_changed(chance, value[key])
            case 2:
                del new[key]
            case 3:
                place = chance.randrange(len(key) + 1)
                new[key[:place] + chance.choice("_aeS ") + key[place + 1 :]] = new.pop(key)
            case 4:
                new[key] = value[chance.choice(sorted(value))]
        return new
    if isinstance(value, list) and value and chance.random() < 0.8:
        at = chance.randrange(len(value))
        return [*value[:at], value_changed(chance, value[at]), *value[at + 1 :]]
    return chance.choice(STRANGE)


def mutated(chance: random.Random, good: dict[str, Folder]) -> tuple[str, Folder]:
    """A folder of the corpus, changed; and what it was."""
    name = chance.choice(sorted(good))
    files = dict(good[name])
    for _ in range(chance.choice([1, 1, 2])):
        which = chance.choice(sorted(files))
        match chance.randrange(7):
            case 0 | 1:
                files[which] = bytes_changed(chance, files[which])
            case 2 | 3:
                try:
                    values = json.loads(files[CONFIG])
                except ValueError:
                    continue
                files[CONFIG] = json.dumps(value_changed(chance, values)).encode()
            case 4:
                data = files[WEIGHTS]
                end = 8 + int.from_bytes(data[:8], "little")
                try:
                    header = json.loads(data[8:end])
                except ValueError:
                    continue
                files[WEIGHTS] = packed(value_changed(chance, header)) + data[end:]
            case 5:
                files[which] = chance.choice(list(good.values())).get(which, b"")
            case 6:  # a number, and no more: what no reader of the format can see
                data = bytearray(files[WEIGHTS])
                end = 8 + int.from_bytes(data[:8], "little")
                if end < len(data):
                    data[chance.randrange(end, len(data))] ^= 1 << chance.randrange(8)
                files[WEIGHTS] = bytes(data)
    return name, files


# --- one case ------------------------------------------------------------------------------------


def try_one(base: Any, place: Path, trainable: bool, sound: dict[str, Any] | None) -> str:
    """Load a folder: "refused", "loaded" or "warned"; raises for what may not be.

    Args:
        base: a model; place: the folder.
        trainable: how to load it.
        sound: the tensors that a file with hashes must give, if it gives any.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            model = PeftModel.from_pretrained(base, place, is_trainable=trainable)
        except MinipeftError:
            return "refused"
    assert all(issubclass(w.category, MinipeftWarning) for w in said), [str(w) for w in said]
    tensors = minipeft.get_peft_model_state_dict(model)
    model.unload()
    if sound is not None:
        assert tensors.keys() == sound.keys()
        assert all(torch.equal(tensors[key], sound[key]) for key in sound), "damage not seen"
    return "warned" if said else "loaded"


def run(cases: int, seed: int) -> dict[str, Any]:
    """Try so many mutated folders; AssertionError for the first that did what it may not."""
    chance, good = random.Random(seed), corpus()
    bases = {False: tiny("gpt2").eval(), True: tiny("gpt2").eval()}
    before = {key: state_of(base) for key, base in bases.items()}
    known: dict[str, Any] = {}
    for name, files in good.items():
        with tempfile.TemporaryDirectory() as place:
            write(Path(place), files)
            model = PeftModel.from_pretrained(tiny("gpt2"), place)
            known[name] = copy.deepcopy(minipeft.get_peft_model_state_dict(model))
    came: collections.Counter[str] = collections.Counter()
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for case in range(cases):
        name, files = mutated(chance, good)
        trainable = chance.random() < 0.3
        header = files[WEIGHTS][: 8 + int.from_bytes(files[WEIGHTS][:8], "little")]
        untouched = header == good[name][WEIGHTS][: len(header)] and b"sha256" in header
        with tempfile.TemporaryDirectory() as place:
            write(Path(place), files)
            signal.alarm(20)
            try:
                sound = known[name] if untouched else None
                came[try_one(bases[trainable], Path(place), trainable, sound)] += 1
                assert state_of(bases[trainable]) == before[trainable], "the model was changed"
                assert files_now(Path(place)) == files, "the folder was changed"
            except BaseException as error:
                keep = Path(tempfile.mkdtemp(prefix=f"fuzz-{seed}-{case}-"))
                write(keep, files)
                traceback.print_exc()
                raise AssertionError(f"case {case} of seed {seed} ({name}): {keep}") from error
            finally:
                signal.alarm(0)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start
    largest = max(len(data) for files in good.values() for data in files.values())
    return {**came, "grown_kib": grown, "largest_file_kib": largest // 1024}


def write(place: Path, files: Folder) -> None:
    """Write the files into a folder."""
    for name, data in files.items():
        (place / name).write_bytes(data)


def files_now(place: Path) -> Folder:
    """The files in a folder."""
    return {p.name: p.read_bytes() for p in place.iterdir()}


if __name__ == "__main__":
    assert ENCODER in corpus()["p-tuning"]
    print(json.dumps(run(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)))
