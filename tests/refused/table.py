"""Every case on minipeft and on Hugging Face peft, and tests/BAD_INPUTS.md with what came of it.

python tests/refused/table.py
python tests/refused/table.py --pin    only said.json: what minipeft says to each, word for word
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import peft
import torch
import transformers
from collection import CASES
from machine import CHANGED, GOOD, VERDICTS, Case, judge

import minipeft

PAGE = Path(__file__).parents[1] / "BAD_INPUTS.md"
HEAD = """# {cases} mistakes, and what becomes of them

`python tests/refused/table.py` makes each mistake in minipeft and in Hugging Face peft {peft}
(torch {torch}, transformers {transformers}) and writes this page. A verdict is given by machine
(`tests/refused/machine.py`), by the same rule for both:

- **ok**: the library did what was meant all the same.
- **clear**: an error of the library's kind names what is at fault, and nothing was changed.
- **warned**: it went on, and a warning names what is at fault.
- **unclear**: an error that does not name it, or that left the model changed.
- **silent**: it went on without a word, and the result is not what was meant.
- **data loss**: something good that was there before is gone.

The mistakes were written by those who wrote minipeft, and each that it failed was mended, so its
last three columns are zero by construction: they say nothing of mistakes that nobody thought of.
peft was not written against this collection. What it does silently is listed below, to look out
for. Of its unclear ones, {changed} name what is at fault, and leave the model changed (frozen, or
with a part of the adapter in it). {alone} cases of quantization have no counterpart in peft.

"""


def table(title: str, found: dict[str, Counter[str]]) -> str:
    """Verdicts by area."""
    lines = [f"## {title}", "", f"| area | cases | {' | '.join(VERDICTS)} |"]
    lines.append("|---|" + "--:|" * (len(VERDICTS) + 1))
    for area, counts in [*found.items(), ("all", sum(found.values(), Counter()))]:
        cells = " | ".join(str(counts[verdict]) for verdict in VERDICTS)
        lines.append(f"| {area} | {counts.total()} | {cells} |")
    return "\n".join(lines)


def by_area(verdicts: dict[Case, str]) -> dict[str, Counter[str]]:
    """Counted."""
    areas: dict[str, Counter[str]] = {}
    for case, verdict in verdicts.items():
        areas.setdefault(case.area, Counter())[verdict] += 1
    return areas


def page() -> str:
    """The page's text; both libraries are run."""
    libraries: list[tuple[Any, list[Case]]] = [
        (minipeft, CASES), (peft, [case for case in CASES if case.theirs])
    ]  # fmt: skip
    judged = [{case: judge(case, lib) for case in cases} for lib, cases in libraries]
    ours, theirs = ({case: verdict for case, (verdict, _) in each.items()} for each in judged)
    changed = sum(said.startswith(CHANGED) for _, said in judged[1].values())
    text = HEAD.format(
        cases=len(CASES), peft=version("peft"), torch=torch.__version__.partition("+")[0],
        transformers=transformers.__version__, alone=len(ours) - len(theirs), changed=changed,
    )  # fmt: skip
    text += table("minipeft", by_area(ours)) + "\n\n"
    text += table(f"Hugging Face peft {version('peft')}", by_area(theirs)) + "\n"
    for verdict in [v for v in VERDICTS if v not in GOOD][::-1]:
        text += f"\n## peft: {verdict}\n\n"
        rows = [(c, ours[c]) for c in theirs if theirs[c] == verdict]
        text += "".join(f"- {c.area}: {c.name} (minipeft: {own})\n" for c, own in rows) or "None.\n"
    return text


def pin() -> None:
    """Write said.json: what the tests compare with."""
    said = {f"{case.area}: {case.name}": judge(case, minipeft) for case in CASES}
    text = json.dumps(said, indent=1, ensure_ascii=False)
    Path(__file__).with_name("said.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    if "--pin" in sys.argv:
        pin()
        sys.exit()
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8")[:3500])
