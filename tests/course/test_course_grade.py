"""`minipeft grade` and `minipeft progress`."""

from __future__ import annotations

import nbformat
import pytest
from typer.testing import CliRunner

from minipeft.course import builder, record
from minipeft.course.commands import app
from minipeft.course.exercise import every
from minipeft.course.grade import grade

RUN = CliRunner()
OF = sum(e.lesson == "08_lora" for e in every())  # the exercises of the notebook that is graded


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIPEFT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="module")
def built():
    return builder.build()


def store(notebook, file, change=None):
    notebook = nbformat.from_dict(notebook)
    if change is not None:
        change(notebook.cells)
    nbformat.write(notebook, file)
    return file


def cell(cells, part):
    return next(c for c in cells if c.cell_type == "code" and part in c.source)


def forge(cells):
    """Stores a verdict that no run has given."""
    bundle = {"id": "lora.predict_7b", "status": "right", "message": ""}
    mime = {"application/vnd.minipeft.verdict+json": bundle}
    output = nbformat.v4.new_output("display_data", data=mime)
    cell(cells, 'check("lora.predict_7b"').outputs = [output]


@pytest.mark.slow
def test_solutions_are_all_right(built, tmp_path):
    file = store(built["solutions/08_lora.ipynb"], tmp_path / "a.ipynb")
    result = RUN.invoke(app, ["grade", str(file)])
    assert result.exit_code == 0, result.output
    assert f"{OF} of {OF} right" in result.output
    assert not record.home().exists(), "grading leaves the learner's progress alone"


def test_unfilled_is_not_attempted(built, tmp_path):
    file = store(built["exercises/08_lora.ipynb"], tmp_path / "a.ipynb")
    before = file.read_bytes()
    result = RUN.invoke(app, ["grade", str(file)])
    assert result.exit_code == 1
    assert f"0 of {OF} right" in result.output
    assert result.output.count("not attempted") == OF
    assert file.read_bytes() == before


@pytest.mark.slow
def test_mixed(built, tmp_path):
    """Wrong, a syntax error after a working cell, a deleted check, a stored verdict."""

    def change(cells):
        one = cell(cells, "return r * (in_features")
        one.source = one.source.replace("return r *", "return 2 * r *")
        # LoRALayer is still there from the cell of lora.init; it must not count for this one.
        two = cell(cells, "a.T  # (tokens, r)")
        two.source = "class LoRALayer(:\n"
        cells.remove(cell(cells, 'check("lora.fold"'))
        cell(cells, "answer = 32").source = "answer = None"
        forge(cells)

    file = store(built["solutions/08_lora.ipynb"], tmp_path / "a.ipynb", change)
    found = {g.id: g for g in grade(file)}
    assert found["lora.init"].status == "right"
    assert found["lora.count"].status == "wrong"
    assert "2 times as much as asked" in found["lora.count"].message
    assert found["lora.forward"].status == "wrong"
    assert "SyntaxError" in found["lora.forward"].message
    assert found["lora.fold"].status == "no verdict"
    assert found["lora.predict_7b"].status == "not attempted"
    assert RUN.invoke(app, ["grade", str(file)]).exit_code == 1


@pytest.mark.slow
def test_a_cell_that_never_ends(built, tmp_path):
    def change(cells):
        cell(cells, "lora_parameters").source = "while True:\n    pass"
        forge(cells)

    file = store(built["solutions/08_lora.ipynb"], tmp_path / "a.ipynb", change)
    found = {g.id: g for g in grade(file, timeout=4)}
    assert found["lora.fold"].status == "right"
    assert found["lora.count"].status != "right"
    assert "took longer than 4 s" in found["lora.predict_7b"].message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no file"),
        ("", "is not a notebook"),
        ("{}", "is not a notebook"),
        ("[1]", "is not a notebook"),
        ('{"cells": 3}', "is not a notebook"),
        ('{"cells": [{"x": 1}], "nbformat": 4, "nbformat_minor": 5}', "notebook"),
        ('{"cells": [], "nbformat": 4, "nbformat_minor": 5, "metadata": {}}', "no exercise"),
    ],
)
def test_a_file_that_cannot_be_graded(tmp_path, text, message):
    file = tmp_path / "b.ipynb"
    if text is not None:
        file.write_text(text)
    result = RUN.invoke(app, ["grade", str(file)])
    assert result.exit_code == 2, result.output
    assert message in result.output.replace("\n", " ")
    assert "Traceback" not in result.output


def test_a_folder_and_bytes(tmp_path):
    assert RUN.invoke(app, ["grade", str(tmp_path)]).exit_code == 2
    (tmp_path / "c.ipynb").write_bytes(b"\xff\xfe\x00")
    assert RUN.invoke(app, ["grade", str(tmp_path / "c.ipynb")]).exit_code == 2


def test_progress_in_the_terminal():
    record.note("lora.init", "right")
    result = RUN.invoke(app, ["progress"])
    assert result.exit_code == 0
    assert "08_lora" in result.output
    assert f"1/{OF}" in result.output
