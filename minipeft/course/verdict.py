"""What `check` answers: not attempted, right, or wrong; HTML in a notebook, text elsewhere."""

from __future__ import annotations

import html
import re
import sys
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["not attempted", "right", "wrong"]
MIME = "application/vnd.minipeft.verdict+json"  # how `minipeft grade` reads verdicts back

# Readable on a light page and on a dark one.
COLOURS = {"right": "#2e8b57", "wrong": "#c0392b", "not attempted": "#7f8c8d"}


def cell_number() -> int | None:
    """The number of the notebook cell that is running, None outside a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return int(shell.execution_count) if shell is not None else None


def to_html(text: str) -> str:
    """Plain text as HTML; what stands in backquotes becomes code."""
    return re.sub(r"`([^`\n]+)`", r"<code>\1</code>", html.escape(text)).replace("\n", "<br>")


def card(head: str, body: str, colour: str) -> str:
    """A bold line and a text beside a coloured bar."""
    return (
        f'<div style="border-left: 4px solid {colour}; padding: 0.3em 0.8em">'
        f'<b style="color: {colour}">{to_html(head)}</b><br>{body}</div>'
    )


def publish(data: dict[str, Any]) -> None:
    """Shows a bundle of MIME types in the notebook, or its text/plain outside of one."""
    if cell_number() is None:
        print(data["text/plain"])
        return
    from IPython.display import display

    display(data, raw=True)  # type: ignore[no-untyped-call]


@dataclass
class Verdict:
    """One answer of `check`.

    Attributes:
        id: the exercise.
        status: "not attempted", "right" or "wrong".
        message: what was tested, or the mistake.
    """

    id: str
    status: Status
    message: str
    _shown_in: int | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        head = f"{self.status}: {self.id}"
        return f"{head}\n{self.message}"

    def bundle(self) -> dict[str, Any]:
        """The verdict by MIME type."""
        head = f"{self.status}: {self.id}"
        return {
            "text/plain": str(self),
            "text/html": card(head, to_html(self.message), COLOURS[self.status]),
            MIME: {"id": self.id, "status": self.status, "message": self.message},
        }

    def show(self) -> None:
        """Displays the verdict, once per cell."""
        self._shown_in = cell_number()
        publish(self.bundle())

    def _ipython_display_(self) -> None:
        # `check(...)` shows its verdict even in the middle of a cell; as the last line of a cell
        # the notebook would show the returned verdict a second time.
        if self._shown_in != cell_number():
            self.show()
