"""No mistake of the collection is silent, unclear, or loses data, in minipeft."""

from __future__ import annotations

from collections import Counter

import pytest
from collection import CASES
from machine import GOOD, Case, judge

import minipeft


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.area}: {case.name}"[:90])
def test_a_mistake_is_met(case: Case):
    verdict, said = judge(case, minipeft)
    assert verdict in GOOD, f"{verdict}: {said}"


def test_the_collection_is_large_and_its_names_differ():
    assert len(CASES) >= 200
    assert [n for n, times in Counter((c.area, c.name) for c in CASES).items() if times > 1] == []
    assert min(Counter(case.area for case in CASES).values()) >= 10
