"""`python -m minipeft.course.claims` prints the errata of the lecture notes, measured now."""

from __future__ import annotations

import sys

from ..exercise import CourseError
from . import claims

if __name__ == "__main__":
    try:
        claims(sys.argv[1] if len(sys.argv) > 1 else None)
    except CourseError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
