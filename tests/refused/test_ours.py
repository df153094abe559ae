"""No mistake of the collection is silent, unclear, or loses data, in minipeft."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from collection import CASES
from machine import GOOD, VERDICTS, Case, judge

import minipeft

PAGE = Path(__file__).parents[1] / "BAD_INPUTS.md"
# {area: name: [verdict, message]}; `python tests/refused/table.py --pin` writes it anew.
SAID = json.loads(Path(__file__).with_name("said.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.area}: {case.name}"[:90])
def test_a_mistake_is_met(case: Case):
    verdict, said = judge(case, minipeft)
    assert verdict in GOOD, f"{verdict}: {said}"
    assert [verdict, said] == SAID[f"{case.area}: {case.name}"]


def test_the_table_of_messages_has_these_cases_and_no_others():
    assert list(SAID) == [f"{case.area}: {case.name}" for case in CASES]


def test_the_collection_is_large_and_its_names_differ():
    assert len(CASES) >= 200
    assert [n for n, times in Counter((c.area, c.name) for c in CASES).items() if times > 1] == []
    assert min(Counter(case.area for case in CASES).values()) >= 10


@pytest.mark.slow
def test_the_page_has_the_verdicts_of_today():
    """The row "all" of minipeft's table, counted anew."""
    found = Counter(judge(case, minipeft)[0] for case in CASES)
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if "| all |" in line]
    cells = [int(cell) for cell in rows[0].strip("| ").split("|")[1:]]
    assert cells == [len(CASES), *(found[verdict] for verdict in VERDICTS)]
