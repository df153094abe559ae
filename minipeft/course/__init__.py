"""The course: what a notebook imports.

    from minipeft.course import check, claims, hint, progress, reveal, show

`README.md` in this folder says how to write a lesson, an exercise and a claim.
"""

from .checker import check, hint, reveal
from .claims import claims
from .display import show
from .exercise import CourseError
from .record import progress
from .reference import reference_peft

__all__ = ["CourseError", "check", "claims", "hint", "progress", "reference_peft", "reveal", "show"]
