"""Saving as one transaction: killed at any moment, on a full disk, and with a rival."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import CONFIG, WEIGHTS, files_of
from torn_saves import OPTIONS, main, model_of, which_is

import minipeft
from minipeft.checks.errors import CheckpointError, CheckpointNotFoundError
from minipeft.saving import atomic as folders


def theirs(peft: Any, folder: Path) -> int | None:
    """What Hugging Face peft finds in the folder; None if there is no config, and so no adapter."""
    if not (folder / CONFIG).exists():
        return None
    torch.manual_seed(0)
    base = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Linear(8, 3))
    loaded = peft.PeftModel.from_pretrained(base, folder)
    config = loaded.peft_config["default"]
    which = OPTIONS.index({"r": config.r, "lora_alpha": config.lora_alpha})
    values = peft.get_peft_model_state_dict(loaded).values()
    assert {float(x) for t in values for x in t.unique()} == {which + 1.0}
    return which


def child_saves(folder: Path, seed: int, times: int = 10**9) -> int:
    """A copy of this process that saves in turn; it needs no import, so it is there at once."""
    child = os.fork()
    if child == 0:
        try:
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
            main(str(folder), seed, times)
        finally:
            os._exit(0)
    return child


def kills(times: int, tmp_path: Path, peft: Any) -> tuple[list[bool], int]:
    """Kill a save so often, at random moments; which had decided, and how many left litter."""
    chance, found, left = random.Random(0), [], 0
    longest = 0.02  # s; made to fit what a save takes here, now: half of the kills come too late
    model_of(0).save_pretrained(tmp_path)
    for turn in range(times):
        before = which_is(tmp_path)
        child = child_saves(tmp_path, seed=before + 1, times=1)
        time.sleep(chance.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        left += any(p.name.startswith(".s") for p in tmp_path.iterdir())
        now = which_is(tmp_path)  # raises if files of two adapters are mixed
        assert now in (before, (before + 1) % 3), f"kill {turn}"
        theirs(peft, tmp_path)  # an older one or none, but no mixture
        found.append(now != before)
        longest *= 0.9 if found[-1] else 1.15
    model_of(2).save_pretrained(tmp_path)
    assert which_is(tmp_path) == theirs(peft, tmp_path) == 2
    assert sorted(files_of(tmp_path)) == [CONFIG, WEIGHTS]  # the litter of the dead is swept
    return found, left


@pytest.mark.smoke
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_two_kills_while_saving(tmp_path: Path, peft: Any):
    kills(2, tmp_path, peft)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_100_kills_while_saving(tmp_path: Path, peft: Any):
    found, left = kills(100, tmp_path, peft)
    # the kills fell on both sides of the decision, and some in the middle of a save
    assert 5 < sum(found) < 95
    assert left > 5


@pytest.mark.parametrize("old_is_theirs", [False, True])
def test_stopped_before_each_step_the_folder_has_one_adapter(
    tmp_path: Path, peft: Any, monkeypatch: pytest.MonkeyPatch, old_is_theirs: bool
):
    """Every call to the disk is a place to die; none is passed over."""
    number, seen = 0, set()
    while True:
        place = tmp_path / str(number)
        model_of(0).save_pretrained(place)
        if old_is_theirs:
            torch.manual_seed(0)
            base = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Linear(8, 3))
            peft.PeftModel.from_pretrained(base, place).save_pretrained(place)
        if not die_before(number, place, monkeypatch):
            break
        now = which_is(place)
        assert theirs(peft, place) in (0, now, None)
        seen.add(now)
        model_of(2).save_pretrained(place)
        assert which_is(place) == theirs(peft, place) == 2
        assert {p.name for p in place.iterdir()} <= {CONFIG, WEIGHTS, "README.md"}
        number += 1
    assert number > 15
    assert seen == {0, 1}


class Dead(BaseException):
    """The process is gone: nothing that it would still do is done."""


def die_before(number: int, place: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Save adapter 1, and die before disk call `number`; False if there are not so many."""
    calls = [0]

    def mortal(real: Any) -> Any:
        def called(*args: Any, **kwargs: Any) -> Any:
            if calls[0] >= number:  # dead: also what would tidy up does nothing
                calls[0] += 1
                raise Dead
            calls[0] += 1
            return real(*args, **kwargs)

        return called

    with monkeypatch.context() as patch:
        patch.setattr(folders, "sync", mortal(folders.sync))
        patch.setattr(folders.os, "rename", mortal(os.rename))
        patch.setattr(folders.os, "replace", mortal(os.replace))
        patch.setattr(folders.tempfile, "mkdtemp", mortal(folders.tempfile.mkdtemp))
        patch.setattr(Path, "unlink", mortal(Path.unlink))
        patch.setattr(Path, "chmod", mortal(Path.chmod))
        patch.setattr(folders.shutil, "rmtree", mortal(folders.shutil.rmtree))
        try:
            model_of(1).save_pretrained(place)
        except Dead:
            return True
    return False


