"""Draws the rooms of the package from its imports: docs/rooms.svg, and a table in architecture.md.

    python docs/rooms.py            write both
    python docs/rooms.py --check    exit 1 if what is stored is not what would be written

`tests/test_house.py` uses the same reader of imports, and runs the check.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOUSE = ROOT / "minipeft"
# From the ground up: a room uses its own files and those before it. finetune and course stand on
# one floor. "__init__" is the door, minipeft/__init__.py.
FLOORS = [
    ["checks"], ["layers"], ["methods"], ["tuner"], ["saving"], ["model"], ["__init__"], ["lab"],
    ["finetune", "course"], ["cli"],
]  # fmt: skip
SAYS = {
    "checks": "what is refused, and how it is said",
    "layers": "a frozen layer seen as one matrix W (out, in)",
    "methods": "what the notes derive, a file each",
    "tuner": "how adapters get into a model and out of it",
    "saving": "peft's two files on disk",
    "model": "PeftModel: the verbs",
    "__init__": "the public names",
    "lab": "what lessons use",
    "finetune": "real fine-tunes",
    "course": "the lessons, and what checks answers",
    "cli": "the command",
}


def files() -> dict[str, Path]:
    """All modules of the package, by dotted name below it; a folder's __init__ is the folder."""
    found = {}
    for file in sorted(HOUSE.rglob("*.py")):
        parts = file.relative_to(HOUSE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" and parts[:-1] else parts)] = file
    return found


def imported(name: str, known: dict[str, Path]) -> set[str]:
    """The modules that a module imports, at its top or inside a function."""
    file, found = known[name], set()
    here = file.relative_to(HOUSE).parts[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("minipeft.")]
            found |= {each.removeprefix("minipeft.") for each in names}
        if not isinstance(node, ast.ImportFrom):
            continue
        path = (node.module or "").split(".") if node.module else []
        if node.level:
            path = [*here[: len(here) - node.level + 1], *path]
        elif path[:1] == ["minipeft"]:
            path = path[1:]
        else:
            continue
        for alias in node.names:  # a module of that folder, or a name in it
            inner, outer = ".".join([*path, alias.name]), ".".join(path) or "__init__"
            found.add(inner if inner in known else outer)
    return {each for each in found if each in known and each != name}


def room(name: str) -> str:
    """methods.lora is in the room "methods"."""
    return name.partition(".")[0]


def arrows(known: dict[str, Path]) -> dict[tuple[str, str], int]:
    """{(room, a room that it uses): how many imports between their files}."""
    found: dict[tuple[str, str], int] = {}
    for name in known:
        for other in imported(name, known):
            if room(name) != room(other):
                pair = room(name), room(other)
                found[pair] = found.get(pair, 0) + 1
    return found


def circles(known: dict[str, Path]) -> list[list[str]]:
    """Files that import each other in a circle, each as the way round."""
    uses = {name: imported(name, known) for name in known}
    state: dict[str, int] = {}
    path: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        state[name] = 1
        path.append(name)
        for other in sorted(uses[name]):
            if state.get(other) == 1:
                found.append([*path[path.index(other) :], other])
            elif other not in state:
                visit(other)
        path.pop()
        state[name] = 2

    for name in known:
        if name not in state:
            visit(name)
    return found


def lines(known: dict[str, Path], which: str) -> tuple[int, int]:
    """How many files a room has, and lines in them."""
    mine = [file for name, file in known.items() if room(name) == which]
    return len(mine), sum(len(f.read_text(encoding="utf-8").splitlines()) for f in mine)


WIDTH, HEIGHT, GAP, LEFT = 250, 46, 22, 300


def drawing(known: dict[str, Path]) -> str:
    """The rooms as boxes, the ground at the bottom, an arrow for each room that another uses."""
    place: dict[str, tuple[float, float]] = {}
    rows = len(FLOORS)
    for level, floor in enumerate(FLOORS):
        for column, name in enumerate(floor):
            x = LEFT + (column - (len(floor) - 1) / 2) * (WIDTH + 40)
            place[name] = x, (rows - 1 - level) * (HEIGHT + GAP) + 10
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * LEFT + WIDTH} '
        f'{rows * (HEIGHT + GAP) + 10}" font-family="sans-serif" font-size="13">',
        '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" '
        'markerHeight="6" orient="auto"><path d="M0 0L8 4L0 8z" fill="#667"/></marker></defs>',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    level_of = {name: level for level, floor in enumerate(FLOORS) for name in floor}
    for (user, used), count in sorted(arrows(known).items()):
        (x0, y0), (x1, y1) = place[user], place[used]
        far = level_of[user] - level_of[used]
        if far == 1 and x0 == x1:
            path = f"M{x0 + WIDTH / 2} {y0 + HEIGHT} L{x1 + WIDTH / 2} {y1}"
        else:  # around the outside, the farther the wider; odd distances left, even ones right
            side = far % 2 == 0
            start, end = (x0 + WIDTH * side, y0 + 30), (x1 + WIDTH * side, y1 + 16)
            bow = (24 + 26 * far) * (1 if side else -1)
            path = (
                f"M{start[0]} {start[1]} C{start[0] + bow} {start[1]} {end[0] + bow} {end[1]} "
                f"{end[0]} {end[1]}"
            )
        width = 0.8 + min(count, 40) / 16
        out.append(
            f'<path d="{path}" fill="none" stroke="#667" stroke-opacity="0.55" '
            f'stroke-width="{width:.2f}" marker-end="url(#a)"/>'
        )
    for name, (x, y) in place.items():
        title = "minipeft/__init__.py" if name == "__init__" else name
        title += ".py" if name == "model" else "" if name == "__init__" else "/"
        out.append(
            f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#eef2f8" '
            f'stroke="#445"/><text x="{x + WIDTH / 2}" y="{y + 19}" text-anchor="middle" '
            f'font-weight="bold">{title}</text><text x="{x + WIDTH / 2}" y="{y + 36}" '
            f'text-anchor="middle" font-size="11">{SAYS[name]}</text>'
        )
    return "\n".join([*out, "</svg>"]) + "\n"


def table(known: dict[str, Path]) -> str:
    """The rooms from the top floor down, with what they use."""
    used = arrows(known)
    rows = ["| room | what lives there | files | uses |", "|---|---|---:|---|"]
    for floor in FLOORS[::-1]:
        for name in floor:
            count, _ = lines(known, name)
            others = [b for each in FLOORS for b in each if (name, b) in used]
            rows.append(f"| `{name}` | {SAYS[name]} | {count} | {', '.join(others) or '-'} |")
    return "\n".join(rows)


def page(known: dict[str, Path], text: str) -> str:
    """architecture.md with the table of today between its marks."""
    return re.sub(
        r"(<!-- rooms -->\n).*?(<!-- end -->)",
        lambda m: f"{m[1]}{table(known)}\n{m[2]}",
        text,
        flags=re.DOTALL,
    )


def main(arguments: list[str]) -> int:
    """Write, or check."""
    known, md, svg = files(), ROOT / "docs" / "architecture.md", ROOT / "docs" / "rooms.svg"
    wanted = {svg: drawing(known), md: page(known, md.read_text(encoding="utf-8"))}
    stale = [f for f, text in wanted.items() if not f.exists() or f.read_text("utf-8") != text]
    if "--check" in arguments:
        for file in stale:
            print(f"{file.relative_to(ROOT)} is not what `python docs/rooms.py` writes")
        return int(bool(stale))
    for file, text in wanted.items():
        file.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
