"""All cases, by area."""

from __future__ import annotations

import cases_config
import cases_inject
import cases_learn
import cases_load
import cases_memory
import cases_prompt
import cases_quant
import cases_save
from machine import Case

ROOMS = (
    cases_config, cases_inject, cases_learn, cases_save, cases_load, cases_memory, cases_prompt,
    cases_quant,
)  # fmt: skip
CASES: list[Case] = [case for room in ROOMS for case in room.CASES]
