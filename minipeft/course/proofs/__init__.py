"""The proofs of the register of claims: one file per lesson, one function per row."""
