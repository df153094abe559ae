"""The import lines that a lifted piece of code needs, in the order that isort gives them."""

from __future__ import annotations

import ast
import builtins
import importlib.util
import sys
from types import ModuleType

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _bound(tree: ast.Module) -> set[str]:
    """The names that a module defines itself, at its top level."""
    found = {n.name for n in tree.body if isinstance(n, Definition)}
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        found |= {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
    return found


def _group(module: str) -> int:
    top = module.partition(".")[0]
    return 0 if top in sys.stdlib_module_names else 2 if top == "minipeft" else 1


def _from(source: str, names: list[str]) -> str:
    line = f"from {source} import {', '.join(names)}"
    if len(line) <= 88:
        return line
    return "\n".join([f"from {source} import (", *(f"    {name}," for name in names), ")"])


def imports(module: ModuleType, tree: ast.Module, code: str, top: str) -> list[str]:
    """The import lines for `code`, taken out of `module`.

    Args:
        module, tree: the module the code stands in, and its syntax tree.
        code: the lifted code; `package` in it stands for the module itself.
        top: the name that the code defines.
    """
    nodes = [n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Name)]
    used = {n.id for n in nodes if isinstance(n.ctx, ast.Load)} | {""}  # not what it defines
    plain: set[str] = set()
    froms: dict[str, set[str]] = {module.__name__: set()}
    future = False
    for node in tree.body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if (alias.asname or alias.name.partition(".")[0]) in used:
                    plain.add(ast.unparse(ast.Import([alias])))
        elif isinstance(node, ast.ImportFrom) and node.module == "__future__":
            future = True
        elif isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            source = importlib.util.resolve_name(relative, module.__package__)
            taken = {ast.unparse(a) for a in node.names if (a.asname or a.name) in used}
            froms.setdefault(source, set()).update(taken)
    froms[module.__name__] |= (used & _bound(tree)) - {top} - set(dir(builtins))
    if "package" in used:
        plain.add(f"import {module.__name__} as package")
    groups: list[list[str]] = [[], [], []]
    for line in sorted(plain):
        groups[_group(line.split()[1])].append(line)
    for source, names in sorted(froms.items()):
        if names:
            groups[_group(source)].append(_from(source, sorted(names)))
    # Annotations that name the class itself, or names known to type checkers only, must stay text.
    if future and ({top, "TYPE_CHECKING"} & (used | _bound_for_types(tree))):
        groups.insert(0, ["from __future__ import annotations"])
    return "\n\n".join("\n".join(group) for group in groups if group).splitlines()


def _bound_for_types(tree: ast.Module) -> set[str]:
    tests = [ast.unparse(node.test) for node in tree.body if isinstance(node, ast.If)]
    return {test.rpartition(".")[2] for test in tests}
