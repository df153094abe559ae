"""Breaks one function in the running package, and asks one test of the suite: a second or two each.

`noticed(mutation)` forks; in the child the function's code is exchanged for that of the broken
text, and pytest runs the test that shall fail. `mutate.py` asks the lesson and the exercise, too,
on a copy of the whole package, and takes minutes for it (`make test-long`).
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
import types
from collections.abc import Iterator
from typing import Any

from mutate import REPO, Mutation, run_test, source


def codes(text: str, file: str) -> dict[str, types.CodeType]:
    """The code of each function in a text, by qualified name."""
    found: dict[str, types.CodeType] = {}

    def look(code: types.CodeType, outer: str) -> None:
        for inner in code.co_consts:
            if isinstance(inner, types.CodeType):
                name = f"{outer}{inner.co_name}"
                found[name] = inner
                # a class's body is code, too; what a function defines inside is not exchanged
                look(inner, f"{name}.")

    look(compile(text, file, "exec", dont_inherit=True), "")
    return found


def functions(module: types.ModuleType) -> dict[str, types.FunctionType]:
    """The functions and methods that a module defines, unwrapped, by qualified name."""
    found: dict[str, types.FunctionType] = {}

    def add(value: Any) -> None:
        value = getattr(value, "__func__", value)  # class and static methods
        value = value.fget if isinstance(value, property) else value
        while hasattr(value, "__wrapped__"):
            value = value.__wrapped__
        if isinstance(value, types.FunctionType) and value.__module__ == module.__name__:
            found[value.__qualname__] = value

    for value in vars(module).values():
        if isinstance(value, type) and value.__module__ == module.__name__:
            for inner in vars(value).values():
                add(inner)
        else:
            add(value)
    return found


def exchange(mutation: Mutation) -> list[str]:
    """Exchange the code of what the mutation changes, for good; returns the functions' names.

    Raises:
        ValueError: the text has moved on, or the change is in no function.
    """
    text = (REPO / "minipeft" / mutation.file).read_text(encoding="utf-8")
    name = mutation.file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    module = importlib.import_module(f"minipeft.{name}")
    before, after = codes(text, mutation.file), codes(source(mutation), mutation.file)
    changed = [key for key, code in after.items() if code != before.get(key)]
    vars(module).get("_TABLES", {}).clear()  # what the unbroken function had made before
    live, done = functions(module), []
    for key in changed:
        if key in live:
            live[key].__code__ = after[key]
            done.append(key)
    if not done:
        raise ValueError(f"{mutation.name} changes no function of {mutation.file}: {changed}")
    return done


@contextlib.contextmanager
def nobody_above() -> Iterator[None]:
    """Without the variables of the pytest and xdist that run this."""
    for key in [key for key in os.environ if key.startswith("PYTEST_")]:
        del os.environ[key]
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def noticed(mutation: Mutation | None, test: str) -> str:
    """What the test says of the broken function, in a process of its own; "" if it passes."""
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            os.close(reading)
            with nobody_above():
                if mutation is not None:
                    exchange(mutation)
                said = run_test(test)
            os.write(writing, said.encode()[:4000])
            code = 0
        except BaseException as error:
            os.write(writing, f"not asked: {error!r}".encode()[:4000])
            code = 1
        sys.stderr.flush()
        os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError(said)
    return said
