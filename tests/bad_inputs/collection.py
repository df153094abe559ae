"""All cases, by area."""

from __future__ import annotations

import cases_config
import cases_inject
import cases_learn
from machine import Case

CASES: list[Case] = [*cases_config.CASES, *cases_inject.CASES, *cases_learn.CASES]
