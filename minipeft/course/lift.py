"""Exercises and solutions are lifted out of the package's own source, so they cannot drift from it.

`lift("minipeft.methods.lora:LoRALayer.forward", blank=True)` gives the code of one notebook cell:
the imports that the class needs, its docstring and `__init__`, and that one body replaced by

    # YOUR TURN
    raise NotImplementedError("your turn")

The class keeps its bases. Its other methods are taken over from the package by one line each: they
are the same, the cell stays short, and what another exercise asks for is not given away.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from typing import Any

from .exercise import MARKER, CourseError, Exercise
from .imports import Definition, imports

Function = ast.FunctionDef | ast.AsyncFunctionDef

BLANK = ("# YOUR TURN", f'raise NotImplementedError("{MARKER}")')


def resolve(target: str) -> Any:
    """The object that `module:Class.method` or `module:function` names.

    Raises:
        CourseError: there is no such module or name.
    """
    module, _, path = target.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for name in path.split("."):
            found = inspect.getattr_static(found, name)
    except (ImportError, AttributeError) as error:
        raise CourseError(f"the target {target!r} names nothing: {error}") from error
    return found


def _first_line(node: Definition) -> int:
    """The line of the first decorator, or of `def` or `class` itself (counted from 1)."""
    return min([node.lineno, *(d.lineno for d in node.decorator_list)])


def _header_end(node: Function, lines: list[str]) -> int:
    """The line on which signature and docstring end; comments below it belong to the body."""
    first = node.body[0]
    if ast.get_docstring(node) is not None:
        return first.end_lineno or first.lineno
    line = first.lineno - 1
    while not lines[line - 1].split("#")[0].rstrip().endswith(":"):
        line -= 1
    return line


def _blanked(node: Function, lines: list[str]) -> list[str]:
    head = lines[_first_line(node) - 1 : _header_end(node, lines)]
    return [*head, *(" " * (node.col_offset + 4) + line for line in BLANK)]


def _names(node: ast.AST) -> set[str]:
    """Names and attribute names that occur in a piece of code."""
    found = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    return found | {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}


def _class(
    outer: ast.ClassDef, method: str, lines: list[str], blank: bool
) -> tuple[list[str], list[str]]:
    """The lines of a class around one method: spelled out, and taken over from the package."""
    functions = [n for n in outer.body if isinstance(n, Function)]
    mine = next((n for n in functions if n.name == method), None)
    if mine is None:
        raise CourseError(f"{outer.name} does not define {method!r} itself")
    spelled = [n for n in functions if n is mine or n.name == "__init__"]
    called = set().union(*(_names(n) for n in spelled))
    start = functions[0]
    out = lines[_first_line(outer) - 1 : _first_line(start) - 1]
    taken = []
    for node in functions:
        wrapped = {ast.unparse(d) for d in node.decorator_list}
        if node in spelled:
            out += [*_definition(node, lines, blank and node is mine), ""]
        elif not (wrapped or _names(node) & {"super", "__class__"}) or wrapped == {"property"}:
            if node.name != "extra_repr":
                taken.append(f"    {node.name} = package.{outer.name}.{node.name}")
        elif node.name in called or not wrapped:  # super() must be spelled out to work
            out += [*_definition(node, lines, False), ""]
    if taken:
        out += ["    # The rest is the package's own."]
    return out, taken


def _definition(node: Function, lines: list[str], blank: bool) -> list[str]:
    if blank:
        return _blanked(node, lines)
    return lines[_first_line(node) - 1 : node.end_lineno]


def lift(target: str, *, blank: bool) -> str:
    """One definition of the package as the code of a notebook cell.

    Args:
        target: `module:Class.method` or `module:function`.
        blank: replace the body of that method or function by the marker.

    Returns:
        the code, imports first, without a final newline. Blank or not, the imports are those of
        the solution.

    Raises:
        CourseError: the target does not exist, or is no function.
    """
    resolve(target)
    name, _, path = target.partition(":")
    top, _, method = path.partition(".")
    module = importlib.import_module(name)
    text = inspect.getsource(module)
    lines, tree = text.splitlines(), ast.parse(text)
    outer = next((n for n in tree.body if isinstance(n, Definition) and n.name == top), None)
    if outer is None:
        raise CourseError(f"the target {target!r} is not defined in {name} itself")
    taken: list[str] = []
    if isinstance(outer, ast.ClassDef):
        out, taken = _class(outer, method, lines, blank)
        full, _ = _class(outer, method, lines, False)
    else:
        out, full = _definition(outer, lines, blank), _definition(outer, lines, False)
    # A type checker's pragma tells a learner nothing.
    code = re.sub(r"  # type: ignore\S*( \S+\])?", "", "\n".join([*out, *taken]).rstrip())
    head = imports(module, tree, "\n".join([*full, *taken]), top)
    return "\n".join([*head, "", "", code] if head else [code])


def cell(exercise: Exercise, *, blank: bool) -> str:
    """The exercise's code cell, to fill (blank) or filled."""
    written = exercise.starter if blank else exercise.solution
    if exercise.target is None or written:
        return written.strip("\n")
    return lift(exercise.target, blank=blank)
