"""Broken on purpose: each wrong formula is noticed by the suite, by its lesson, by its exercise."""

from __future__ import annotations

from dataclasses import replace

import pytest
from mutate import caught, source, whole
from mutations import MUTATIONS

pytestmark = pytest.mark.slow
LESSONS = sorted({m.lesson for m in MUTATIONS})
ROWS = {lesson: [m for m in MUTATIONS if m.lesson == lesson] for lesson in LESSONS}
# Three rows of a lesson at a time: two processes share the long lessons.
PARTS = [(lesson, at) for lesson in LESSONS for at in range(0, len(ROWS[lesson]), 3)]


def test_there_are_as_many_as_promised():
    assert len(MUTATIONS) >= 25
    assert len({m.name for m in MUTATIONS}) == len(MUTATIONS)
    assert len({(m.file, m.old, m.new) for m in MUTATIONS}) == len(MUTATIONS)


@pytest.mark.parametrize(("lesson", "at"), PARTS)
def test_all_three_notice(lesson, at, tmp_path):
    mine = ROWS[lesson][at : at + 3]
    found = caught(lesson, mine, tmp_path)
    missed = [f"{name}: the {who}" for name, by in found.items() for who in by if not by[who]]
    assert not missed, f"did not notice: {', '.join(missed)}"


def test_a_comment_more_is_noticed_by_nobody(tmp_path):
    like = next(m for m in MUTATIONS if m.name == "lora-no-scale")
    same = replace(whole("08"), name="comment", test=like.test, exercise=like.exercise)
    found = caught("08", [same], tmp_path)
    assert found == {"comment": {"lesson": "", "exercise": "", "test": ""}}


def test_a_source_that_moved_on_is_told():
    with pytest.raises(ValueError, match=r"must stand once .* stands there 0 times"):
        source(replace(MUTATIONS[0], old="no such line"))
