"""Where rows come from: a file of one of six kinds, a dataset, a list; all read by `datasets`."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks.errors import DataError
from ..checks.say import did_you_mean, listed

if TYPE_CHECKING:
    from datasets import Dataset

# {ending: the name that `datasets` has for its reader}
READERS = {
    ".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet",
    ".txt": "text",
}  # fmt: skip


def load(source: Any, split: str) -> tuple[Dataset, str, str]:
    """A source as a `Dataset`, its name, and its digest."""
    from datasets import Dataset, DatasetDict, load_from_disk

    if isinstance(source, DatasetDict):
        return _split_of(source, split, "the dataset")
    if isinstance(source, Dataset):
        return source, "the dataset", f"fingerprint:{source._fingerprint}"
    if isinstance(source, (list, tuple)):
        if not all(isinstance(row, Mapping) for row in source):
            raise DataError("a list of rows must hold dicts, such as {'text': '...'}")
        text = json.dumps(list(source), sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()
        try:
            return Dataset.from_list(list(source)), "the list", f"sha256:{digest}"
        except (TypeError, ValueError, OverflowError) as error:  # pyarrow's are among them
            raise DataError(f"the rows of the list do not agree in type: {error}") from error
    if not isinstance(source, (str, os.PathLike)) or not str(source):
        raise DataError(f"rows come from a file, a dataset or a list of dicts, got {source!r}")
    path = Path(source).expanduser()
    if path.is_file():
        return _from_file(path), str(source), f"sha256:{_digest(path)}"
    if path.is_dir():
        try:
            found = load_from_disk(str(path))
        except (FileNotFoundError, ValueError, OSError) as error:
            raise DataError(
                f"the folder {source} is none that Dataset.save_to_disk wrote ({error}); give a "
                f"file: {', '.join(READERS)}"
            ) from error
        if isinstance(found, DatasetDict):
            return _split_of(found, split, str(source))
        return found, str(source), f"fingerprint:{found._fingerprint}"
    if path.suffix.lower() in READERS or os.sep in str(source)[:2]:
        near = did_you_mean(path.name, _neighbours(path))
        raise DataError(f"there is no file {str(source)!r}{near}")
    return _from_hub(str(source), split)


def _neighbours(path: Path) -> list[str]:
    return [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _split_of(found: Any, split: str, name: str) -> tuple[Dataset, str, str]:
    if split not in found:
        raise DataError(f"{name} has no split {split!r}; there are {listed(found)}")
    return found[split], f"{name} ({split})", f"fingerprint:{found[split]._fingerprint}"


def _from_hub(name: str, split: str) -> tuple[Dataset, str, str]:
    from datasets import load_dataset

    try:
        found = load_dataset(name)
    except Exception as error:  # no network, no such name, a script: one answer
        raise DataError(
            f"{name!r} is no file here, and could not be had as a dataset from the Hugging Face "
            f"hub ({type(error).__name__}); give a file: {', '.join(READERS)}"
        ) from error
    return _split_of(found, split, name)


def _from_file(path: Path) -> Dataset:
    """A file's rows, by the reader for its ending; mistakes in it are looked for first."""
    from datasets import Dataset, Features, Value, load_dataset

    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"{path} ends in {path.suffix or 'nothing'!r}, and rows are read from "
            f"{', '.join(READERS)}"
        )
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty")
    if reader != "parquet":
        check_utf8(path)
    if reader == "text":
        text = path.read_text(encoding="utf-8-sig")
        paragraphs = [p.strip() for p in re.split(r"\n\s*\n", "\n".join(text.splitlines()))]
        return Dataset.from_dict({"text": [p for p in paragraphs if p]})
    if path.suffix.lower() == ".jsonl":
        check_json_lines(path)
    options: dict[str, Any] = {"sep": "\t"} if path.suffix.lower() == ".tsv" else {}
    if reader == "csv":  # a cell is text, "007" and "NA" too
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file, delimiter=options.get("sep", ",")), [])
        features = Features({name: Value("string") for name in header})
        options |= {"features": features, "keep_default_na": False, "encoding": "utf-8-sig"}
    try:
        with no_bars():
            return load_dataset(reader, data_files=str(path), split="train", **options)
    except Exception as error:  # datasets wraps the parsers' errors, the reason is underneath
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if "corresponds to no data" in str(cause):
            raise DataError(f"{path} holds no rows") from None
        reason = str(cause).strip().splitlines()
        raise DataError(f"{path} cannot be read: {reason[0] if reason else error!r}") from error


@contextmanager
def no_bars() -> Iterator[None]:
    """`datasets` without its progress bars."""
    from datasets.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    before = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            enable_progress_bars()


def check_utf8(path: Path) -> None:
    """Refuse a file that is not UTF-8, with the line and the byte."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path}, line {number}: byte {error.start + 1} is {line[error.start]:#04x}, "
                    f"so the file is not UTF-8; save it as UTF-8"
                ) from None


def check_json_lines(path: Path) -> None:
    """Refuse a line that is no JSON object, with its number; blank lines are passed over."""
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}, line {number}: not JSON: {error}") from None
            if not isinstance(value, dict):
                raise DataError(
                    f"{path}, line {number}: a row must be a JSON object such as "
                    f'{{"text": "..."}}, got {type(value).__name__}'
                )
