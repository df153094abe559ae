"""Progress: one file, written in one step, reported when damaged, never in a check's way."""

from __future__ import annotations

import json
import os

import pytest

from minipeft.course import check, progress, record
from minipeft.course.exercise import every


@pytest.fixture
def home(tmp_path, monkeypatch):
    folder = tmp_path / "home"
    monkeypatch.setenv("MINIPEFT_HOME", str(folder))
    return folder


def test_where_the_file_is(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIPEFT_HOME", "~/here")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert record.home() == tmp_path / "here"
    monkeypatch.delenv("MINIPEFT_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert record.home() == tmp_path / "data" / "minipeft"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert record.home() == tmp_path / ".local" / "share" / "minipeft"


def test_tries_are_counted_until_right(home):
    for answer in (1, 2, None, 16_777_216, 3):
        check("lora.predict_7b", answer)
    assert record.load() == {"lora.predict_7b": {"done": True, "tries": 3}}
    assert [f.name for f in home.iterdir()] == ["progress.json"], "no temporary file is left"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"exercises": []}', '{"exercises": {"a": 1}}', "\udcff", "[" * 100_000]
)
def test_a_damaged_file_is_set_aside_and_not_lost(home, capsys, text):
    home.mkdir()
    file = home / "progress.json"
    data = text.encode("utf-8", "surrogateescape")
    file.write_bytes(data)
    assert check("lora.predict_7b", 16_777_216).status == "right"
    assert "damaged" in capsys.readouterr().err
    assert (home / "progress.damaged-1.json").read_bytes() == data
    assert record.load()["lora.predict_7b"]["done"]
    file.write_bytes(data)
    record.load()
    assert (home / "progress.damaged-2.json").exists(), "the first one is not overwritten"


def test_unknown_ids_are_kept_and_not_shown(home, capsys):
    home.mkdir()
    old = {"gone.one": {"done": True, "tries": 1}}
    (home / "progress.json").write_text(json.dumps({"version": 1, "exercises": old}))
    check("lora.predict_7b", 16_777_216)
    assert record.load()["gone.one"] == old["gone.one"]
    capsys.readouterr()
    progress()
    out = capsys.readouterr().out
    assert "gone.one" not in out
    lora = [e.id for e in every() if e.lesson == "08_lora"]
    assert f"1/{len(lora)}" in out
    assert "x lora.predict_7b" in out
    assert "- lora.init" in out


def test_a_home_that_cannot_be_written_does_not_break_a_check(tmp_path, monkeypatch, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("MINIPEFT_HOME", str(blocked / "below"))
    assert check("lora.predict_7b", 16_777_216).status == "right"
    assert record.save({}) is False
    assert record.load() == {}


def test_a_failing_write_leaves_the_old_file(home, monkeypatch):
    check("lora.predict_7b", 16_777_216)
    before = record.load()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    assert check("lora.predict_7b", 1).status == "wrong"
    check("lora.count", 1)
    assert record.load() == before
    assert [f.name for f in home.iterdir()] == ["progress.json"]


@pytest.mark.parametrize(
    ("done", "of", "text"), [(0, 3, "....."), (1, 2, "##..."), (3, 3, "#####"), (0, 0, ".....")]
)
def test_bar(done, of, text):
    assert record.bar(done, of, 5) == text
