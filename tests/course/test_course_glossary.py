"""The glossary: entries, the page, and one link from each lesson's first use of a term."""

from __future__ import annotations

import re

import pytest

from minipeft.course import CourseError, builder, glossary
from minipeft.course.glossary import linked, parse, terms

TEXT = """\
# Title

## rank
also: ranks
How many. Lesson 08.

## residual connection
also: residual, residual stream
A sum.
"""
LINK = re.compile(r"\[([^\]]+)\]\(glossary\.ipynb#([^)]+)\)")


def test_the_first_use_in_a_lesson_is_a_link():
    cells = ["Two ranks, one rank.", "A rank again."]
    assert linked(cells, parse(TEXT)) == ["Two [ranks](glossary.ipynb#rank), one rank.", cells[1]]


@pytest.mark.parametrize(
    "apart",
    [
        "`rank`",
        "$rank$",
        "$$\nrank\n$$",
        "# The rank",
        "| a rank | b |",
        "[the rank](08_lora.ipynb)",
        "![rank](rank.png)",
        "```text\nrank\n```",
        '<a title="rank">',
        "https://rank.org/rank",
        "rankings, low-rank, prank",
    ],
)
def test_what_is_no_prose_stays_as_it_is(apart):
    assert linked([apart, "rank"], parse(TEXT)) == [apart, "[rank](glossary.ipynb#rank)"]


def test_the_longest_form_wins_and_emphasis_is_kept():
    got = linked(["the *residual stream* and the residual"], parse(TEXT))
    want = "[residual stream](glossary.ipynb#residual-connection)"
    assert got == [f"the *{want}* and the residual"]


def test_a_term_of_another_case_keeps_its_case():
    assert linked(["Rank is"], parse(TEXT)) == ["[Rank](glossary.ipynb#rank) is"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("## rank\nalso: ranks\n", "'rank' has no definition"),
        ("## rank's\nA.\n", "has more in it than letters"),
        ("## rank\nA.\n\n## order\nalso: rank\nB.\n", "'rank' belongs to 'rank' already"),
    ],
)
def test_a_malformed_entry_is_a_clear_error(text, message):
    with pytest.raises(CourseError, match=message):
        parse(text)


def test_the_page_links_to_lessons_that_are_there():
    head, rank, residual = glossary.page([("08_lora", "LoRA")], parse(TEXT))
    assert head.startswith("# Glossary")
    assert rank == "### rank\n\nHow many. [Lesson 08](08_lora.ipynb)."
    assert residual == "### residual connection\n\nA sum."


BUILT = builder.build()
PAGE = BUILT["notebooks/glossary.ipynb"]


def test_every_link_of_a_lesson_has_its_entry_and_stands_once():
    headings = re.findall(r"^### (.*)$", "\n".join(c.source for c in PAGE.cells), re.MULTILINE)
    anchors = {heading.replace(" ", "-") for heading in headings}  # as Jupyter makes them
    linked_at_all = set()
    for path, notebook in BUILT.items():
        prose = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
        used = [anchor for _, anchor in LINK.findall(prose)]
        assert set(used) <= anchors, path
        assert len(used) == len(set(used)), path
        linked_at_all |= set(used)
    assert linked_at_all == anchors, "an entry that no lesson uses"


def test_a_lesson_that_an_entry_names_is_there():
    names = {path.split("/")[1][:2] for path in BUILT if path.startswith("notebooks/")}
    assert {number for t in terms() for number in re.findall(r"Lesson (\d\d)", t.text)} <= names
