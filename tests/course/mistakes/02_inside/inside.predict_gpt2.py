"""Answers to inside.predict_gpt2: 124,439,808."""

from minipeft.course.corpus import right, wrong

D, L, V, P = 768, 12, 50257, 1024
BLOCK = 12 * D**2 + 13 * D

notes = wrong("it is BERT-base's")(110_000_000)
untied = wrong("the head is tied")((2 * V + P) * D + L * BLOCK + 2 * D)
no_last_norm = wrong("the norm behind the last block is missing")((V + P) * D + L * BLOCK)
no_positions = wrong("the 1,024 learned positions are missing")(V * D + L * BLOCK + 2 * D)
blocks = wrong("that is the twelve blocks alone")(L * BLOCK)
no_biases = wrong("the biases and norms of the blocks are missing")(
    (V + P) * D + L * 12 * D**2 + 2 * D
)
one_block = wrong("that is one block")((V + P) * D + BLOCK + 2 * D)
no_norms = wrong("each block has two norms")((V + P) * D + L * (12 * D**2 + 9 * D) + 2 * D)

formula = right((V + P) * D + L * BLOCK + 2 * D)
in_millions = right(124.44e6)
as_float = right(124_439_808.0)
