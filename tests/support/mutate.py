"""Breaks a copy of the package by one formula, and asks who notices: a test, a lesson, an exercise.

`caught(lesson, mutations, folder)` copies `minipeft/` for each mutation and puts the wrong text in
the place of the right one. One Python imports torch and transformers once and forks for each copy;
there it runs the suite's test, the exercise's check on the solution lifted from the broken source,
and the lesson's code cells in order. A lesson notices if a cell stops, or if an exact cell prints
something else than its notebook, where the same cell on an unbroken copy does neither. Cells that
train, draw or load peft are left out: they take the time, and what is exact comes before them.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[2]
LEFT_OUT = re.compile(r"\b(fit|accuracy|loss_on)\(|\bplt\b|\bimport_peft\b")


@dataclass(frozen=True)
class Mutation:
    """One formula made wrong.

    Args:
        name: what was done, as the test's id.
        file: below `minipeft/`.
        old, new: the source as it stands, exactly once, and what takes its place.
        test: the suite's test that must fail: its file's name, and its own.
        lesson: the lesson that must stop, or print something else.
        exercise: the exercise whose check must call it wrong.
    """

    name: str
    file: str
    old: str
    new: str
    test: str
    lesson: str
    exercise: str


def source(mutation: Mutation) -> str:
    """The broken file's text; ValueError where the package has moved on from the table."""
    text = (REPO / "minipeft" / mutation.file).read_text(encoding="utf-8")
    if (n := text.count(mutation.old)) != 1:
        raise ValueError(
            f"{mutation.name}: {mutation.old!r} must stand once in minipeft/{mutation.file}, and "
            f"stands there {n} times; write the line as it is now into tests/support/mutations.py"
        )
    return text.replace(mutation.old, mutation.new)


def copy(mutation: Mutation, folder: Path) -> Path:
    """A folder to import the broken package from; the assets are linked."""
    target, text = folder / mutation.name / "minipeft", source(mutation)
    shutil.copytree(REPO / "minipeft", target, ignore=shutil.ignore_patterns("assets"))
    (target / "lab" / "assets").symlink_to(REPO / "minipeft" / "lab" / "assets")
    (target / mutation.file).write_text(text, encoding="utf-8")
    return target.parent


Found = dict[str, str]


def caught(lesson: str, mutations: Sequence[Mutation], folder: Path) -> dict[str, Found]:
    """Who noticed, and how: {mutation: {"test": ..., "exercise": ..., "lesson": ...}}; "" for who
    did not.

    Args:
        lesson: the two digits that all these mutations name.
        mutations: what to break, one at a time.
        folder: an empty one.

    Raises:
        ValueError: see `source`. RuntimeError: a copy could not be asked.
    """
    for mutation in (*mutations, whole(lesson)):
        copy(mutation, folder)
    job = {"lesson": lesson, "folder": str(folder), "mutations": [asdict(m) for m in mutations]}
    fixed = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "MPLBACKEND": "agg"}
    # not the variables of a pytest or xdist above: the test in there is a run of its own
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")} | fixed
    env |= {"MINIPEFT_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    command = [sys.executable, __file__, json.dumps(job)]
    run = subprocess.run(command, cwd=REPO, env=env, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"lesson {lesson}: {run.stdout[-2000:]}{run.stderr[-4000:]}")
    return {m.name: json.loads((folder / f"{m.name}.json").read_text("utf-8")) for m in mutations}


def whole(lesson: str) -> Mutation:
    """Nothing broken: a comment more."""
    line = "from __future__ import annotations"
    return Mutation("nothing", "methods/lora.py", line, f"{line}  # the same", "", lesson, "")


# Below: what runs in the other Python, on the copies.


def run_test(node: str) -> str:
    """The suite's test that failed, and its first line; "" if it passed."""
    import pytest

    lines: list[str] = []

    class Noted:
        def pytest_runtest_logreport(self, report: Any) -> None:
            if report.failed:
                text = report.longreprtext.splitlines()
                wrong = [line[1:].strip() for line in text if line.startswith("E ")]
                lines.append(f"{report.nodeid}: {(wrong or text)[0]}")

    printed = io.StringIO()
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"--rootdir={REPO}"]
    # transformers, imported before pytest began, brought anyio along
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    with contextlib.redirect_stdout(printed):
        name, _, test = node.partition("::")
        (file,) = (REPO / "tests").rglob(name)
        place = f"{file}::{test}" if test else str(file)
        code = pytest.main([*options, place], plugins=[Noted()])
    if code not in (0, 1):  # such as no test of this name: that is no catch
        raise RuntimeError(f"tests/{node} did not run: {printed.getvalue()[-2000:]}")
    return lines[0] if lines else ""


