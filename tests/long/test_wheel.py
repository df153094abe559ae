"""A notebook's first cell where minipeft is missing, as in Colab: it installs minipeft alone."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import nbformat
import pytest
import wheels

from minipeft import __version__
from minipeft.course import builder, settings

# Runs a notebook with the kernel of the Python that runs this, and keeps the outputs.
DRIVER = """\
import sys
import nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], as_version=4)
try:
    NotebookClient(notebook, timeout=600, kernel_name="python3", allow_errors=True).execute()
finally:
    nbformat.write(notebook, sys.argv[1])
"""
BEFORE = """\
import importlib.util, sys
import google.colab
print(importlib.util.find_spec("minipeft"), sys.prefix)"""
SIZE = 'print(len([m for m in sys.modules if m.split(".")[0] in ("torch", "minipeft")]))'


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of every file below a folder, caches aside."""
    files = (f for f in folder.rglob("*") if f.is_file() and f.suffix != ".pyc")
    return {str(f): (f.stat().st_size, f.stat().st_mtime_ns) for f in files}


def printed(cell) -> str:
    """A cell's text; fails with the error if it has one."""
    assert [o for o in cell.outputs if o.output_type == "error"] == [], cell.outputs
    return "".join(o.text for o in cell.outputs if o.output_type == "stream")


@pytest.mark.slow
def test_the_first_cell_in_colab(tmp_path):
    wheel = wheels.build(tmp_path / "dist")
    python = wheels.environment(tmp_path / "env")
    links = tmp_path / "env-links"
    colab = python.parents[1].glob("lib/python*/site-packages")
    colab = next(iter(colab)) / "google" / "colab"
    colab.mkdir(parents=True)
    (colab / "__init__.py").write_text("")
    others = [links / name for name in ("torch", "numpy", "transformers")]
    before = [state(folder.resolve()) for folder in others]
    names = sorted(os.listdir(links))

    solutions = builder.build()["solutions/00_start.ipynb"]
    setup = solutions.cells[0]
    assert settings.INSTALL in setup.source
    setup.source = setup.source.replace(settings.INSTALL, f"{wheel}[course]")
    first = {**json.loads(json.dumps(setup)), "id": "again"}
    extra = [nbformat.v4.new_code_cell(source) for source in (BEFORE, wheels.WHERE, SIZE)]
    solutions.cells[:1] = [extra[0], setup, nbformat.from_dict(first), *extra[1:]]
    file, driver = tmp_path / "00_start.ipynb", tmp_path / "driver.py"
    driver.write_text(DRIVER)
    # No index, no settings of this machine's pip: what is not there cannot be fetched.
    variables = {**wheels.clean_variables(), "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    variables |= {"MINIPEFT_HOME": str(tmp_path / "home"), "PYTHONPYCACHEPREFIX": str(tmp_path)}
    for time in ("fresh", "again"):
        nbformat.write(solutions, file)
        subprocess.run([python, driver, file], cwd=tmp_path, env=variables, check=True)
        ran = [c for c in nbformat.read(file, as_version=4).cells if c.cell_type == "code"]
        said = [printed(cell) for cell in ran]
        assert said[0].startswith("None " if time == "fresh" else "ModuleSpec"), said[0]
        assert str(tmp_path / "env") in said[0]
        assert said[1].endswith(f"minipeft {__version__}\n"), said[1]
        assert said[2] == f"minipeft {__version__}\n", "the second time it installs nothing"
        assert said[3].startswith("lib"), "minipeft is the environment's own"
        verdicts = [o for c in ran for o in c.outputs if "application/vnd.minipeft" in str(o)]
        assert len(verdicts) == 3
        assert all("'status': 'right'" in str(v) for v in verdicts)
    assert [state(folder.resolve()) for folder in others] == before
    assert sorted(os.listdir(links)) == names
    own = python.parents[1].glob("lib/python*/site-packages/*")
    assert sorted(f.name for f in own) == [
        "google", "links.pth", "minipeft", f"minipeft-{__version__}.dist-info"
    ]  # fmt: skip
