"""show(): the package's own source in the notebook, always as it stands now."""

from __future__ import annotations

import ast
import html
import inspect
import textwrap
from typing import Any

from .exercise import CourseError
from .verdict import publish


def source_bundle(code: str, caption: str) -> dict[str, Any]:
    """Python source by MIME type, highlighted where Pygments is there (Jupyter brings it)."""
    try:
        from pygments import highlight  # type: ignore[import-untyped]
        from pygments.formatters import HtmlFormatter  # type: ignore[import-untyped]
        from pygments.lexers import PythonLexer  # type: ignore[import-untyped]

        # Its own light background, so that the colours are readable on dark pages too.
        look = "background: #f8f8f8; color: #222; padding: 0.6em; line-height: 1.3"
        formatter = HtmlFormatter(
            noclasses=True, style="default", cssstyles=look, prestyles="font-family: monospace"
        )
        body = highlight(code, PythonLexer(), formatter)
    except ImportError:
        body = f"<pre>{html.escape(code)}</pre>"
    head = f"<small><code>{html.escape(caption)}</code></small>"
    return {"text/plain": f"# {caption}\n{code}", "text/html": head + body}


def source_of(obj: Any, doc: bool = True) -> str:
    """The source of a class, function, method or module, unindented.

    Args:
        obj: the object.
        doc: False leaves out docstrings.

    Raises:
        CourseError: it has no source in Python (a built-in, a number, ...).
    """
    obj = getattr(obj, "fget", None) or obj  # a property is shown by its function
    try:
        code = textwrap.dedent(inspect.getsource(obj)).rstrip()
    except (OSError, TypeError) as error:
        raise CourseError(f"there is no Python source for {obj!r}: {error}") from error
    return code if doc else _without_docstrings(code)


def _without_docstrings(code: str) -> str:
    lines = code.splitlines()
    drop: set[int] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if ast.get_docstring(node) is None or len(node.body) == 1:
                continue  # a docstring that is the whole body must stay
            first, last = node.body[0].lineno, node.body[0].end_lineno or 0
            if not isinstance(node, ast.FunctionDef) and not lines[min(last, len(lines) - 1)]:
                last += 1  # the empty line that follows a class's docstring
            drop |= set(range(first, last + 1))
    return "\n".join(line for i, line in enumerate(lines, 1) if i not in drop)


def show(*objects: Any, doc: bool = True) -> None:
    """Shows the source of classes, functions or methods, highlighted.

    Args:
        objects: what to show.
        doc: False leaves out the docstrings.

    Raises:
        CourseError: an object has no source in Python.
    """
    for obj in objects:
        plain = getattr(obj, "fget", None) or inspect.unwrap(obj) if callable(obj) else obj
        name = getattr(plain, "__qualname__", getattr(plain, "__name__", ""))
        module = getattr(plain, "__module__", None)
        publish(source_bundle(source_of(obj, doc), f"{module}.{name}" if module else name))
