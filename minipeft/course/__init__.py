"""The course: what a notebook imports.

    from minipeft.course import check, claims, hint, progress, reveal, show

`README.md` in this folder says how to write a lesson, an exercise and a claim.
"""

from .checker import check, hint, reveal
from .claims import claims
from .display import show
from .exercise import CourseError
from .oracle import import_peft
from .ready import ready
from .record import progress

__all__ = [
    "CourseError",
    "check",
    "claims",
    "hint",
    "import_peft",
    "progress",
    "ready",
    "reveal",
    "show",
]