def _exercise(id: str) -> str:
    """What check says to the solution as the broken package has it; "" if it calls it right."""
    from minipeft.course.checker import check
    from minipeft.course.corpus import run_cell
    from minipeft.course.exercise import find
    from minipeft.course.lift import cell

    exercise = find(id)
    with contextlib.redirect_stdout(io.StringIO()):
        verdict = check(id, run_cell(cell(exercise, blank=False))[exercise.answer])
    return "" if verdict.status == "right" else f"{verdict.status}: {verdict.message}"


def _lesson(name: str, passed_over: list[int], until: int, all_of_them: bool) -> list[list[Any]]:
    """[the cell's number, what went wrong], for the first cell that did or all up to `until`."""
    import nbformat

    file = next((REPO / "notebooks").glob(f"{name}*.ipynb"))
    space: dict[str, Any] = {"__name__": "__main__"}
    bad: list[list[Any]] = []
    for number, cell in enumerate(nbformat.read(file, as_version=4).cells[: until + 1]):
        if cell.cell_type != "code" or "%pip" in cell.source:
            continue
        tree, printed, wrong = ast.parse(cell.source), io.StringIO(), ""
        left_out = LEFT_OUT.search(cell.source) is not None
        if left_out:  # but for what other cells import from it
            tree.body = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
        try:
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
                code = compile(tree, f"{name}-{number}", "exec", dont_inherit=True)
                exec(code, space)
        except Exception as error:
            wrong = f"{type(error).__name__}: {error}".split("\n")[0]
        if not (wrong or left_out) and "nbval-check-output" in cell.metadata.get("tags", []):
            stored = "".join(o.text for o in cell.outputs if o.output_type == "stream").strip()
            if (now := printed.getvalue().strip()) != stored:
                wrong = f"it prints {now!r}, and the notebook holds {stored!r}"
        if wrong and number not in passed_over:
            bad.append([number, wrong])
            if not all_of_them:
                break
    return bad


def _forked(package: Path, ask: Any) -> Any:
    """What `ask()` returns in a process of its own that imports minipeft from `package`."""
    out = package / "answer.json"
    if (pid := os.fork()) == 0:
        try:
            (package / "empty").mkdir(exist_ok=True)
            os.chdir(package / "empty")
            sys.path.insert(0, str(package))
            import minipeft

            assert str(package) in str(minipeft.__file__), f"not the copy: {minipeft.__file__}"
            out.write_text(json.dumps(ask()), encoding="utf-8")
            code = 0
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stderr.flush()
        os._exit(code)
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError(f"{package.name}: nobody could be asked, see above")
    return json.loads(out.read_text(encoding="utf-8"))


def _inside(job: dict[str, Any]) -> None:
    """Ask all three about each copy, and write down what they say."""
    import pytest  # noqa: F401
    import tiny_models  # noqa: F401  # transformers' models: imported once, for all copies
    import torch

    torch.set_num_threads(1)
    folder, lesson = Path(job["folder"]), job["lesson"]
    never = 10**6
    for m in job["mutations"]:
        package = folder / m["name"]

        def ask(m: dict[str, Any] = m) -> dict[str, Any]:
            first = _lesson(lesson, [], never, False)
            return {
                "lesson": first[0] if first else [],
                "exercise": _exercise(m["exercise"]) if m["exercise"] else "",
                "test": run_test(m["test"]) if m["test"] else "",
            }

        found = _forked(package, ask)
        if found["lesson"]:  # does the unbroken copy run these cells well?
            until, here = found["lesson"][0], folder / "nothing"
            bad = [n for n, _ in _forked(here, lambda u=until: _lesson(lesson, [], u, True))]
            if until in bad:
                bad = [n for n, _ in _forked(here, lambda: _lesson(lesson, [], never, True))]
                first = _forked(package, lambda bad=bad: _lesson(lesson, bad, never, False))
                found["lesson"] = first[0] if first else []
        number, wrong = found["lesson"] or (0, "")
        found["lesson"] = wrong and f"cell {number}: {wrong}"
        (folder / f"{m['name']}.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    _inside(json.loads(sys.argv[1]))
