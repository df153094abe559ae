"""What a row of each kind must be: its columns, its values, and when two rows are the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..checks.errors import DataError
from ..checks.say import did_you_mean, listed

if TYPE_CHECKING:
    from datasets import Dataset

# {kind: its columns}; "auto" takes the one whose columns are all there.
COLUMNS = {
    "chat": ("messages",),
    "completion": ("prompt", "completion"),
    "class": ("text", "label"),
    "text": ("text",),
}
ROLES = ("system", "user", "assistant", "tool")


def renamed(dataset: Dataset, columns: Mapping[str, str], name: str) -> Dataset:
    """The dataset with the columns that the user calls otherwise under our names."""
    ours = {column for needed in COLUMNS.values() for column in needed}
    for new, old in columns.items():
        if new not in ours:
            raise DataError(f"no kind of row has a column {new!r}{did_you_mean(new, ours)}")
        if old not in dataset.column_names:
            near = did_you_mean(old, dataset.column_names) or ";"
            there = listed(dataset.column_names)
            raise DataError(f"{name} has no column {old!r}{near} there are {there}")
    taken = [new for new, old in columns.items() if new != old and new in dataset.column_names]
    dataset = dataset.remove_columns(taken)
    return dataset.rename_columns({old: new for new, old in columns.items() if new != old})


def kind_of(names: Sequence[str], kind: str, source: str) -> str:
    """The kind that the columns tell, or the given one if they suffice for it."""
    fitting = [k for k, needed in COLUMNS.items() if set(needed) <= set(names)]
    if "class" in fitting:
        fitting.remove("text")  # a class has all that a text has
    if kind == "auto" and len(fitting) == 1:
        return fitting[0]
    known = "; ".join(f"{k}: {' and '.join(needed)}" for k, needed in COLUMNS.items())
    if kind == "auto" and fitting:
        raise DataError(f"{source} could be {' or '.join(fitting)}; say which, with kind")
    missing = [c for c in COLUMNS.get(kind, ()) if c not in names]
    if kind in COLUMNS and not missing:
        return kind
    wanted = missing or sorted({c for needed in COLUMNS.values() for c in needed})
    near = "".join(did_you_mean(column, names) for column in wanted[:1] if missing)
    need = f"for kind {kind!r} it lacks {listed(missing)}" if missing else f"a row needs {known}"
    raise DataError(
        f"{source} has the columns {listed(names)}; {need}{near} Say what a column is called with "
        f"columns={{'{wanted[0]}': 'ITS NAME'}} (--column {wanted[0]}=NAME)"
    )


def wrong(row: Mapping[str, Any], kind: str) -> str:
    """What is wrong with a row; empty if nothing is."""
    if kind == "chat":
        return wrong_chat(row["messages"])
    for column in COLUMNS[kind]:
        value = row[column]
        if value is not None and column != "label" and not isinstance(value, str):
            return f"{column} must be a string, got {value!r} ({type(value).__name__})"
    return ""


def wrong_chat(messages: Any) -> str:
    """What is wrong with a conversation."""
    if messages is None or messages == []:
        return ""
    if not isinstance(messages, list):
        return f"messages must be a list, got {type(messages).__name__}"
    for i, turn in enumerate(messages, 1):
        if not isinstance(turn, dict) or not {"role", "content"} <= set(turn):
            return f"message {i} must have a role and a content, got {turn!r}"
        if turn["role"] not in ROLES:
            near = did_you_mean(str(turn["role"]), ROLES)
            return f"message {i} has the role {turn['role']!r}, not one of {listed(ROLES)}{near}"
        if not isinstance(turn["content"], str):
            return f"message {i} has a content that is no string: {turn['content']!r}"
    if messages[-1]["role"] != "assistant":
        return "the last message is the user's; the assistant's is what would be learned"
    return ""


def is_empty(row: Mapping[str, Any], kind: str) -> bool:
    """Whether there is nothing to learn in a row."""
    if kind == "chat":
        return not row["messages"] or not row["messages"][-1]["content"].strip()
    column = COLUMNS[kind][-1] if kind == "completion" else COLUMNS[kind][0]
    value = row[column]
    return value is None or not value.strip() or (kind == "class" and row["label"] is None)


def identity(row: Mapping[str, Any], kind: str) -> str:
    """What makes two rows the same row: the text, the prompt, the conversation."""
    if kind == "chat":
        return repr([(turn["role"], turn["content"]) for turn in row["messages"]])
    if kind == "completion":
        return f"{row['prompt'] or ''}\0{row['completion']}"
    return str(row["text"])


def numbered(
    dataset: Dataset, labels: Sequence[str] | None, name: str
) -> tuple[Dataset, tuple[str, ...], list[str]]:
    """The dataset with labels as numbers, the classes by number, and what is to be said."""
    from datasets import ClassLabel, Value

    feature = dataset.features["label"]
    if isinstance(feature, ClassLabel):
        texts = [feature.int2str(label) for label in dataset["label"]]
    else:
        texts = [as_name(label) for label in dataset["label"]]
    counts = Counter(texts)
    known = tuple(labels) if labels else tuple(sorted(counts, key=by_number))
    strange = [text for text in counts if text not in known]
    if strange:
        raise DataError(
            f"{name} has the labels {listed(strange)}, which the rows trained on lack; they have "
            f"{listed(known)}"
        )
    if len(known) < 2:
        raise DataError(f"{name} has one class only, {listed(known)}: there is nothing to choose")
    few = [text for text in known if counts[text] == 1]
    said = [f"{name} has one row only for {listed(few)}"] if few else []
    number = {text: i for i, text in enumerate(known)}
    column = [number[text] for text in texts]
    dataset = dataset.remove_columns("label").add_column("label", column)
    return dataset.cast_column("label", Value("int64")), known, said


def as_name(label: Any) -> str:
    """A label as the name of its class: "true" for True, "3" for 3."""
    return str(label).lower() if isinstance(label, bool) else str(label)


def by_number(text: str) -> tuple[int, float, str]:
    """Sorts numbers by value, and before words."""
    try:
        return 0, float(text), text
    except ValueError:
        return 1, 0.0, text


def first_lines(numbers: Iterable[int]) -> str:
    """`3, 7 and 12 more`."""
    return listed(map(str, numbers), 5).replace("'", "")
