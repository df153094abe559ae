"""The measures of the house: imports point downwards, and files and ways through them are short."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from conftest import adapted, inputs, tiny

import minipeft

HOUSE = Path(minipeft.__file__).parent
FILES = sorted(HOUSE.rglob("*.py"))
# From the ground up: a room uses those before it only. "minipeft" is the door, __init__.py.
ORDER = [
    "errors", "checks", "config", "quant", "families", "bases", "rows", "merging", "core", "saved",
    "lengths", "inputs", "virtual", "names", "heads", "targets", "prompts", "methods", "refuse",
    "kbit", "plans", "tuner", "folder", "proof", "files", "misfit", "state", "encoders",
    "checkpoint", "several", "hub", "learning", "model", "counting", "assets", "zoo", "tasks",
    "training", "minipeft", "demo", "compare", "finetune", "course", "commands", "cli",
]  # fmt: skip
OUTSIDE = ("course", "commands", "cli.py", "assets")
PACKAGE = [f for f in FILES if f.relative_to(HOUSE).parts[0] not in OUTSIDE]
HEAVY = [
    "transformers", "datasets", "bitsandbytes", "matplotlib", "IPython", "peft", "torch._dynamo",
]  # fmt: skip


def room(parts: tuple[str, ...]) -> str:
    """minipeft/methods/lora.py and minipeft/errors.py are the rooms "methods" and "errors"."""
    name = parts[0].removesuffix(".py") if parts else "__init__"
    if name == "__init__" or name not in {f.name.removesuffix(".py") for f in HOUSE.iterdir()}:
        return "minipeft"
    return name


def imported(file: Path) -> set[str]:
    """The rooms that a file imports, at its top or inside a function."""
    here = file.relative_to(HOUSE).parts[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules = [alias.name.split(".") for alias in node.names]
            found |= {room(tuple(m[1:])) for m in modules if m[0] == "minipeft"}
        elif isinstance(node, ast.ImportFrom):
            path = (node.module or "").split(".") if node.module else []
            if node.level:
                path = [*here[: len(here) - node.level + 1], *path]
            elif path[0] == "minipeft":
                path = path[1:]
            else:
                continue
            # "from . import bases" imports rooms, or public names from the door
            found |= {room(tuple(path or [alias.name])) for alias in node.names}
    return found


def lines_of_code(text: str) -> int:
    """Lines that are neither blank nor comment nor docstring."""
    said: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(
            node
        ):
            first = node.body[0]
            said |= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in (
            tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
            tokenize.ENDMARKER,
        ):  # fmt: skip
            code |= set(range(token.start[0], token.end[0] + 1))
    return len(code - said)


def test_the_counter_of_lines():
    text = '"""Two\nlines."""\n\n# comment\ndef f(\n    a,\n):\n    """Doc."""\n'
    text += '    return """x\ny"""\n'
    assert lines_of_code(text) == 5


def test_the_reader_of_imports():
    assert imported(HOUSE / "errors.py") == set()
    assert {"bases", "config", "errors"} <= imported(
        HOUSE / "core.py"
    )  # bases: "from . import bases"
    assert {"bases", "core"} <= imported(HOUSE / "methods" / "lora.py")  # "from .. import bases"
    assert "methods" in imported(HOUSE / "__init__.py")


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(HOUSE)))
def test_imports_point_downwards(file: Path):
    mine = room(file.relative_to(HOUSE).parts)
    assert mine in ORDER, f"say in ORDER where {mine} stands"
    for other in imported(file):
        assert other in ORDER, f"say in ORDER where {other} stands"
        assert ORDER.index(other) <= ORDER.index(mine), f"{mine} must not use {other}"


def test_no_file_is_longer_than_250_lines():
    long = {
        str(f.relative_to(HOUSE)): len(f.read_text(encoding="utf-8").splitlines()) for f in FILES
    }
    assert {name: length for name, length in long.items() if length > 250} == {}


# A reader of one method needs its file and the house; these are the other methods, quantization,
# tables of names, what is refused, many adapters at once, crashes and damaged files, the hub, real
# runs, and the course.
BESIDE = (
    "methods", "quant", "kbit.py", "families.py", "zoo.py", "tasks.py", "training.py", "demo.py",
    "compare", "finetune", "checks.py", "refuse.py", "lengths.py", "heads.py", "rows.py",
    "several.py", "folder.py", "proof.py", "misfit.py", "encoders.py", "hub.py", "learning.py",
)  # fmt: skip


def test_the_house_stays_under_2000_lines_of_code():
    texts = {file: file.read_text(encoding="utf-8") for file in PACKAGE}
    beside = [file for file in PACKAGE if file.relative_to(HOUSE).parts[0] in BESIDE]
    house = sum(lines_of_code(text) for file, text in texts.items() if file not in beside)
    code, physical = (sum(map(f, texts.values())) for f in (lines_of_code, lambda t: t.count("\n")))
    print(f"{house} lines of code in the house, {code} with methods and course material")
    print(f"{physical} lines with docstrings, comments and blank lines")
    assert 1000 < house < 2000


def test_importing_minipeft_imports_nothing_heavy():
    script = f"import sys, minipeft; print([m for m in {HEAVY!r} if m in sys.modules])"
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "[]"


def passed(model: Any, house: Path) -> tuple[set[str], set[str]]:
    """The files below `house` and their functions that one forward of a tiny GPT-2 passes through.

    Not counted: comprehensions (functions to Python before 3.12), and `__getattr__`, which stands
    behind every `self.base_layer` and which no reader steps through.
    """
    files: set[str] = set()
    functions: set[str] = set()

    def see(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        uncounted = code.co_name.startswith("<") or code.co_name == "__getattr__"
        if event == "call" and house in Path(code.co_filename).parents and not uncounted:
            files.add(Path(code.co_filename).name)
            functions.add(f"{Path(code.co_filename).name}:{code.co_firstlineno} {code.co_name}")

    batch = inputs("gpt2")
    sys.setprofile(see)
    try:
        model(**batch)
    finally:
        sys.setprofile(None)
    return files, functions


def test_a_forward_passes_through_few_of_our_functions(peft: Any):
    assert passed(tiny("gpt2"), HOUSE) == (set(), set())
    for model in (adapted("gpt2"), adapted("gpt2", lora_dropout=0.1).train()):
        files, functions = passed(model, HOUSE)
        assert files == {"inputs.py", "core.py", "lora.py"}
        assert len(functions) <= 5, functions
    theirs = peft.get_peft_model(tiny("gpt2"), peft.LoraConfig(fan_in_fan_out=True))
    files, functions = passed(theirs, Path(peft.__file__).parent)
    print(f"Hugging Face peft: {len(files)} files, {len(functions)} functions")
    assert len(files) > 3
    assert len(functions) > 10


def test_the_public_names_are_all_there_and_documented():
    assert sorted(minipeft.__all__) == sorted(set(minipeft.__all__))
    for name in minipeft.__all__:
        assert getattr(minipeft, name).__doc__, name


def test_notebooks_import_the_package_and_do_not_repeat_it():
    public = {name for name in minipeft.__all__ if isinstance(getattr(minipeft, name), type)}
    for lesson in sorted((HOUSE / "course" / "lessons").glob("*.md")):
        text = lesson.read_text(encoding="utf-8")
        repeated = {
            name for name in public if f"\nclass {name}(" in text or f"\nclass {name}:" in text
        }
        assert not repeated, f"{lesson.name} defines {repeated}; import it, or show its source"
