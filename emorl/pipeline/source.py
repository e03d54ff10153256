"""The project's source as a digest: of some modules and all that they import."""

import ast
import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from emorl.runtime.files import ROOT

COMPUTING = {"torch": "torch", "numpy": "numpy", "scipy": "scipy", "sklearn": "scikit-learn", "PIL": "pillow"}
"""Packages that decide numbers, by the name they are imported by."""


def code_digest(*modules: str) -> str:
    """Hash of these modules and of everything of `emorl` that they import, directly or not.

    Comments, layout and docstrings do not count, nor does the version of Python that reads the source.
    """
    digest = hashlib.sha256()
    for name in sorted(closure(modules)):
        digest.update(f"{name}\n{_read(_module_file(name))[1]}\n".encode())
    return digest.hexdigest()


def versions_of(*modules: str) -> dict[str, str]:
    """Versions of the packages that these modules compute with, of whatever build."""
    imported = {name.split(".")[0] for module in closure(modules) for name in _read(_module_file(module))[0]}
    found = sorted(COMPUTING[name] for name in imported if name in COMPUTING)
    return {package: version(package).partition("+")[0] for package in found}


def closure(modules: tuple[str, ...]) -> set[str]:
    """These modules and all of `emorl` that they import, also within functions."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in found or name.split(".")[0] != "emorl" or not _module_file(name).exists():
            continue
        found.add(name)
        waiting += _read(_module_file(name))[0]
    return found


def _module_file(name: str) -> Path:
    path = ROOT.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def _read(file: Path) -> tuple[list[str], str]:
    """Every dotted name that this file imports (`from a import b` counts as a and as a.b), and its syntax tree."""
    names: list[str] = []
    words: list[str] = []

    def write(node: Any) -> None:
        """Docstrings and other strings that stand alone are left out, and empty fields: which there are depends on
        Python's version."""
        if isinstance(node, ast.AST):
            if isinstance(node, ast.Import):
                names.extend(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.extend([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
            words.append(f"({type(node).__name__}")
            for name, value in ast.iter_fields(node):
                if value not in (None, []) and name not in ("kind", "type_comment"):
                    words.append(f" {name}=")
                    write(value)
            words.append(")")
        elif isinstance(node, list):
            for item in node:
                if not _is_string(item):
                    write(item)
        else:
            words.append(repr(node))

    write(ast.parse(file.read_text(encoding="utf-8")))
    return names, "".join(words)


def _is_string(statement: Any) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
