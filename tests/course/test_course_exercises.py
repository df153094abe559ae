"""Every exercise: unfilled it is not attempted, solved it is right, each mistake gets its name."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from minipeft.course import corpus, exercise, record
from minipeft.course.checker import check
from minipeft.course.lift import cell

MISTAKES = Path(__file__).parent / "mistakes"
EXERCISES = exercise.every()
IDS = [e.id for e in EXERCISES]
CASES = [
    pytest.param(e, case, id=f"{e.id}-{case.name}")
    for e in EXERCISES
    if (MISTAKES / e.lesson / f"{e.id}.py").exists()
    for case in corpus.cases(MISTAKES / e.lesson / f"{e.id}.py")
]

each = pytest.mark.parametrize("e", EXERCISES, ids=IDS)


@pytest.fixture(autouse=True)
def empty_home(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIPEFT_HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")  # a notebook runs in a folder of its own


@each
def test_unfilled_is_not_attempted(e):
    answer = corpus.run_cell(cell(e, blank=True))[e.answer]
    assert check(e.id, answer).status == "not attempted"


@each
def test_solution_is_right_within_a_second(e):
    # a live check loads a model and runs it on some hundred rows
    answer = corpus.run_cell(cell(e, blank=False))[e.answer]
    begun = time.perf_counter()
    verdict = check(e.id, answer)
    assert verdict.status == "right", verdict.message
    assert time.perf_counter() - begun < (20 if e.live else 1)
    assert record.load()[e.id] == {"done": True, "tries": 1}


@pytest.mark.slow
@pytest.mark.parametrize("lesson", sorted({e.lesson for e in EXERCISES}))
def test_blanking_one_fails_only_its_own_check(lesson, capsys):
    mine = [e for e in EXERCISES if e.lesson == lesson]
    for blanked in mine:
        space: dict = {"__name__": "__main__", "check": check}
        verdicts = {}
        for e in mine:  # one namespace, as in a notebook
            exec(compile(cell(e, blank=e is blanked), "cell", "exec", dont_inherit=True), space)
            verdicts[e.id] = check(e.id, space[e.answer]).status
        assert {id for id, s in verdicts.items() if s != "right"} == {blanked.id}
        assert verdicts[blanked.id] == "not attempted"


@each
def test_the_packages_own_is_refused(e):
    if e.target is None:
        return
    from minipeft.course.lift import resolve

    own = resolve(e.target.rpartition(".")[0] if "." in e.target.split(":")[1] else e.target)
    answers = [own]
    if isinstance(own, type):
        answers.append(type(own.__name__, (own,), {"__doc__": "a trivial subclass"}))
    else:
        answers.append(lambda *given, **named: own(*given, **named))
    for answer in answers:
        verdict = check(e.id, answer)
        assert verdict.status == "wrong"
        assert "the package's own" in verdict.message


# What follows are properties of the checker: one case for each answer, over all exercises.


@pytest.mark.parametrize("answer", [None, ...])
def test_no_answer_is_not_attempted(answer):
    other = {e.id: check(e.id, answer).status for e in EXERCISES}
    assert {id: status for id, status in other.items() if status != "not attempted"} == {}


NONSENSE = {"text": "text", "number": 3.5, "object": object, "list": [], "nan": float("nan")}
NONSENSE["raises"] = lambda: 1 / 0


@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_wrong_and_never_an_exception(answer):
    for e in EXERCISES:
        verdict = check(e.id, answer)
        assert (e.id, verdict.status) == (e.id, "wrong")
        assert verdict.message, e.id


@each
def test_hints_and_corpus(e):
    assert len(e.hints) == 3
    assert all(len(h) > 15 for h in e.hints)
    assert e.id.partition(".")[0] in exercise.topics(), "the id begins with the file's name"
    file = MISTAKES / e.lesson / f"{e.id}.py"
    assert file.exists(), f"write {file.name}: three wrong answers and two right ones"
    found = corpus.cases(file)
    assert sum(c.fragment is not None for c in found) >= 3
    assert sum(c.fragment is None for c in found) >= 2
    fragments = [c.fragment for c in found if c.fragment]
    assert len(set(fragments)) == len(fragments), "each mistake has its own message"


def test_the_corpus_has_no_other_files():
    known = {f"{e.lesson}/{e.id}.py" for e in EXERCISES}
    there = {f.relative_to(MISTAKES).as_posix() for f in MISTAKES.glob("*/*.py")}
    assert there == known


def test_ids_are_unique():
    assert len(set(IDS)) == len(IDS)


@pytest.mark.parametrize(("e", "case"), CASES)
def test_corpus(e, case):
    verdict = check(e.id, corpus.answer_of(e, case))
    if case.fragment is None:
        assert verdict.status == "right", verdict.message
    else:
        assert verdict.status == "wrong", verdict.message
        assert case.fragment in verdict.message
        assert "Traceback" not in verdict.message
