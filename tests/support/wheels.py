"""The course from a wheel alone: `tests/support/wheels.py` runs every notebook in an empty folder.

The wheel is built, put into an environment where nothing else is minipeft's, and the notebooks and
solutions are copied to a folder with nothing beside them. So a file that the wheel lacks, or a cell
that reads the repository, fails here and not at a learner's. A last table says the seconds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[2]
TIMES = Path(__file__).parent / "notebook_times.py"
WHERE = """\
import sys
from pathlib import Path

import minipeft

assert Path(minipeft.__file__).is_relative_to(sys.prefix), minipeft.__file__
print(Path(minipeft.__file__).relative_to(sys.prefix))"""


def build(to: Path) -> Path:
    """The wheel of this checkout, without the network: hatchling is in the test extra."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--disable-pip-version-check", "--wheel-dir", str(to)]
    subprocess.run([*command, str(ROOT)], check=True)
    (wheel,) = to.glob("minipeft-*.whl")
    return wheel


def environment(folder: Path) -> Path:
    """A fresh environment with every installed package but minipeft; returns its Python.

    The packages are links, in a folder outside of the environment: pip sees them and, as they are
    not the environment's, would rather leave them alone than replace them. A .pth file inside the
    linked folder is not read, so an editable minipeft stays out.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    links = folder.with_name(folder.name + "-links")
    links.mkdir()
    for kind in dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]):
        for entry in Path(kind).iterdir():
            if "minipeft" not in entry.name and entry.suffix != ".pth":
                (links / entry.name).symlink_to(entry)
    scheme = {"base": str(folder), "platbase": str(folder)}
    Path(sysconfig.get_path("purelib", "venv", scheme), "links.pth").write_text(f"{links}\n")
    return Path(sysconfig.get_path("scripts", "venv", scheme)) / "python"


def clean_variables() -> dict[str, str]:
    """The variables of this process, less those that would lead back to the checkout."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}


def install(python: Path, wheel: str) -> None:
    """Installs a wheel and nothing else."""
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*command, wheel], check=True, env=clean_variables())


def copy_notebooks(to: Path, lessons: list[str]) -> None:
    """The two folders of executed notebooks, and one that says whose minipeft is imported."""

    def wanted(name: str) -> bool:
        return not lessons or any(name.startswith(f"{lesson}_") for lesson in lessons)

    for kind in ("notebooks", "solutions"):
        shutil.copytree(ROOT / kind, to / kind, ignore=lambda d, names: [
            n for n in names if not n.endswith(".ipynb") or not wanted(n)
        ])  # fmt: skip
    where = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(WHERE)])
    nbformat.write(where, to / "notebooks" / "00_from_the_wheel.ipynb")


def run(python: Path, folder: Path, arguments: list[str]) -> int:
    """Runs the folder's notebooks; returns pytest's exit status."""
    plugin = folder.with_name("plugin")
    plugin.mkdir()
    shutil.copy(TIMES, plugin)
    command = [str(python), "-m", "pytest", "-q", "--nbval-lax", "--nbval-current-env"]
    command += ["-p", "notebook_times", "-p", "no:cacheprovider", "-c", os.devnull]
    command += ["--rootdir", str(folder), "--dist", "loadfile", *arguments, "."]
    variables = {**clean_variables(), "PYTHONPATH": str(plugin)}
    return subprocess.run(command, cwd=folder, env=variables, check=False).returncode


def main(arguments: list[str]) -> int:
    """Builds, copies, runs: `wheels.py [08 11 ...] -n 2`; all lessons if none is named."""
    lessons = [each for each in arguments if each.isdigit() and len(each) == 2]
    arguments = [each for each in arguments if each not in lessons]
    with tempfile.TemporaryDirectory(prefix="minipeft-wheel-") as name:
        here = Path(name)
        wheel = build(here / "dist")
        python = environment(here / "env")
        install(python, str(wheel))
        copy_notebooks(here / "empty", lessons)
        print(f"{wheel.name}, {wheel.stat().st_size / 1e6:.1f} MB, alone in an empty folder")
        return run(python, here / "empty", arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
