"""An adapter's files changed together: after a crash all of them are old, or all are new.

my-lora/.saving-x7f2/   being written; no reader looks here. A killed writer leaves it, and the next
                        save deletes it.
my-lora/.saved/         decided: every byte is on the disk. The files move from here into my-lora,
                        and until one has moved, readers take it from here.

The rename of the first folder to the second is the one moment at which old becomes new. Other
readers, such as Hugging Face peft, know nothing of `.saved`. So that they never see a config beside
the weights of another, the old config is taken away before the new weights come, and the new config
comes last: stopped in between, such a reader finds no config, and says so.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ..checks.errors import CheckpointError

try:
    import fcntl
except ImportError:  # Windows: two writers at one moment are not kept apart there
    fcntl = None  # type: ignore[assignment]

STAGE, DECIDED = ".saving-", ".saved"
# Beside the staged files, for one that the new adapter does not have: it is to be deleted.
GONE = ".gone"


@contextmanager
def locked(folder: Path, *, shared: bool = False, wait: bool = True) -> Iterator[bool]:
    """Keep other writers out of a folder; with `shared`, let other readers in.

    The lock is on the folder itself, so it leaves no file behind, and ends with its process.

    Yields:
        whether it was had: not on a file system without locks, and without `wait` not if another
        process holds it.
    """
    how = 0 if fcntl is None else (fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    handle = None
    try:
        handle = os.open(folder, os.O_RDONLY) if how else None
        if handle is not None:
            fcntl.flock(handle, how if wait else how | fcntl.LOCK_NB)
        had = handle is not None
    except OSError:
        had = False
    try:
        yield had
    finally:
        if handle is not None:
            os.close(handle)


def find(folder: Path, name: str) -> Path:
    """Where a file of the folder is now; it need not exist.

    Raises:
        CheckpointError: it is a link that leads out of the folder.
    """
    decided = folder / DECIDED
    staged = any((decided / each).is_file() for each in (name, name + GONE))
    path = (decided if staged else folder) / name
    if not path.is_symlink() and not decided.is_symlink():
        return path
    home, end = folder.resolve(), path.resolve()
    # the hub's cache: models--org--name/snapshots/<revision>/<file> -> ../../blobs/<hash>
    roots = [home, *(p.parent / "blobs" for p in home.parents if p.name == "snapshots")]
    if not any(root in end.parents for root in roots):
        raise CheckpointError(
            f"{path} is a link to {end}, outside the adapter's folder; copy the file itself there"
        )
    return path


def replace_files(folder: Path, names: Collection[str], write: Callable[[Path], Any]) -> None:
    """Replace the files called `names` by those that `write(stage)` writes, all or none.

    Args:
        folder: made if it is not there.
        names: all files that belong together, in the order in which they come into the folder; of
            these, the ones that `write` leaves out are deleted.
        write: gets an empty folder to write into.

    Raises:
        OSError: a full disk, a folder without the right to write; the files are as they were.
    """
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    stage = None
    with ExitStack() as alive:
        try:
            with locked(folder) as had:
                if had:
                    sweep(folder)
                stage = Path(tempfile.mkdtemp(prefix=STAGE, dir=folder))
                alive.enter_context(locked(stage))  # says to a sweep that its writer lives
            write(stage)
            for name in names:
                if not (stage / name).exists():
                    (stage / (name + GONE)).touch()
            for path in stage.iterdir():
                path.chmod(0o644)
                sync(path)
            stage.chmod(0o755)
            sync(stage)
            with locked(folder):
                finish(folder, names)  # what a killed writer had decided
                os.rename(stage, folder / DECIDED)
                sync(folder)
                finish(folder, names)
        except BaseException:
            if stage is not None:
                shutil.rmtree(stage, ignore_errors=True)
            if made:
                remove_empty(folder)
            raise


def finish(folder: Path, names: Collection[str]) -> None:
    """Move what is decided into the folder, the last of `names` last."""
    decided = folder / DECIDED
    if not decided.is_dir() or decided.is_symlink():
        return
    *others, last = names
    if (decided / last).exists() and not same(decided / last, folder / last):
        (folder / last).unlink(missing_ok=True)  # no reader shall pair it with the new ones
        sync(folder)
    for name in [*others, last]:
        if (decided / name).exists():
            os.replace(decided / name, folder / name)
        if (decided / (name + GONE)).exists():
            (folder / name).unlink(missing_ok=True)
            (decided / (name + GONE)).unlink()
    sync(folder)
    shutil.rmtree(decided)


def same(one: Path, other: Path) -> bool:
    """Whether two small files hold the same bytes."""
    return other.is_file() and one.read_bytes() == other.read_bytes()


def sweep(folder: Path) -> None:
    """Delete the stages of writers that were killed."""
    for stage in folder.glob(f"{STAGE}*"):
        with locked(stage, wait=False) as dead:
            if dead and not stage.is_symlink():
                shutil.rmtree(stage, ignore_errors=True)


def remove_empty(folder: Path) -> None:
    """Take a folder away that a refused save had made."""
    try:
        folder.rmdir()
    except OSError:  # another writer has put something there
        return


def sync(path: Path) -> None:
    """Have the disk hold a file's bytes, or the names in a folder."""
    if os.name == "nt" and path.is_dir():  # Windows opens no folders
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_file(target: Path, write: Callable[[str], Any]) -> None:
    """Write beside the target, then rename over it: a reader sees the old file or the new one."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.close(handle)
    try:
        write(name)
        os.chmod(name, 0o644)  # mkstemp makes files that only their owner may read
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
