"""The builder: the committed notebooks are its output, and it notices every way they can differ."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from minipeft.course import builder, lessons
from minipeft.course.exercise import CourseError
from minipeft.course.notebooks import EXACT, SETUP

LESSON = """---
title: A tiny lesson
minutes: 5
needs: [00_first, "some algebra"]
objectives:
  - add two numbers
---
## Prose

```python
a = 1
```

```python tags=["exact"]
print(a + 1)
```

```python
import os
print(sorted(os.listdir(".")))
```
"""


@pytest.fixture
def course(tmp_path, monkeypatch):
    """Two lessons, and none of the package's exercises."""
    monkeypatch.setattr(builder, "every", list)
    folder = tmp_path / "lessons"
    folder.mkdir()
    (folder / "00_first.md").write_text(LESSON.replace("A tiny lesson", "First"))
    (folder / "01_tiny.md").write_text(LESSON)
    (folder / "README.md").write_text("not a lesson")
    return folder


def make(course, *arguments):
    root = course.parent
    return builder.main([*arguments, "--root", str(root), "--from", str(course)])


def load(file):
    return nbformat.read(file, as_version=4)


def nbval(file):
    """The exit status and the output of `pytest --nbval-lax` on one notebook."""
    command = [sys.executable, "-m", "pytest", "-q", "--nbval-lax", "-p", "no:cacheprovider"]
    run = subprocess.run(
        [*command, "-c", os.devnull, "--rootdir", str(file.parent), str(file)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return run.returncode, run.stdout


def test_committed_notebooks_are_what_the_builder_writes():
    built = builder.build()
    found = [d for p, n in built.items() for d in builder.differences(p, n, builder.ROOT / p)]
    assert found + builder.orphans(builder.ROOT, list(built)) == []


def test_building_twice_gives_the_same_bytes(course):
    assert make(course) == 0
    file = course.parent / "notebooks" / "01_tiny.ipynb"
    first = file.read_bytes()
    assert make(course, "01") == 0
    assert file.read_bytes() == first
    ids = [c.id for c in load(file).cells]
    assert len(set(ids)) == len(ids)


def test_header_links_and_setup(course):
    make(course)
    cells = load(course.parent / "notebooks" / "01_tiny.ipynb").cells
    assert cells[0].source == SETUP
    head = cells[1].source
    assert "# 01 · A tiny lesson" in head
    assert "**5 minutes.**" in head
    assert "[00 First](00_first.ipynb), some algebra" in head
    assert "[← 00 First](00_first.ipynb)" in head
    assert "[← 00 First](00_first.ipynb)" in cells[-1].source
    first = load(course.parent / "notebooks" / "00_first.ipynb").cells
    assert "[01 A tiny lesson →](01_tiny.ipynb)" in first[1].source


@pytest.mark.slow
def test_execute_check_and_nbval(course, capsys):
    """The whole way of an exact cell, and a wrong stored output that nbval must find."""
    make(course)
    assert make(course, "--check") == 1
    assert "notebooks/01_tiny.ipynb: exact cell 5 was never executed" in capsys.readouterr().out
    assert make(course, "--execute", "01") == 0
    assert make(course, "--check", "01") == 0
    file = course.parent / "notebooks" / "01_tiny.ipynb"
    notebook = load(file)
    exact = notebook.cells[4]
    assert exact.metadata.tags == [EXACT]
    assert exact.outputs[0].text == "2\n"
    assert notebook.cells[5].outputs[0].text == "[]\n", "it runs in an empty folder"
    assert nbval(file)[0] == 0
    exact.outputs[0].text = "3\n"
    nbformat.write(notebook, file)
    status, text = nbval(file)
    assert status == 1
    assert "1 failed" in text
    exact.metadata.tags = []
    nbformat.write(notebook, file)
    assert nbval(file)[0] == 0, "only exact cells are compared"


@pytest.mark.slow
def test_outputs_of_unchanged_cells_are_kept(course):
    make(course, "--execute", "01")
    source = course / "01_tiny.md"
    source.write_text(source.read_text().replace("print(a + 1)", "print(a + 2)"))
    assert make(course, "01") == 0
    cells = load(course.parent / "notebooks" / "01_tiny.ipynb").cells
    assert cells[4].outputs == []
    assert cells[5].outputs[0].text == "[]\n"
    assert make(course, "--check", "01") == 1, "the exact cell must run again"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda n: n.cells[2].update(source="changed"),
        lambda n: n.cells.pop(2),
        lambda n: n.cells[4].metadata.update(tags=["other"]),
        lambda n: n.cells[3].metadata.update(collapsed=True),
        lambda n: n.cells[3].update(id="another"),
        lambda n: n.metadata.kernelspec.update(name="other"),
        lambda n: n.cells.append(nbformat.v4.new_code_cell("1", id="more")),
    ],
    ids=["source", "missing", "tags", "metadata", "id", "kernel", "extra"],
)
def test_check_names_what_differs(course, capsys, spoil):
    source = course / "01_tiny.md"
    source.write_text(source.read_text().replace(' tags=["exact"]', ""))
    make(course, "01")
    assert make(course, "--check", "01") == 0
    file = course.parent / "notebooks" / "01_tiny.ipynb"
    notebook = load(file)
    spoil(notebook)
    nbformat.write(notebook, file)
    capsys.readouterr()
    assert make(course, "--check", "01") == 1
    assert "notebooks/01_tiny.ipynb" in capsys.readouterr().out


