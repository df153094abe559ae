"""A pytest plugin, `-p notebook_times`: the seconds of each notebook, in a table at the end."""

from __future__ import annotations

from collections import Counter
from typing import Any

SECONDS: Counter[str] = Counter()


def pytest_runtest_logreport(report: Any) -> None:
    """Adds a cell's time to its notebook's; with xdist the reports of all workers arrive here."""
    SECONDS[report.nodeid.partition("::")[0]] += report.duration


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Writes the table."""
    notebooks = {path: s for path, s in SECONDS.items() if path.endswith(".ipynb")}
    if not notebooks:
        return
    terminalreporter.section("seconds of each notebook")
    for path, seconds in sorted(notebooks.items()):
        terminalreporter.write_line(f"{seconds:8.1f}  {path}")
    total = sum(notebooks.values())
    terminalreporter.write_line(f"{total:8.1f}  in all, {len(notebooks)} notebooks")
