"""Broken on purpose, one function at a time, in this process: the suite's own test notices each.

The lessons and the exercises are asked in tests/long/test_mutations.py.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from moved import MOVED
from mutations import MUTATIONS
from quick import exchange, noticed

pytestmark = [
    pytest.mark.smoke,
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


@pytest.mark.parametrize("mutation", [*MUTATIONS, *MOVED], ids=lambda m: m.name)
def test_the_suite_notices(mutation):
    assert noticed(mutation, mutation.test)


def test_the_unbroken_package_passes_one_of_them():
    assert noticed(None, MUTATIONS[0].test) == ""


def test_what_is_in_no_function_is_told():
    outside = replace(MUTATIONS[0], old="BITFIT = Placement(", new="BITFIT = Placement (")
    with pytest.raises(ValueError, match="changes no function"):
        exchange(outside)