def test_check_finds_missing_damaged_and_stray_files(course, capsys):
    make(course)
    capsys.readouterr()
    folder = course.parent / "notebooks"
    (folder / "00_first.ipynb").write_text("{")
    (folder / "01_tiny.ipynb").unlink()
    (folder / "99_stray.ipynb").write_text("{}")
    assert make(course, "--check") == 1
    out = capsys.readouterr().out
    assert "notebooks/00_first.ipynb: not a notebook" in out
    assert "notebooks/01_tiny.ipynb: missing" in out
    assert "notebooks/99_stray.ipynb: belongs to no lesson" in out
    assert make(course) == 0, "a damaged notebook is written anew"


@pytest.mark.slow
def test_a_failing_lesson_is_reported(course, capsys):
    (course / "00_first.md").write_text(LESSON.replace("a = 1", "b = 2\na = 1 / 0"))
    assert make(course, "--execute", "00", "01") == 1
    out, err = capsys.readouterr()
    assert err == (
        "notebooks/00_first.ipynb does not run: ZeroDivisionError: division by zero\n"
        "    b = 2\n    a = 1 / 0\n"
    )
    assert out == "wrote notebooks/01_tiny.ipynb\n", "the others are written"
    assert not (course.parent / "notebooks" / "00_first.ipynb").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace("---\n", "", 1), "begins with a YAML header"),
        (lambda t: t.replace("minutes: 5\n", ""), "missing ['minutes']"),
        (lambda t: t.replace("minutes", "minuets"), "unknown ['minuets']"),
        (lambda t: t.replace("[00_first", "[[00_first"), "no YAML"),
        (lambda t: t + "\n```python\nprint(1)\n", "not closed"),
    ],
    ids=["none", "missing", "unknown", "yaml", "fence"],
)
def test_a_malformed_lesson_is_a_clear_error(tmp_path, change, message):
    file = tmp_path / "03_bad.md"
    file.write_text(change(LESSON))
    with pytest.raises(CourseError, match=r"03_bad\.md") as caught:
        lessons.read(file)
    assert message in str(caught.value)


def test_unknown_lesson(course, capsys):
    assert make(course, "77") == 1
    assert "no lesson is named 77" in capsys.readouterr().err


def test_no_paths_of_this_machine():
    for kind in ("notebooks", "exercises", "solutions"):
        for file in (builder.ROOT / kind).glob("*.ipynb"):
            text = file.read_text(encoding="utf-8")
            for path in (str(builder.ROOT) + "/", str(Path.home()) + "/", sys.prefix + "/"):
                assert path not in text, f"{file.name} holds {path}"
