"""The first cell of a notebook: what it says of versions, and when it stops."""

from __future__ import annotations

import sys
import types
from importlib import metadata

import pytest

import minipeft
from minipeft.course import notebooks, ready, settings
from minipeft.course.exercise import CourseError

HERE = minipeft.__version__


@pytest.fixture
def installed(monkeypatch):
    """The versions of installed packages, to be changed; minipeft needs transformers 5."""
    versions = {"minipeft": HERE, "transformers": "5.3.0", "torch": "2.9.0.dev1+cpu"}

    def version(name):
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    needs = ["torch>=2.6", "transformers<6,>=5.0", "jupyter>=1.1; extra == 'course'"]
    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(metadata, "requires", lambda name: needs)
    for name, found in (("transformers", "5.3.0"), ("torch", "2.9.0.dev1+cpu")):
        imported(monkeypatch, name, found)
    return versions


def imported(monkeypatch, name, version):
    module = types.ModuleType(name)
    module.__version__ = version
    monkeypatch.setitem(sys.modules, name, module)


def test_all_is_well(installed, capsys):
    ready(HERE)
    assert capsys.readouterr().out == f"minipeft {HERE}\n"


def test_another_version_of_minipeft_is_one_line(installed, capsys):
    ready("9.9.9")
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"minipeft {HERE}"
    assert second == (
        "this notebook was written for minipeft 9.9.9; to change: "
        f'%pip install --upgrade "{settings.INSTALL}", then restart the kernel'
    )


def test_an_old_minipeft_imported_before_the_new_one_was_installed(installed, capsys):
    installed["minipeft"] = "9.9.9"
    ready("9.9.9")
    assert "9.9.9 has been installed since: restart the kernel" in capsys.readouterr().out


def test_an_old_transformers_imported_before(installed, monkeypatch):
    imported(monkeypatch, "transformers", "4.57.1")
    with pytest.raises(CourseError) as caught:
        ready(HERE)
    assert str(caught.value) == (
        "this kernel had imported transformers 4.57.1 before 5.3.0 was installed; restart the "
        "kernel (Runtime > Restart session in Colab) and run this cell again"
    )


@pytest.mark.parametrize("found", ["4.57.1", "6.0.0", None])
def test_a_transformers_that_does_not_fit(installed, found):
    installed.pop("transformers")
    if found:
        installed["transformers"] = found
    with pytest.raises(CourseError, match=r"needs transformers<6,>=5\.0, and (.*) is inst") as e:
        ready(HERE)
    assert (found or "none") in str(e.value)
    assert '%pip install "transformers<6,>=5.0", then restart' in str(e.value)


def test_on_the_path_and_not_installed(installed, capsys):
    installed.pop("minipeft")
    ready("9.9.9")
    assert "to change" in capsys.readouterr().out


def test_one_setting_is_what_pip_is_given():
    assert notebooks.SETUP.count(settings.INSTALL) == 1
    assert notebooks.SETUP.endswith(f'\nminipeft.course.ready("{HERE}")')
    other = notebooks.setup("some.whl[course]", "7.0")
    assert '%pip install --quiet "some.whl[course]"' in other
    assert settings.INSTALL not in other
    assert other.endswith('ready("7.0")')
