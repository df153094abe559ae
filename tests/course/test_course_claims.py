"""The register of claims: every row has a proof that holds, every proof a row."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from minipeft.course import CourseError, claims, lessons
from minipeft.course.builder import build
from minipeft.course.claims import parse, proofs, proves, register

ROWS = register()
BUILT = cache(build)  # once for all lessons
ROW = "| {id} | 003:L1 | a claim | {verdict} | 1 | 08_lora |"


def test_rows_and_proofs_belong_together():
    assert sorted(row.id for row in ROWS) == sorted(proofs())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_the_proof_holds(row):
    value = proofs()[row.id]()
    assert isinstance(value, str)
    assert value


@pytest.mark.parametrize("lesson", sorted({row.lesson for row in ROWS}))
def test_the_lesson_shows_its_rows(lesson):
    assert lessons.NAME.fullmatch(lesson)
    notebook = BUILT()[f"notebooks/{lesson}.ipynb"]  # a row belongs to a lesson that is there
    code = "\n".join(c.source for c in notebook.cells if c.cell_type == "code")
    assert f'claims("{lesson}")' in code


def test_claims_shows_note_verdict_and_measured_value(capsys):
    claims("08_lora")
    out = capsys.readouterr().out
    assert "WRONG 003:L157: Llama-2-7B" in out
    assert "measured: 16,777,216 (note: 33,554,432)" in out


def test_unknown_lesson():
    with pytest.raises(CourseError, match=r"lessons with claims: .*08_lora"):
        claims("77_none")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("| a | b |", "claims.md:1: a row has the cells"),
        (ROW.format(id="", verdict="OK"), "claims.md:1: a row has the cells"),
        (ROW.format(id="a", verdict="TRUE"), "'TRUE' is none of OK, WRONG, PART, UNS"),
        (f"{ROW}\n{ROW}".format(id="a", verdict="OK"), "claims.md:2: the id 'a' was used before"),
    ],
)
def test_a_malformed_row_is_a_clear_error(text, message):
    with pytest.raises(CourseError) as caught:
        parse(text)
    assert message in str(caught.value)


def test_a_bar_inside_a_cell():
    (row,) = parse(ROW.format(id="a", verdict="OK").replace("a claim", r"\|x\| is one"))
    assert row.claim == "|x| is one"


def test_two_proofs_of_one_row_are_refused():
    proofs()  # all there are, whichever test comes first
    with pytest.raises(CourseError, match="two proofs of 'lora-alpha'"):
        proves("lora-alpha")(lambda: "")


@pytest.mark.slow
def test_the_errata_on_the_command_line():
    command = [sys.executable, "-W", "error", "-m", "minipeft.course.claims", "77_none"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 1
    assert "lessons with claims" in run.stderr
    assert "Traceback" not in run.stderr


def test_the_errata_page_shows_each_row_once(capsys):
    notebook = build()["notebooks/errata.ipynb"]
    shown = [c.source for c in notebook.cells if c.source.startswith("claims(")]
    assert shown == [f'claims("{name}")' for name in sorted({row.lesson for row in ROWS})]
    exec(notebook.cells[2].source, {})  # the tally, which brings `claims` too
    assert capsys.readouterr().out.startswith(f"{len(ROWS)} statements: ")


def test_lessons_with_rows_lead_to_the_errata():
    leads = {
        Path(path).stem
        for path, notebook in build().items()
        if "](errata.ipynb)" in notebook.cells[-1].source
    }
    assert leads == {row.lesson for row in ROWS}


def test_a_course_without_rows_has_no_errata(tmp_path):
    (tmp_path / "77_none.md").write_text(
        "---\ntitle: T\nminutes: 1\nneeds: []\nobjectives: []\n---\nText.\n"
    )
    built = build(tmp_path, [])
    assert list(built) == ["notebooks/77_none.ipynb", "notebooks/glossary.ipynb"]
    assert "errata.ipynb" not in built["notebooks/77_none.ipynb"].cells[-1].source
