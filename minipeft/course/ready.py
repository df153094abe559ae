"""What the first cell of each notebook asks: does this kernel have what the notebook needs?"""

from __future__ import annotations

import sys
from importlib import metadata

from .. import __version__
from . import settings
from .exercise import CourseError


def ready(version: str) -> None:
    """Prints minipeft's version; warns in one line if the notebook was written for another.

    Args:
        version: the version of minipeft that wrote the notebook.

    Raises:
        CourseError: a package that minipeft needs is too old, installed or imported already.
    """
    print("minipeft", __version__)
    try:
        installed = metadata.version("minipeft")
        requires = metadata.requires("minipeft") or []
    except metadata.PackageNotFoundError:  # on the path, but not installed: nothing is known
        installed, requires = __version__, []
    if __version__ != version:
        fix = (
            f"{installed} has been installed since: restart the kernel"
            if installed != __version__
            else f'to change: %pip install --upgrade "{settings.INSTALL}", then restart the kernel'
        )
        print(f"this notebook was written for minipeft {version}; {fix}")
    for line in requires:
        _need(line)


def _need(line: str) -> None:
    """Raises if one of minipeft's requirements, `transformers<6,>=5.0`, is not met."""
    from packaging.requirements import Requirement

    need = Requirement(line)
    if need.marker is not None and not need.marker.evaluate({"extra": ""}):
        return
    try:
        installed = metadata.version(need.name)
    except metadata.PackageNotFoundError:
        installed = "none"
    if installed == "none" or not need.specifier.contains(installed, prereleases=True):
        raise CourseError(
            f"minipeft needs {need.name}{need.specifier}, and {installed} is installed; run "
            f'%pip install "{need.name}{need.specifier}", then restart the kernel'
        )
    imported = getattr(sys.modules.get(need.name), "__version__", installed)
    if not need.specifier.contains(str(imported), prereleases=True):
        raise CourseError(
            f"this kernel had imported {need.name} {imported} before {installed} was installed; "
            "restart the kernel (Runtime > Restart session in Colab) and run this cell again"
        )
