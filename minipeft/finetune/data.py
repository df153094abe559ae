"""Rows to learn from: files, datasets and lists, read by `datasets`, and checked row by row.

A row is one of four kinds, told by its columns:

- text: "text"; a .txt file is one running text, its paragraphs (between blank lines) are the rows;
- completion: "prompt" and "completion"; the completion is learned;
- chat: "messages", a list of {"role": ..., "content": ...}; the assistant's turns are learned;
- class: "text" and "label".

What cannot be used is said: an error names the file and the line, and a row that is left out is
counted in the table's `said`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..checks.errors import DataError
from .rows import COLUMNS, first_lines, identity, is_empty, kind_of, numbered, renamed, wrong
from .sources import load

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Table:
    """Checked rows of one kind.

    Attributes:
        rows: a `datasets.Dataset` with the columns of its kind; a class's label is its number.
        kind: "text", "completion", "chat" or "class".
        labels: the classes' names, sorted; empty for other kinds.
        source: the file or dataset, as it was given.
        digest: "sha256:..." of the bytes of the file, or a dataset's fingerprint.
        said: what was found and what was done about it, one sentence each.
    """

    rows: Dataset
    kind: str
    labels: tuple[str, ...]
    source: str
    digest: str
    said: tuple[str, ...] = ()


def read(
    source: Any,
    *,
    kind: str = "auto",
    columns: Mapping[str, str] | None = None,
    split: str = "train",
    labels: Sequence[str] | None = None,
) -> Table:
    """Read rows and check each of them.

    Args:
        source: a .jsonl, .json, .csv, .tsv, .txt or .parquet file; a folder that
            `Dataset.save_to_disk` wrote; a `Dataset`; a list of dicts; or a name on the hub.
        kind: "text", "completion", "chat", "class", or "auto": as the columns say.
        columns: what a column is called in the data: {"prompt": "question"}.
        split: which split of a dataset that has several.
        labels: the classes in order, from the table that was trained on; new ones are refused.

    Returns:
        a `Table`. Rows that are empty are left out, and said.

    Raises:
        DataError: no such file, or not one of these; not UTF-8, not JSON, no rows, a column is
            missing, or a value has the wrong type: with the line where there is one.
    """
    dataset, name, digest = load(source, split)
    first = 2 if name.endswith((".csv", ".tsv")) else 1  # the first line of a csv is its header
    dataset = renamed(dataset, columns or {}, name)
    if not len(dataset):
        raise DataError(f"{name} holds no rows")
    kind = kind_of(dataset.column_names, kind, name)
    dataset = dataset.select_columns(COLUMNS[kind])
    keep: list[int] = []
    empty: list[int] = []
    for i, row in enumerate(dataset):
        problem = wrong(row, kind)
        if problem:
            raise DataError(f"{name}, row {i + first}: {problem}")
        (empty if is_empty(row, kind) else keep).append(i)
    said = []
    if empty:
        where = first_lines(i + first for i in empty)
        said.append(f"{len(empty)} of {len(dataset)} rows of {name} are empty: left out ({where})")
    if not keep:
        raise DataError(f"all {len(dataset)} rows of {name} are empty")
    dataset = dataset.select(keep) if empty else dataset
    twice = len(dataset) - len({identity(row, kind) for row in dataset})
    if twice:
        said.append(f"{twice} rows of {name} repeat another; they are kept")
    known: tuple[str, ...] = ()
    if kind == "class":
        dataset, known, more = numbered(dataset, labels, name)
        said += more
    return Table(dataset, kind, known, name, digest, tuple(said))


def split(table: Table, validation: float | int, seed: int) -> tuple[Table, Table]:
    """Rows to train on and rows to hold out.

    Rows that are the same stand on the same side. Classes are held out in equal shares, as far as
    whole rows allow.

    Args:
        table: the rows.
        validation: a share in (0, 1), or a number of rows.
        seed: the same seed holds out the same rows.

    Raises:
        DataError: that would leave no row on one side.
    """
    groups: dict[str, list[int]] = {}  # rows that are the same
    for i, row in enumerate(table.rows):
        groups.setdefault(identity(row, table.kind), []).append(i)
    total = len(table.rows)
    wanted = round(validation * total) if isinstance(validation, float) else validation
    wanted = max(1, wanted) if isinstance(validation, float) and 0 < validation < 1 else wanted
    if not 0 < wanted < total or len(groups) < 2:
        raise DataError(
            f"validation={validation:g} of {total} rows ({len(groups)} different) leaves nothing "
            f"to {'train on' if wanted else 'hold out'}; give a share such as 0.1, or a number"
        )
    order = list(groups.values())
    random.Random(seed).shuffle(order)
    if table.kind == "class":  # spread each class evenly, then take from the front
        labels = table.rows["label"]
        place: dict[int, int] = {}
        sizes = {c: sum(labels[g[0]] == c for g in order) for c in set(labels)}
        keyed = []
        for group in order:
            c = labels[group[0]]
            place[c] = place.get(c, 0) + 1
            keyed.append(((place[c] - 0.5) / sizes[c], c, group))
        order = [group for _, _, group in sorted(keyed, key=lambda k: k[:2])]
    held: list[int] = []
    while order and len(held) < wanted:
        held += order.pop(0)
    kept = sorted(i for group in order for i in group)
    if not kept:
        raise DataError(f"validation={validation:g} leaves nothing to train on: rows repeat")
    return (
        replace(table, rows=table.rows.select(kept)),
        replace(table, rows=table.rows.select(sorted(held)), said=()),
    )
