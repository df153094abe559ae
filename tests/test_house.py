"""The measures of the house: rooms in layers, no circle, short ways through, a light import."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from conftest import adapted, inputs, tiny

import minipeft

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
import rooms  # noqa: E402

HOUSE = Path(minipeft.__file__).parent
HEAVY = [
    "transformers", "datasets", "bitsandbytes", "matplotlib", "IPython", "peft", "torch._dynamo",
]  # fmt: skip
# What may lie at the repository's root; a model saved without a folder of its own would be a stray.
AT_THE_ROOT = {
    ".ci", ".git", ".gitignore", ".pre-commit-config.yaml", "CHANGELOG.md", "CONTRIBUTING.md",
    "LICENSE", "Makefile", "README.md", "constraints.txt", "docs", "exercises", "minipeft",
    "notebooks", "pyproject.toml", "solutions", "tests",
}  # fmt: skip

# --- rooms ---------------------------------------------------------------------------------------


def test_the_reader_of_imports():
    known = rooms.files()
    assert rooms.imported("checks.say", known) == set()
    assert {"checks.errors", "layers.quant.packed"} <= rooms.imported("layers.bases", known)
    assert "methods.lora" in rooms.imported("methods.dora", known)
    assert "lab.assets" in rooms.imported("lab.zoo", known) | {"lab.assets"}
    # inside a function, too
    assert "cli.models" in rooms.imported("cli.main", known)


def test_rooms_use_those_below_them_only():
    level = {name: at for at, floor in enumerate(rooms.FLOORS) for name in floor}
    there = {rooms.room(name) for name in rooms.files()}
    assert there == set(level), "say in docs/rooms.py on which floor a room stands"
    upward = [(a, b) for a, b in rooms.arrows(rooms.files()) if level[b] >= level[a]]
    assert upward == []


def test_no_files_import_each_other_in_a_circle():
    assert rooms.circles(rooms.files()) == []


def test_the_searcher_of_circles_finds_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a.py").write_text("from .b import x\n")
    (tmp_path / "b.py").write_text("def f():\n    from . import a\n")
    monkeypatch.setattr(rooms, "HOUSE", tmp_path)
    assert rooms.circles(rooms.files()) == [["a", "b", "a"]]


def test_the_root_has_at_most_eleven_rooms_on_ten_floors():
    assert len(rooms.FLOORS) <= 10
    there = [f for f in HOUSE.iterdir() if f.suffix == ".py" or (f / "__init__.py").exists()]
    assert len(there) <= 11


def test_each_room_says_what_lives_in_it():
    for folder in HOUSE.iterdir():
        if (folder / "__init__.py").exists():
            said = (folder / "__init__.py").read_text(encoding="utf-8").partition("\n\n")
            assert said[0].startswith('"""'), folder
            assert len(said[2].splitlines()) >= 3, f"{folder.name} must say what lives in it"


def test_the_drawing_of_the_rooms_is_that_of_today():
    assert rooms.main(["--check"]) == 0


def test_nothing_strays_at_the_root():
    """What git has there, and files that lie there; hidden folders are an editor's own."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout
    there = {Path(name).parts[0] for name in tracked.splitlines()}
    there |= {f.name for f in ROOT.iterdir() if f.is_file() and not f.name.startswith(".")}
    assert there <= AT_THE_ROOT, f"strays: {sorted(there - AT_THE_ROOT)}"


# --- ways ----------------------------------------------------------------------------------------


def walk(run: Callable[[], Any], house: Path = HOUSE) -> tuple[Any, list[str], list[str]]:
    """What `run` returns; and the files and functions of `house` that it enters, call by call.

    Not counted: comprehensions (functions to Python before 3.12), and `__getattr__`, which stands
    behind every `self.base_layer` and which no reader steps through.
    """
    files: list[str] = []
    functions: list[str] = []

    def see(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        uncounted = code.co_name.startswith("<") or code.co_name == "__getattr__"
        if event == "call" and house in Path(code.co_filename).parents and not uncounted:
            files.append(Path(code.co_filename).relative_to(house).as_posix())
            functions.append(f"{files[-1]}:{code.co_firstlineno} {code.co_name}")

    sys.setprofile(see)
    try:
        result = run()
    finally:
        sys.setprofile(None)
    return result, files, functions


def changes(files: list[str]) -> int:
    """How often the way goes into another file; the first one counts."""
    return sum(a != b for a, b in zip(["", *files], files, strict=False))


def limit(n: int) -> int:
    """A number of docs/architecture.md, with its margin of a tenth."""
    return n + n // 10


def test_a_forward_passes_through_few_of_our_functions(peft: Any):
    batch = inputs("gpt2")
    assert walk(lambda: tiny("gpt2")(**batch))[1] == []
    for model in (adapted("gpt2"), adapted("gpt2", lora_dropout=0.1).train()):
        _, files, functions = walk(lambda m=model: m(**batch))
        assert set(files) == {"model.py", "tuner/slots.py", "methods/lora.py"}
        assert len(set(functions)) <= 5, functions
    theirs = peft.get_peft_model(tiny("gpt2"), peft.LoraConfig(fan_in_fan_out=True))
    _, files, functions = walk(lambda: theirs(**batch), Path(peft.__file__).parent)
    print(f"Hugging Face peft: {len(set(files))} files, {len(set(functions))} functions")
    assert len(set(files)) > 3
    assert len(set(functions)) > 10


def test_a_plain_config_enters_no_file_of_an_option_that_nobody_asked_for():
    _, files, _ = walk(lambda: minipeft.LoraConfig(r=4))
    assert set(files) <= {"methods/config.py", "checks/rules.py", "methods/lora.py"}


def test_get_peft_model_is_a_short_way():
    base, config = tiny("gpt2"), minipeft.LoraConfig(r=4)
    _, files, functions = walk(lambda: minipeft.get_peft_model(base, config))
    assert len(set(files)) <= limit(9), sorted(set(files))
    assert len(set(functions)) <= limit(45), sorted(set(functions))
    assert changes(files) <= limit(45)
    assert not [file for file in files if "lora_options" in file]


def test_loading_and_saving_are_short_ways(tmp_path: Path):
    model = adapted("gpt2")
    _, files, _ = walk(lambda: model.save_pretrained(tmp_path))
    assert len(set(files)) <= limit(6), sorted(set(files))
    base = tiny("gpt2")
    _, files, functions = walk(lambda: minipeft.PeftModel.from_pretrained(base, tmp_path))
    assert len(set(files)) <= limit(14), sorted(set(files))
    # a generator is entered anew for each name it gives: as often as there are modules, once
    walked = [name for name in functions if name.endswith(" named_layers")]
    assert len(walked) == len(list(base.named_modules())) - len(list(inside(base))) + 1


def inside(base: Any) -> list[str]:
    """What stands inside the slots of a model by now."""
    slots = [name for name, m in base.named_modules() if hasattr(m, "adapters")]
    return [n for n, _ in base.named_modules() if any(n.startswith(f"{s}.") for s in slots)]


def test_loras_mathematics_are_one_file():
    text = (HOUSE / "methods" / "lora.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= limit(240)
    lore = ("trained_bias", "embedding_A", "Conv2d", "meant(", "replicated", "QuantizedLinear")
    assert not [word for word in lore if word in text]


# --- the door ------------------------------------------------------------------------------------


def test_importing_minipeft_imports_nothing_heavy():
    script = f"import sys, minipeft; print([m for m in {HEAVY!r} if m in sys.modules])"
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "[]"


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
