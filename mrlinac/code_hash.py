"""Hash of the code that a result depends on: the definitions that a function reaches, not the files they stand in.

An edit of a comment, of a docstring, or of a function that is never called leaves the hash as it was.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
NAME = PACKAGE.name

DECIDES_NO_NUMBER = ("errors", "notebook", "spec", "spec_errors", "notes")
"""Modules that say what is wrong, or turn files into values that are hashed themselves."""


@dataclass(frozen=True)
class Module:
    """One source file: what it defines and what it imports from the package.

    Attributes
    ----------
    definitions : dict
        By name: the statements that define or change it.
    imports : dict
        By name as used here: (module, name there, or "" for the module itself).
    """

    definitions: dict[str, list[ast.stmt]]
    imports: dict[str, tuple[str, str]]


def reached_hash(*functions: str) -> str:
    """Hash of everything of the package that functions reach by name.

    Parameters
    ----------
    *functions : str
        ``"transport.run:influence"``: module within the package, and a name in it. A class counts with all its methods,
        because which of them is called cannot be read from the source.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for place, name in sorted(reached(*functions)):
        digest.update(f"{place}:{name}\n".encode())
        for statement in _module(place).definitions[name]:
            digest.update(ast.dump(_without_docstrings(statement)).encode())
    return digest.hexdigest()[:32]


def reached(*functions: str) -> set[tuple[str, str]]:
    """(Module, name) of every definition that functions reach."""
    waiting = [(place, name) for place, _, name in (text.partition(":") for text in functions)]
    seen: set[tuple[str, str]] = set()
    while waiting:
        place, name = waiting.pop()
        if (place, name) in seen:
            continue
        if name not in _module(place).definitions:
            raise LookupError(f"{NAME}.{place} defines no '{name}'")
        seen.add((place, name))
        for statement in _module(place).definitions[name]:
            waiting += [definition for definition in _used(place, statement) if definition not in seen]
    return seen


def _used(place: str, statement: ast.stmt) -> Iterator[tuple[str, str]]:
    """Definitions of the package that a statement names: ``name``, or ``module.name``."""
    imports = {**_module(place).imports, **_imports(ast.walk(statement))}
    for node in ast.walk(statement):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module, name = imports.get(node.value.id, ("", ""))
            if module and not name and (definition := _found(module, node.attr)):
                yield definition
        elif isinstance(node, ast.Name):
            module, name = imports.get(node.id, (place, node.id))
            if name and (definition := _found(module, name)):
                yield definition


def _found(place: str, name: str) -> tuple[str, str] | None:
    """Where a name of a module is defined, through modules that only pass it on."""
    if place.split(".")[0] in DECIDES_NO_NUMBER or _file(place) is None:
        return None
    module = _module(place)
    if name in module.definitions:
        return place, name
    there = module.imports.get(name)
    return _found(*there) if there and there[1] else None


@cache
def _module(place: str) -> Module:
    file = _file(place)
    if file is None:
        raise LookupError(f"there is no module {NAME}.{place}")
    body = ast.parse(file.read_bytes()).body
    definitions: dict[str, list[ast.stmt]] = {}
    for statement in body:
        for name in _defined(statement):
            definitions.setdefault(name, []).append(statement)
    return Module(definitions, _imports(body))


def _file(place: str) -> Path | None:
    path = PACKAGE.joinpath(*place.split("."))
    files = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in files if file.is_file()), None)


def _defined(statement: ast.stmt) -> list[str]:
    """Names that a statement at the top of a module defines or changes."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    stored = (node for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    return list(dict.fromkeys(node.id for node in stored))


def _imports(nodes: Iterable[ast.AST]) -> dict[str, tuple[str, str]]:
    """Imports from the package, by the name they have here."""
    imports: dict[str, tuple[str, str]] = {}
    for node in nodes:
        if not (isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == NAME):
            continue
        place = node.module.partition(".")[2]
        for alias in node.names:
            inner = f"{place}.{alias.name}".strip(".")
            imports[alias.asname or alias.name] = (inner, "") if _file(inner) else (place, alias.name)
    return imports


class _Bare(ast.NodeTransformer):
    """Takes out docstrings: they decide nothing."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node


def _without_docstrings(statement: ast.stmt) -> ast.AST:
    bare: ast.AST = _Bare().visit(ast.parse(ast.unparse(statement)))
    return bare
