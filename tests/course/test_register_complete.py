"""Nothing that was found wrong in the notes, or wanting, is missing from the register of claims.

`FOUND` is this project's own list from a reading of the five notes line by line: where something
is wrong, only partly right, or said without a source, and which row of `claims.md` answers it. The
rows say what it is. A line may need several. Rows of lessons 14 to 16 are held by their own tests.
"""

from __future__ import annotations

import re

import pytest

from minipeft.course.claims import Claim, register

FOUND = """
000:L19 lora-import
000:L35 lora-kaiming
000:L36 family-kaiming-conv family-kaiming-fan-in
000:L39 family-kaiming-gain
000:L54 loftq-activations
000:L56 loftq-name
000:L58 loftq-activations
000:L60 loftq-targets
000:L63 loftq-dots
000:L70 family-ellipsis
000:L72 family-rslora
000:L78 family-dora-low-rank
000:L83 family-ellipsis
000:L88 family-dora-linear
000:L90 qdora-translated
000:L98 family-replication-shared
000:L100 family-ellipsis
000:L134 merge-copy
000:L136 merge-copy
000:L145 inside-all-linear
000:L146 lora-alpha
000:L149 bitfit-none
000:L152 family-init-values
000:L153 family-layers-default
000:L159 loftq-both
000:L194 lora-model-saves peft-model-argument
000:L196 peft-model-argument
000:L198 peft-model-argument
001:L7 ptuning-small-part
001:L8 ptuning-stored
001:L12 inside-adapters-word
001:L22 bitfit-head
001:L27 bitfit-import
001:L30 bitfit-llama bitfit-t5
001:L44 prompt-hard prompt-length
001:L56 prompt-import
001:L58 prompt-cells
001:L66 ptuning-network ptuning-soft-only ptuning-faster
001:L70 ptuning-num-layers
001:L78 prompt-cells
001:L86 prefix-mlp
001:L91 prompt-cells
001:L109 saved-copy saved-tied
001:L123 lora-not-wrapped
001:L130 merge-import
001:L132 merge-import
001:L147 ia3-qk
001:L152 ia3-fused-q
001:L153 ia3-config
001:L162 nf4-loads
001:L166 qlora-qv
001:L168 qlora-bottleneck
001:L170 qlora-gradients
002:L30 adapter-peft
002:L33 adapter-place
002:L50 inside-gpt2-size
002:L78 lora-alpha-comment
002:L124 lora-output-fence
002:L135 qlora-counter
002:L150 lora-output-fence
003:L24 memory-70b-total memory-conventions
003:L30 memory-saving
003:L32 memory-speed
003:L53 lora-no-scale
003:L80 lora-fan-in
003:L85 lora-fan-in lora-first-step
003:L99 lora-conv1d lora-half lora-complete
003:L133 lora-alpha-2r lora-alpha-comment
003:L150 lora-import-order
003:L157 lora-7b-count lora-7b-share
003:L158 lora-7b-share
003:L165 inside-target-names
003:L168 lora-embedding
003:L171 qlora-name
003:L176 nf4-four-bits
003:L178 qlora-compute
003:L189 lora-import-order
003:L217 memory-65b-lora
003:L218 memory-conventions
003:L225 memory-full-column memory-lora-column memory-qlora-column
003:L227 memory-conventions
003:L233 adapter-place
003:L236 adapter-layernorm
003:L252 adapter-start
003:L263 adapter-residual
003:L266 adapter-config
003:L289 prompt-vocabulary
003:L326 prompt-mask prompt-labels
003:L328 prompt-embeddings prompt-twice
003:L350 prefix-v2-alike prefix-keys-width
003:L354 prefix-v2-optional
003:L373 prefix-v2-grows
003:L381 lora-share memory-saving memory-speed
003:L382 memory-saving memory-prompt-below-qlora
003:L383 adapter-share adapter-memory adapter-speed
003:L384 memory-prompt-below-qlora memory-speed
003:L385 prefix-v2-share prefix-v2-memory
003:L393 lora-rank-table
003:L414 inside-target-names
003:L443 qlora-optimizer
003:L462 lora-import-order
004:L53 base-any-module
004:L115 family-conv-argument
004:L117 family-conv-bias family-conv-start
004:L120 family-conv-forward
"""
LINES = [line.split() for line in FOUND.split("\n") if line]
LENGTHS = {"000": 198, "001": 177, "002": 203, "003": 489, "004": 122}
ROWS = {row.id: row for row in register()}


def cited(note: str) -> set[tuple[str, int]]:
    """All lines that a row's `note` names: "003:L24, L218-219" is three of note 003."""
    lines: set[tuple[str, int]] = set()
    name = ""
    for part in note.split(","):
        match = re.fullmatch(r"(?:(\d{3}):)?L(\d+)(?:-L?(\d+))?", part.strip())
        assert match, f"{note!r} is not like 003:L24, L218-219"
        name = match[1] or name
        lines |= {(name, n) for n in range(int(match[2]), int(match[3] or match[2]) + 1)}
    return lines


def test_a_note_names_its_lines():
    assert cited("003:L24, L218-219") == {("003", 24), ("003", 218), ("003", 219)}
    assert cited("001:L8, 003:L467") == {("001", 8), ("003", 467)}


@pytest.mark.parametrize(("line", "ids"), [(line, ids) for line, *ids in LINES])
def test_what_was_found_has_its_rows(line: str, ids: list[str]):
    note, _, number = line.partition(":L")
    for id in ids:
        assert id in ROWS, f"{line}: claims.md has no row {id!r}"
        assert (note, int(number)) in cited(ROWS[id].note), f"{id} cites {ROWS[id].note}"


def test_no_fault_is_in_the_register_alone():
    """A row with a verdict other than OK was found somewhere, so the list above knows it."""
    listed = {id for _, *ids in LINES for id in ids}
    later = {row.id for row in ROWS.values() if row.lesson[:2] > "13"}
    faults = {row.id for row in ROWS.values() if row.verdict != "OK"}
    assert faults - later - listed == set()
    assert {id for id in listed if ROWS[id].verdict == "OK"} == set()


@pytest.mark.parametrize("row", ROWS.values(), ids=lambda row: row.id)
def test_a_row_cites_lines_that_are_there(row: Claim):
    assert all(1 <= n <= LENGTHS[name] for name, n in cited(row.note))
