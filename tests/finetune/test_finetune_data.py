"""Reading rows, and rows to tokens: what is learned, cut, packed, left out, and said."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minipeft.checks.errors import ConfigError, DataError
from minipeft.finetune.data import read, split
from minipeft.finetune.encode import IGNORED, Collator, encode
from minipeft.lab import training
from minipeft.lab.assets import __file__ as assets_file
from minipeft.lab.zoo import load_base

REQUESTS = Path(assets_file).parent / "requests.jsonl"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_base("tiny-llama")[1]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets.config

    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)


def write(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


@pytest.mark.parametrize(
    ("name", "content", "kind", "rows"),
    [
        ("a.jsonl", '{"text": "a b"}\n\n{"text": "c"}\n', "text", [{"text": "a b"}, {"text": "c"}]),
        ("a.json", '[{"text": "a"}, {"text": "b"}]', "text", [{"text": "a"}, {"text": "b"}]),
        ("a.csv", "text\n007\nNA\n", "text", [{"text": "007"}, {"text": "NA"}]),
        ("a.csv", 'text\n"a\nb, c"\n', "text", [{"text": "a\nb, c"}]),
        ("a.csv", b"\xef\xbb\xbftext\r\na\r\n", "text", [{"text": "a"}]),
        ("a.tsv", "prompt\tcompletion\nq\ta\n", "completion", [{"prompt": "q", "completion": "a"}]),
        ("a.txt", "one\ntwo\r\n \r\nthree\n", "text", [{"text": "one\ntwo"}, {"text": "three"}]),
        (
            "a.csv", "text,label\na,2\nb,10\nc,2\nd,10\n", "class",
            [{"text": t, "label": i} for t, i in (("a", 0), ("b", 1), ("c", 0), ("d", 1))],
        ),
    ],
)  # fmt: skip
def test_files(tmp_path: Path, name: str, content: Any, kind: str, rows: list[Any]):
    table = read(write(tmp_path, name, content))
    assert (table.kind, list(table.rows), table.said) == (kind, rows, ())
    assert table.digest.startswith("sha256:")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", "", "is empty"),
        ("a.csv", "text\n", "holds no rows"),
        ("a.txt", "\n\n \n", "holds no rows"),
        (
            "a.jsonl",
            b'{"text": "a"}\n{"text": "\xff"}\n',
            "line 2: byte 11 is 0xff, so",
        ),
        ("a.jsonl", '{"text": "a"}\n{"text": \n', "line 2: not JSON"),
        ("a.jsonl", '{"text": "a"}\n[1]\n', "line 2: a row must be a JSON object"),
        ("a.jsonl", '{"txt": "a"}\n', "'txt'"),
        ("a.jsonl", '{"prompt": "a", "answer": "b"}\n', "--column"),
        ("a.csv", "text,label\na,x\nb,x\n", "one class only"),
        ("a.jsonl", '{"text": 3}\n', "row 1: text must be a string, got 3 (int)"),
        ("a.jsonl", '{"text": null}\n', "are empty"),
        ("a.doc", "x", "rows are read from"),
        ("a.parquet", "x", "cannot be read"),
        ("a.csv", 'text\n"a\n', "cannot be read"),
    ],
)
def test_files_that_cannot_be_used_are_named(tmp_path: Path, name: str, content: Any, said: str):
    file = write(tmp_path, name, content)
    with pytest.raises(DataError) as caught:
        read(file)
    assert said in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_that_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path, "rows.jsonl", "x")
    with pytest.raises(DataError, match=r"no file .*did you mean 'rows.jsonl'"):
        read(tmp_path / "row.jsonl")
    with pytest.raises(DataError, match="save_to_disk"):
        read(tmp_path)
    with pytest.raises(DataError, match="could not be had as a dataset"):
        read("nobody/nothing-at-all")
    with pytest.raises(DataError, match="must hold dicts"):
        read(["a"])
    with pytest.raises(DataError, match="got 3"):
        read(3)


def test_columns_kinds_and_datasets(tmp_path: Path):
    from datasets import Dataset, DatasetDict

    rows = [{"question": "q", "answer": "a", "text": "t"}]
    table = read(rows, columns={"prompt": "question", "completion": "answer"}, kind="completion")
    assert list(table.rows) == [{"prompt": "q", "completion": "a"}]
    with pytest.raises(DataError, match="no column 'anser'; did you mean 'answer'"):
        read(rows, columns={"completion": "anser"})
    with pytest.raises(DataError, match="no kind of row has a column 'promt'; did you mean"):
        read(rows, columns={"promt": "question"})
    both = [{"prompt": "q", "completion": "a", "text": "t"}]
    with pytest.raises(DataError, match="could be completion or text"):
        read(both)
    assert read(both, kind="text").kind == "text"
    with pytest.raises(DataError, match="'chat' it lacks 'messages'"):
        read(both, kind="chat")
    data = DatasetDict({"train": Dataset.from_list(both), "dev": Dataset.from_list(rows)})
    data.save_to_disk(tmp_path / "d")
    assert list(read(tmp_path / "d", kind="text").rows) == [{"text": "t"}]
    with pytest.raises(DataError, match="no split 'test'; there are 'train', 'dev'"):
        read(tmp_path / "d", split="test")


def test_empty_and_repeated_rows_are_said():
    table = read([{"text": "a"}, {"text": " "}, {"text": "a"}, {"text": None}])
    assert len(table.rows) == 2
    assert table.said == (
        "2 of 4 rows of the list are empty: left out (2, 4)",
        "1 rows of the list repeat another; they are kept",
    )


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([{"role": "user", "content": "hi"}], "the last message is the user's"),
        ([{"role": "asistant", "content": "x"}], "did you mean 'assistant'"),
        ([{"role": "assistant"}], "must have a role and a content"),
        ([{"role": "assistant", "content": 3}], "no string"),
        ("hi", "messages must be a list"),
    ],
)
def test_conversations_are_checked(messages: Any, said: str):
    with pytest.raises(DataError, match=f"row 1: .*{said}"):
        read([{"messages": messages}])


def test_classes_are_numbered_by_name_and_shared():
    train = read([{"text": t, "label": v} for t, v in (("a", 10), ("b", 9), ("c", 10), ("d", 9))])
    assert train.labels == ("9", "10")
    assert list(train.rows["label"]) == [1, 0, 1, 0]
    held = read([{"text": "x", "label": 10}], labels=train.labels)
    assert list(held.rows["label"]) == [1]
    with pytest.raises(DataError, match=r"labels '11', which the rows trained on lack.*'9', '10'"):
        read([{"text": "x", "label": 11}], labels=train.labels)
    one = read([{"text": "a", "label": True}, {"text": "b", "label": False}])
    assert one.labels == ("false", "true")
    assert "one row only" in one.said[0]


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.sampled_from("abcdefghij"), min_size=4, max_size=40),
    share=st.one_of(st.floats(0.05, 0.9), st.integers(1, 30)),
    seed=st.integers(0, 5),
)
def test_a_split_shares_no_row_and_loses_none(texts: list[str], share: Any, seed: int):
    table = read([{"text": text} for text in texts])
    try:
        train, held = split(table, share, seed)
    except DataError:
        assert len(set(texts)) < 2 or not 0 < round(share) < len(texts) or _one_side(texts, share)
        return
    left, right = list(train.rows["text"]), list(held.rows["text"])
    assert left
    assert right
    assert not set(left) & set(right)
    assert Counter(left + right) == Counter(texts)
    again = split(table, share, seed)
    assert [list(part.rows["text"]) for part in again] == [left, right]


def _one_side(texts: list[str], share: Any) -> bool:
    """Whether holding out that many rows can take all groups of equal rows."""
    wanted = max(1, round(share * len(texts))) if isinstance(share, float) else share
    return wanted > len(texts) - max(Counter(texts).values())


def test_classes_are_held_out_evenly():
    train, held = split(read(REQUESTS), 0.2, seed=3)
    assert set(Counter(held.rows["label"]).values()) == {12}
    assert set(Counter(train.rows["label"]).values()) == {48}
    for bad in (0.0, 1.0, 0, 360, -1, 500):
        with pytest.raises(DataError, match="leaves nothing"):
            split(read(REQUESTS), bad, seed=0)


def test_the_requests_that_the_package_ships():
    table = read(REQUESTS)
    assert len(table.rows) == 360
    assert table.labels == ("borrow", "hours", "lost", "renew", "room", "tech")
    assert set(Counter(table.rows["label"]).values()) == {60}
    assert table.said == ()
    assert len(set(table.rows["text"])) == 360


def learned(tokenizer: Any, row: Any) -> str:
    return str(tokenizer.decode([t for t in row["labels"] if t != IGNORED]))


def test_what_is_learned_of_each_kind(tokenizer: Any):
    done = encode(read([{"text": "the list"}]), tokenizer, max_length=50)
    assert learned(tokenizer, done.rows[0]) == "the list<eos>"
    pair = [{"prompt": "the file", "completion": " is open"}, {"prompt": None, "completion": "x"}]
    done = encode(read(pair), tokenizer, max_length=50)
    assert [learned(tokenizer, row) for row in done.rows] == [" is open<eos>", "x<eos>"]
    assert tokenizer.decode(done.rows[0]["input_ids"]) == "the file is open<eos>"
    ids = [len(row["input_ids"]) for row in done.rows]
    assert (done.tokens, done.truncated) == (sum(ids), 0)
    assert done.counted == sum(t != IGNORED for row in done.rows for t in row["labels"][1:])


PLAIN = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</{{ m['role'] }}>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "wanted"),
    [(None, " Yes.<eos> No.<eos>"), (PLAIN, "Yes.</assistant>No.</assistant>")],
)
def test_of_a_chat_the_assistant_is_learned(tokenizer: Any, template: Any, wanted: str):
    import copy

    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = template or tokenizer.chat_template
    turns = [("system", "Be brief."), ("user", "A?"), ("assistant", "Yes."), ("user", "B?"),
             ("assistant", "No.")]  # fmt: skip
    rows = [{"messages": [{"role": role, "content": text} for role, text in turns]}]
    done = encode(read(rows), tokenizer, max_length=200)
    assert learned(tokenizer, done.rows[0]) == wanted
    text = tokenizer.apply_chat_template(rows[0]["messages"], tokenize=False)
    assert tokenizer.decode(done.rows[0]["input_ids"]) == text


def test_chats_without_a_place_for_a_turn_are_refused(tokenizer: Any):
    import copy

    tokenizer = copy.deepcopy(tokenizer)
    rows = read([{"messages": [{"role": r, "content": r} for r in ("user", "assistant") * 2]}])
    tokenizer.chat_template = "{{ messages | length }}" + PLAIN  # earlier turns change
    with pytest.raises(DataError, match=r"row 1: .*writes message 2 otherwise"):
        encode(rows, tokenizer, max_length=200)
    tokenizer.chat_template = None
    with pytest.raises(DataError, match="this one has none"):
        encode(rows, tokenizer, max_length=200)


def test_long_rows_are_cut_and_said(tokenizer: Any):
    words = "the value of the list is " * 5
    done = encode(read([{"text": words}, {"text": "a b"}]), tokenizer, max_length=10)
    assert done.said == ("1 of 2 rows are longer than 10 tokens: cut (1)",)
    assert len(done.rows[0]["input_ids"]) == 10
    pair = [{"prompt": words, "completion": " open"}, {"prompt": "a", "completion": words}]
    done = encode(read(pair), tokenizer, max_length=10)
    assert learned(tokenizer, done.rows[0]) == " open<eos>"  # the prompt's beginning went
    assert words.endswith(tokenizer.decode(done.rows[0]["input_ids"]).removesuffix(" open<eos>"))
    assert words.startswith(learned(tokenizer, done.rows[1]))
    chats = [{"role": "user", "content": words}, {"role": "assistant", "content": "x"}]
    with pytest.raises(DataError, match="no row of the list has a label to learn"):
        encode(read([{"messages": chats}]), tokenizer, max_length=10)
    short = [{"role": "assistant", "content": "x"}]
    done = encode(read([{"messages": chats}, {"messages": short}]), tokenizer, max_length=10)
    assert done.said[1] == "1 of 2 rows have no label left to learn: left out (1)"


def test_packed_blocks_are_the_texts_one_after_another(tokenizer: Any):
    texts = ["the first text", "another one, longer than that", "x"]
    done = encode(read([{"text": t} for t in texts]), tokenizer, max_length=7, packing=True)
    by_hand = [i for t in texts for i in [*tokenizer(t)["input_ids"], tokenizer.eos_token_id]]
    joined = [i for row in done.rows for i in row["input_ids"]]
    assert joined == by_hand[: len(joined)]
    assert len(by_hand) - len(joined) <= 1  # a block of one token predicts nothing
    assert {len(row["input_ids"]) for row in list(done.rows)[:-1]} == {7}
    assert [row["labels"] for row in done.rows] == [row["input_ids"] for row in done.rows]
    with pytest.raises(ConfigError, match="packing joins texts"):
        encode(read(REQUESTS), tokenizer, max_length=7, packing=True)


def test_batches_are_those_of_the_short_loop(tokenizer: Any):
    rows = [{"prompt": "the file", "completion": " is open"}, {"prompt": "a", "completion": " b"}]
    mine = Collator(tokenizer, "completion")(
        list(encode(read(rows), tokenizer, max_length=50).rows)
    )
    pairs = [training.encode(tokenizer, row) for row in rows]
    wanted = training.collate(pairs, tokenizer, torch.device("cpu"))
    assert mine.keys() == wanted.keys()
    assert all(torch.equal(mine[key], wanted[key]) for key in wanted)
    classes = Collator(tokenizer, "class")(
        list(encode(read(REQUESTS), tokenizer, max_length=8).rows)[:3]
    )
    assert classes["labels"].shape == (3,)
    assert classes["input_ids"].shape == classes["attention_mask"].shape == (3, 8)


def test_the_digest_is_the_files(tmp_path: Path):
    import hashlib

    file = write(tmp_path, "a.jsonl", json.dumps({"text": "a"}))
    assert read(file).digest == "sha256:" + hashlib.sha256(file.read_bytes()).hexdigest()
