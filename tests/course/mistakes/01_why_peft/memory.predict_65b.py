"""Answers to memory.predict_65b: 131.9 GB."""

from minipeft.course.corpus import right, wrong

notes = wrong("80 is the note's number")(80)
weights = wrong("that is the frozen weights; the LoRA")(130.6)
full = wrong("that is full fine-tuning")(16 * 65.285660672)
in_bytes = wrong("those are bytes")(2 * 65_285_660_672 + 16 * 83_886_080)
binary = wrong("units of 2³⁰ bytes")((2 * 65_285_660_672 + 16 * 83_886_080) / 2**30)
two_each = wrong("16 bytes each, not 2")(2 * (65_285_660_672 + 83_886_080) / 1e9)

exact = right((2 * 65_285_660_672 + 16 * 83_886_080) / 1e9)
rounded = right(131.9)
whole = right(132)