def test_two_writers_and_a_reader(tmp_path: Path):
    script = Path(__file__).parents[1] / "support" / "torn_saves.py"
    model_of(0).save_pretrained(tmp_path)
    command = [sys.executable, str(script), str(tmp_path)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "text": True}
    writers = [subprocess.Popen([*command, str(seed), "60"], **pipes) for seed in (0, 1)]
    seen = []
    with writers[0], writers[1]:
        assert [writer.stdout.readline() for writer in writers] == ["ready\n"] * 2  # type: ignore[union-attr]
        while any(writer.poll() is None for writer in writers):
            seen.append(which_is(tmp_path))
    assert [writer.returncode for writer in writers] == [0, 0]
    assert set(seen) == {0, 1, 2}
    assert len(seen) > 20
    assert sorted(files_of(tmp_path)) == [CONFIG, WEIGHTS]


@pytest.mark.parametrize("size", [0, 10, 300, 1000, 1500])
def test_a_disk_that_fills_leaves_the_old_adapter(tmp_path: Path, size: int):
    """The kernel itself refuses to let a file grow past `size` bytes."""
    model_of(0).save_pretrained(tmp_path)
    before, limits = files_of(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    other = model_of(1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(CheckpointError, match=r"cannot be written to .*[Ff]ile too large"):
            other.save_pretrained(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert files_of(tmp_path) == before
    assert which_is(tmp_path) == 0


def test_a_real_small_disk(tmp_path: Path):
    """A file system of 64 KiB, where this machine lets us mount one."""
    script = Path(__file__).parents[1] / "support" / "torn_saves.py"
    save = f"{sys.executable} {script} {tmp_path}"
    inside = (
        f"mount -t tmpfs -o size=64k none {tmp_path} && {save} 0 1 && "
        f"cat /dev/zero > {tmp_path}/ballast; ! {save} 1 1 && {save}"
    )
    ran = subprocess.run(["unshare", "-m", "sh", "-c", inside], capture_output=True, text=True)
    if "mount" in ran.stderr or "unshare" in ran.stderr:
        pytest.skip("no right to mount a file system")
    assert ran.returncode == 0, ran.stderr
    assert "No space left on device" in ran.stderr
    assert ran.stdout.split() == ["ready", "0", "ready", "0"]


def test_what_lies_beside_is_left(tmp_path: Path):
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / "adapter_model.bin").write_bytes(b"old")
    model_of(0).save_pretrained(tmp_path)
    model_of(1).save_pretrained(tmp_path)
    assert which_is(tmp_path) == 1
    assert (tmp_path / "README.md").read_text() == "mine"
    assert (tmp_path / "adapter_model.bin").read_bytes() == b"old"


def test_the_same_adapter_gives_the_same_bytes(tmp_path: Path):
    for turn in range(5):
        model_of(0).save_pretrained(tmp_path / str(turn))
    assert len({(tmp_path / str(turn) / WEIGHTS).read_bytes() for turn in range(5)}) == 1


def test_a_refused_save_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(minipeft.saving.checkpoint, "save_file", full)
    with pytest.raises(CheckpointError, match="no space left"):
        model_of(0).save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path):
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    model_of(0).save_pretrained(outside)
    model_of(1).save_pretrained(inside)
    for name in (CONFIG, WEIGHTS):
        (inside / name).unlink()
        (inside / name).symlink_to(outside / name)
        with pytest.raises(CheckpointError, match=rf"{name} is a link to .*outside the adapter's"):
            which_is(inside)
        model_of(1).save_pretrained(inside)  # the link is replaced, what it pointed to is not
        assert not (inside / name).is_symlink()
        assert which_is(outside) == 0
        assert which_is(inside) == 1
    (inside / ".saved").symlink_to(outside)
    with pytest.raises(CheckpointError, match=r"is a link to .*outside the adapter's folder"):
        which_is(inside)


def test_the_hubs_own_links_are_followed(tmp_path: Path):
    model_of(0).save_pretrained(tmp_path / "plain")
    snapshot, blobs = tmp_path / "models--a--b/snapshots/abc", tmp_path / "models--a--b/blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for name in (CONFIG, WEIGHTS):
        (tmp_path / "plain" / name).rename(blobs / name[-9:])
        (snapshot / name).symlink_to(f"../../blobs/{name[-9:]}")
    assert which_is(snapshot) == 0


def test_weights_without_their_config_still_know_it(tmp_path: Path):
    model_of(1).save_pretrained(tmp_path)
    (tmp_path / CONFIG).unlink()
    assert which_is(tmp_path) == 1
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(CheckpointNotFoundError, match=r"has no adapter_config.json, so it is no"):
        which_is(tmp_path)


def test_a_config_beside_other_weights_is_said(tmp_path: Path):
    for which in (0, 1):
        model_of(which).save_pretrained(tmp_path / str(which))
    (tmp_path / "0" / CONFIG).replace(tmp_path / "1" / CONFIG)
    said = "is not what was saved with the weights .*lora_alpha: 64 then, 8 now"
    with pytest.warns(minipeft.MinipeftWarning, match=said), pytest.raises(AssertionError):
        which_is(tmp_path / "1")


@pytest.mark.parametrize("key", ["0.lora_A", "0.lora_B", "1.lora_A", "1.lora_B"])
def test_one_flipped_bit_is_named(tmp_path: Path, key: str):
    model_of(0).save_pretrained(tmp_path)
    data = bytearray((tmp_path / WEIGHTS).read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    full = f"base_model.model.{key}.weight"
    data[start + header[full]["data_offsets"][0]] ^= 1  # the lowest bit of the first number
    (tmp_path / WEIGHTS).write_bytes(data)
    with warnings.catch_warnings(), pytest.raises(CheckpointError, match=f"'{full}' is not what"):
        which_is(tmp_path)
