"""Rows to tokens: what is learned, what is cut, what is packed.

A label of -100 is not learned. Labels count

- in a text: every token, and the eos that closes it;
- in a completion: the completion and the eos that closes it, not the prompt;
- in a chat: what the assistant says, as the tokenizer's chat template writes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..checks.errors import ConfigError, DataError
from ..lab.training import encode as encode_pair
from .data import Table
from .rows import first_lines

if TYPE_CHECKING:
    from datasets import Dataset

IGNORED = -100
Pair = tuple[list[int], list[int]]  # ids and labels, equally long


@dataclass(frozen=True)
class Encoded:
    """Rows as tokens.

    Attributes:
        rows: a `Dataset` with "input_ids" and "labels": a list as long, or a class's number.
        said: what was cut or left out, one sentence each.
        tokens: how many tokens there are; counted: how many labels are learned.
        truncated: how many rows were cut.
    """

    rows: Dataset
    said: tuple[str, ...]
    tokens: int
    counted: int
    truncated: int


def encode(table: Table, tokenizer: Any, *, max_length: int, packing: bool = False) -> Encoded:
    """Tokenize a table.

    A row longer than `max_length` is cut: a text and a class's text at the end, a prompt at its
    beginning, so that the completion stays whole; a completion or chat too long by itself at the
    end. A row that is left without a label to learn is left out. Both are counted and said.

    Args:
        table: the rows.
        tokenizer: the base model's.
        max_length: the most tokens in a row or block, at least 2.
        packing: for texts: all rows one after another, cut into blocks of `max_length`; the last
            one may be shorter. Nothing is cut away then.

    Raises:
        ConfigError: `packing` for another kind, where a row would attend to those before it.
        DataError: a chat without a template, or no row has a label to learn.
    """
    from datasets import Dataset

    if packing and table.kind != "text":
        raise ConfigError(
            f"packing joins texts; in rows of kind {table.kind!r} each would attend to those "
            f"before it: leave packing out"
        )
    if table.kind == "class":
        texts = [pair[0] for pair in texts_of(table.rows["text"], tokenizer, eos=False)]
        long = [i for i, ids in enumerate(texts) if len(ids) > max_length]
        ids = [row[:max_length] for row in texts]
        columns: dict[str, Any] = {"input_ids": ids, "labels": list(table.rows["label"])}
        rows = Dataset.from_dict(columns)
        return Encoded(
            rows, cut_said(long, len(rows), max_length), sum(map(len, ids)), len(rows), len(long)
        )
    if table.kind == "text":
        pairs = texts_of(table.rows["text"], tokenizer, eos=True)
    elif table.kind == "completion":
        pairs = [completion(row, tokenizer) for row in table.rows]
    else:
        pairs = [chat(row["messages"], tokenizer, i) for i, row in enumerate(table.rows, 1)]
    said: tuple[str, ...] = ()
    cut: list[int] = []
    if packing:
        joined = [token for ids, _ in pairs for token in ids]
        blocks = [joined[i : i + max_length] for i in range(0, len(joined), max_length)]
        blocks = [block for block in blocks if len(block) > 1]  # one token predicts nothing
        pairs = [(block, list(block)) for block in blocks]
    else:
        cut = [i for i, (ids, _) in enumerate(pairs) if len(ids) > max_length]
        bos = tokenizer.bos_token_id
        pairs = [shortened(pair, max_length, table.kind, bos) for pair in pairs]
        said = cut_said(cut, len(pairs), max_length)
        lost = [i for i, pair in enumerate(pairs) if not learned(pair)]
        if lost:
            said += (
                f"{len(lost)} of {len(pairs)} rows have no label left to learn: left out "
                f"({first_lines(i + 1 for i in lost)})",
            )
        pairs = [pair for pair in pairs if learned(pair)]
    if not pairs:
        raise DataError(f"no row of {table.source} has a label to learn at max_length={max_length}")
    rows = Dataset.from_dict({"input_ids": [p[0] for p in pairs], "labels": [p[1] for p in pairs]})
    tokens = sum(len(ids) for ids, _ in pairs)
    return Encoded(rows, said, tokens, sum(map(learned, pairs)), len(cut))


def learned(pair: Pair) -> int:
    """How many labels count: the first token is predicted by nothing."""
    return sum(label != IGNORED for label in pair[1][1:])


def cut_said(cut: list[int], rows: int, max_length: int) -> tuple[str, ...]:
    """The sentence about rows that were cut."""
    if not cut:
        return ()
    where = first_lines(i + 1 for i in cut)
    return (f"{len(cut)} of {rows} rows are longer than {max_length} tokens: cut ({where})",)


def texts_of(texts: Sequence[str], tokenizer: Any, *, eos: bool) -> list[Pair]:
    """Texts with all labels, closed by eos if asked (a tokenizer that adds it does so once)."""
    # verbose=False: transformers would warn of rows that are longer than it was told
    found = tokenizer(list(texts), verbose=False)["input_ids"]
    end = [tokenizer.eos_token_id] if eos else []
    found = [ids if ids[-1:] == end else [*ids, *end] for ids in found]
    return [(ids, list(ids)) for ids in found]


def completion(row: Mapping[str, str], tokenizer: Any) -> Pair:
    """A prompt and its completion, tokenized apart, with labels on the completion."""
    prompt, wanted = encode_pair(tokenizer, {**row, "prompt": row["prompt"] or ""})
    return prompt + wanted, [IGNORED] * len(prompt) + wanted


def shortened(pair: Pair, max_length: int, kind: str, bos: int | None) -> Pair:
    """A row of at most `max_length` tokens: of a completion the prompt's beginning goes first.

    A bos in front stays. What is too long still is cut at the end.
    """
    ids, labels = pair
    surplus = len(ids) - max_length
    if surplus > 0 and kind == "completion":
        prompt = next((i for i, label in enumerate(labels) if label != IGNORED), len(labels))
        keep = 1 if prompt and ids[0] == bos else 0
        gone = keep + min(surplus, prompt - keep)
        ids, labels = ids[:keep] + ids[gone:], labels[:keep] + labels[gone:]
    return ids[:max_length], labels[:max_length]


def chat(messages: list[dict[str, str]], tokenizer: Any, number: int) -> Pair:
    """A conversation as the template writes it, with labels on what the assistant says.

    A template with {% generation %} marks that itself. Of others, an assistant's turn is what the
    template adds to the conversation before it, with the prompt for the assistant written already.

    Raises:
        DataError: the tokenizer has no template; or the template writes earlier turns in another
            way when later ones follow, so that a turn has no fixed place.
    """
    template = tokenizer.chat_template
    if template is None:
        raise DataError(
            "rows of messages are written by the tokenizer's chat template, and this one has none: "
            "take an instruction-tuned base, or give rows with prompt and completion"
        )
    if "{% generation" in template or "{%- generation" in template:
        found = tokenizer.apply_chat_template(
            messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        ids, mask = found["input_ids"], found["assistant_masks"]
        return ids, [t if m else IGNORED for t, m in zip(ids, mask, strict=True)]

    def written(turns: list[dict[str, str]], prompt: bool = False) -> str:
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt)
        return str(text)

    whole, spans = written(messages), []
    for i, turn in enumerate(messages):
        if turn["role"] != "assistant":
            continue
        # some templates cannot write an empty conversation
        before = written(messages[:i], prompt=True) if i else ""
        upto = written(messages[: i + 1])
        if not (whole.startswith(upto) and upto.startswith(before)):
            raise DataError(
                f"row {number}: this tokenizer's chat template writes message {i + 1} otherwise "
                f"when others follow, so its tokens cannot be told apart; give one assistant "
                f"message per row, the last, or rows with prompt and completion"
            )
        spans.append((len(before), len(upto)))
    found = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids, starts = found["input_ids"], [start for start, _ in found["offset_mapping"]]
    inside = [any(low <= start < high for low, high in spans) for start in starts]
    return ids, [t if m else IGNORED for t, m in zip(ids, inside, strict=True)]


class Collator:
    """Encoded rows to a batch, padded on the right.

    Args:
        tokenizer: its pad token fills up.
        kind: a table's kind.
    """

    def __init__(self, tokenizer: Any, kind: str):
        self.pad, self.kind = int(tokenizer.pad_token_id), kind

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """`input_ids`, `attention_mask` (b, t) and `labels` (b, t), or (b,) for classes: int64."""
        width = max(len(row["input_ids"]) for row in rows)

        def padded(name: str, fill: int) -> torch.Tensor:
            full = [[*row[name], *[fill] * (width - len(row[name]))] for row in rows]
            return torch.tensor(full)

        mask = [[1] * len(r["input_ids"]) + [0] * (width - len(r["input_ids"])) for r in rows]
        labels = (
            torch.tensor([row["labels"] for row in rows])
            if self.kind == "class"
            else padded("labels", IGNORED)
        )
        ids = padded("input_ids", self.pad)
        return {"input_ids": ids, "attention_mask": torch.tensor(mask), "labels": labels}
