"""The glossary: its page, and a link from a term's first use in every lesson."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .exercise import CourseError

SOURCE = Path(__file__).with_name("glossary.md")
PAGE = "glossary"
# What is not prose: fences, code, formulas, links and images, tags, headings, rows of tables.
APART = re.compile(
    r"```.*?```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]+\$|!?\[[^\]]*\]\([^)]*\)|<[^>\n]+>"
    r"|^#.*?$|^\|.*?$|https?://\S+",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Term:
    """One entry: the heading, other forms of it, and what it means, in Markdown."""

    name: str
    forms: tuple[str, ...]
    text: str

    @property
    def anchor(self) -> str:
        """What Jupyter, nbconvert and VS Code alike make of the page's heading."""
        return self.name.lower().replace(" ", "-")


def parse(text: str, source: str = "glossary.md") -> list[Term]:
    """The entries: a `## ` heading, an `also: ` line or none, and the definition.

    Raises:
        CourseError: an entry has no definition, or a name of which no anchor can be made, or a form
            of a term belongs to two entries.
    """
    terms: list[Term] = []
    owner: dict[str, str] = {}
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        name, _, body = part.partition("\n")
        also, rest = re.match(r"(?:also: ([^\n]*)\n)?(.*)", body, re.DOTALL).groups()  # type: ignore[union-attr]
        forms = (name.strip(), *(f.strip() for f in (also or "").split(",") if f.strip()))
        if not rest.strip():
            raise CourseError(f"{source}: the entry {name!r} has no definition")
        if not re.fullmatch(r"[A-Za-z0-9 -]+", name.strip()):
            raise CourseError(f"{source}: {name!r} has more in it than letters, digits and -")
        for form in forms:
            if owner.setdefault(form.lower(), name) != name:
                raise CourseError(f"{source}: {form!r} belongs to {owner[form.lower()]!r} already")
        terms.append(Term(name.strip(), forms, rest.strip()))
    return terms


def terms() -> list[Term]:
    """All entries, in alphabetical order."""
    return sorted(parse(SOURCE.read_text(encoding="utf-8")), key=lambda t: t.name.lower())


def page(lessons: Sequence[tuple[str, str]], entries: Sequence[Term]) -> list[str]:
    """The glossary's cells, in Markdown.

    Args:
        lessons: (name, title) of each lesson there is; "Lesson 08" in an entry becomes a link.
        entries: the terms.
    """
    files = {name[:2]: name for name, _ in lessons}

    def link(match: re.Match[str]) -> str:
        name = files.get(match[1])
        return f"[Lesson {match[1]}]({name}.ipynb)" if name else match[0]

    head = (
        "# Glossary\n\nThe words that the lessons use, in alphabetical order. In each lesson the "
        "first use of a word is a link to its entry; an entry links to the lesson that explains it."
    )
    body = [f"### {t.name.lower()}\n\n{t.text}" for t in entries]
    return [head, *(re.sub(r"Lesson (\d\d)", link, one) for one in body)]


def linked(cells: Sequence[str], entries: Sequence[Term]) -> list[str]:
    """The prose of one lesson with the first use of each term made a link.

    Args:
        cells: the lesson's Markdown cells, in order.
        entries: the terms.
    """
    left = {form.lower(): t for t in entries for form in t.forms}
    out = []
    for cell in cells:
        parts, at = [], 0
        for apart in [*APART.finditer(cell), None]:
            prose = cell[at : apart.start() if apart else len(cell)]
            parts.append(_link(prose, left))
            if apart:
                parts.append(apart[0])
                at = apart.end()
        out.append("".join(parts))
    return out


def _link(prose: str, left: dict[str, Term]) -> str:
    """Links terms of `left` in a stretch of prose, and takes what was linked out of `left`."""
    while left:
        forms = sorted(left, key=len, reverse=True)  # "residual stream" before "residual"
        pattern = r"(?<![\w-])(?:" + "|".join(map(re.escape, forms)) + r")(?![\w-])"
        pieces = re.split(r"(\[[^\]]*\]\([^)]*\))", prose)  # links that this loop has made
        for i, piece in enumerate(pieces):
            found = None if i % 2 else re.search(pattern, piece, re.IGNORECASE)
            if found:
                term = left[found[0].lower()]
                for form in term.forms:
                    left.pop(form.lower())
                a, b = found.span()
                pieces[i] = f"{piece[:a]}[{found[0]}]({PAGE}.ipynb#{term.anchor}){piece[b:]}"
                break
        else:
            return prose
        prose = "".join(pieces)
    return prose
