"""`minipeft start`: a copy of the course that updates reach and that keeps every answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import nbformat
import pytest
from conftest import files_of
from typer.testing import CliRunner

from minipeft.cli.main import app
from minipeft.course import builder, record, start
from minipeft.course.exercise import CourseError

RUN = CliRunner()
ONE, TWO, LESSON = "exercises/01_a.ipynb", "solutions/01_a.ipynb", "notebooks/01_a.ipynb"
NEW = "exercises/01_a.new.ipynb"


@pytest.fixture
def course(monkeypatch):
    """A course of three files; change a text to make a new version of it."""
    files = {LESSON: "lesson 1\n", ONE: "blank 1\n", TWO: "filled 1\n"}
    monkeypatch.setattr(start, "texts", lambda: dict(files))
    monkeypatch.setenv("COLUMNS", "200")
    return files


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "deep" / "my course"


def states(folder):
    return {step.path: step.state for step in start.start(folder)}


def text(folder, path):
    return (folder / path).read_text()


@pytest.mark.slow
def test_the_real_course_grades_and_is_graded(tmp_path, monkeypatch):
    """What start writes is what the builder builds, and `grade` and `progress` work on it."""
    monkeypatch.setenv("MINIPEFT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    folder = tmp_path / "course"
    result = RUN.invoke(app, ["start", str(folder)])
    assert result.exit_code == 0, result.output
    built = builder.build()
    assert sorted(files_of(folder)) == sorted([*built, start.MANIFEST])
    for path, notebook in built.items():
        assert nbformat.read(folder / path, as_version=4) == notebook
    assert f"{len(built)} │ written" in result.output
    assert f"jupyter lab {folder}/notebooks/00_start.ipynb" in result.output
    result = RUN.invoke(app, ["grade", str(folder / "exercises" / "00_start.ipynb")])
    assert "not attempted" in result.output
    assert result.exit_code == 1
    result = RUN.invoke(app, ["grade", str(folder / "solutions" / "00_start.ipynb")])
    assert result.exit_code == 0, result.output
    record.note("start.scaling", "right")
    assert "1/3" in RUN.invoke(app, ["progress"]).output


def test_again_changes_nothing(course, folder):
    assert set(states(folder).values()) == {"written"}
    before = files_of(folder)
    assert sorted(before) == sorted([*course, start.MANIFEST])
    stamps = {f: f.stat().st_mtime_ns for f in folder.rglob("*")}
    assert set(states(folder).values()) == {"unchanged"}
    assert files_of(folder) == before
    assert {f: f.stat().st_mtime_ns for f in folder.rglob("*")} == stamps


def test_an_update_keeps_what_the_learner_changed(course, folder):
    start.start(folder)
    (folder / ONE).write_text("my answer\n")
    (folder / LESSON).unlink()
    (folder / "my notes.txt").write_text("mine")
    assert states(folder) == {LESSON: "written", ONE: "kept", TWO: "unchanged"}
    assert not (folder / NEW).exists(), "there is no new version"
    course[ONE], course[TWO] = "blank 2\n", "filled 2\n"
    assert states(folder) == {LESSON: "unchanged", ONE: "beside", TWO: "updated"}
    assert [text(folder, p) for p in (ONE, NEW, TWO)] == ["my answer\n", "blank 2\n", "filled 2\n"]
    assert text(folder, "my notes.txt") == "mine"
    assert states(folder)[ONE] == "kept", "said once"
    (folder / NEW).unlink()
    assert states(folder)[ONE] == "kept"
    assert not (folder / NEW).exists(), "a new version that was thrown away stays away"


def test_a_new_version_beside_is_replaced_only_if_untouched(course, folder):
    start.start(folder)
    (folder / ONE).write_text("my answer\n")
    for version in (2, 3):
        course[ONE] = f"blank {version}\n"
        assert states(folder)[ONE] == "beside"
        assert text(folder, NEW) == course[ONE]
    (folder / NEW).write_text("blank 3, and a try of mine\n")
    course[ONE] = "blank 4\n"
    (step,) = [s for s in start.start(folder) if s.path == ONE]
    assert step.target == "exercises/01_a.new-2.ipynb"
    assert text(folder, step.target) == "blank 4\n"
    assert text(folder, NEW) == "blank 3, and a try of mine\n"
    assert text(folder, ONE) == "my answer\n"


def test_a_new_version_taken_over_is_updated_again(course, folder):
    start.start(folder)
    (folder / ONE).write_text("my answer\n")
    course[ONE] = "blank 2\n"
    start.start(folder)
    (folder / NEW).rename(folder / ONE)
    assert states(folder)[ONE] == "unchanged"
    course[ONE] = "blank 3\n"
    assert states(folder)[ONE] == "updated"
    assert not (folder / NEW).exists()


def test_without_a_manifest_every_difference_is_the_learners(course, folder):
    start.start(folder)
    (folder / ONE).write_text("my answer\n")
    (folder / start.MANIFEST).unlink()
    expected = {LESSON: "unchanged", ONE: "beside", TWO: "unchanged"}
    assert states(folder) == expected
    assert text(folder, ONE) == "my answer\n"
    (folder / start.MANIFEST).unlink()
    assert states(folder) == expected
    assert not (folder / "exercises/01_a.new-2.ipynb").exists(), "it is there already"


def test_saving_in_jupyter_counts_as_a_change(tmp_path, monkeypatch):
    monkeypatch.setattr(start.builder, "build", lambda: {ONE: nbformat.v4.new_notebook()})
    start.start(tmp_path)
    notebook = nbformat.read(tmp_path / ONE, as_version=4)
    notebook.metadata["language_info"] = {"name": "python", "version": "3.11.7"}
    nbformat.write(notebook, tmp_path / ONE)
    assert states(tmp_path) == {ONE: "kept"}


def test_what_is_said(course, folder):
    start.start(folder)
    (folder / ONE).write_text("my answer\n")
    course[ONE], course[TWO] = "blank 2\n", "filled 2\n"
    result = RUN.invoke(app, ["start", str(folder)])
    assert result.exit_code == 0
    assert "1 │ updated" in result.output
    assert "1 │ changed by you: kept, with the new version beside" in result.output
    assert "1 │ as they should be" in result.output
    assert f"{ONE} is yours; the new version is {NEW}" in result.output
    assert f"jupyter lab '{folder}/notebooks/00_start.ipynb'" in result.output, "quoted: a space"


@pytest.mark.parametrize(
    "manifest", [b"", b"{", b"[]", b"{}", b'{"files": []}', b'{"files": {"a": 1}}', b"\xff"]
)
def test_a_damaged_manifest_is_refused(course, folder, manifest):
    start.start(folder)
    (folder / start.MANIFEST).write_bytes(manifest)
    course[TWO] = "filled 2\n"
    refused(folder, "delete it and run this again")


def refused(folder, message, top=None):
    top = top or folder
    before = files_of(top)
    result = RUN.invoke(app, ["start", str(folder)])
    assert result.exit_code == 2, result.output
    assert result.output.startswith("minipeft: ")
    assert message in result.output
    assert result.output.count("\n") == 1, "one line"
    assert files_of(top) == before


def test_places_that_cannot_be_used(course, tmp_path):
    file = tmp_path / "file"
    file.write_text("in the way")
    refused(file, f"{file} is a file; give a folder", tmp_path)
    refused(file / "below", f"{file} is a file; give a folder", tmp_path)
    refused(tmp_path / ("x" * 300), "is no folder to write to", tmp_path)
    (tmp_path / "notebooks").write_text("in the way")
    refused(tmp_path, "notebooks is a file")
    (tmp_path / "notebooks").unlink()
    (tmp_path / ONE / "below").mkdir(parents=True)
    refused(tmp_path, "01_a.ipynb is not a file that can be read")
    refused(builder.ROOT, "holds minipeft itself", builder.ROOT / "notebooks")


def test_a_folder_that_may_not_be_written(course, folder, monkeypatch):
    start.start(folder)
    course[TWO] = "filled 2\n"
    # Root may write anywhere, so the system's answer is given here.
    monkeypatch.setattr(os, "access", lambda path, mode: path != folder / "solutions")
    refused(folder, "solutions cannot be written")


def test_a_full_disk_loses_nothing_and_is_made_up_for(course, folder, monkeypatch):
    start.start(folder)
    (folder / ONE).write_text("my answer\n")
    course.update({LESSON: "lesson 2\n", ONE: "blank 2\n", TWO: "filled 2\n"})
    real = os.replace

    def replace(source, target):
        if "solutions" in str(target):
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(CourseError, match=r"No space left on device.*run this again"):
        start.start(folder)
    assert text(folder, ONE) == "my answer\n"
    assert text(folder, TWO) == "filled 1\n", "the old file, whole"
    known = json.loads(text(folder, start.MANIFEST))["files"]
    assert known[LESSON] == start.fingerprint(b"lesson 2\n")
    assert sorted(files_of(folder)) == sorted([*course, NEW, start.MANIFEST]), "no temporary file"
    monkeypatch.setattr(os, "replace", real)
    assert states(folder) == {LESSON: "unchanged", ONE: "kept", TWO: "updated"}


@pytest.mark.slow
def test_as_a_command(tmp_path):
    """A process of its own: the default folder is in the current one, errors have no traceback."""
    command = [sys.executable, "-m", "minipeft.cli", "start"]
    (tmp_path / "minipeft-course").write_text("in the way")
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.startswith("minipeft: minipeft-course is a file; give a folder")
    (tmp_path / "minipeft-course").unlink()
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "minipeft-course" / "exercises" / "08_lora.ipynb").exists()
