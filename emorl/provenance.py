"""Where a result comes from: digests of code and configuration, the state of the repository, the machine."""

import ast
import hashlib
import os
import platform
import resource
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from emorl.files import sha256_of_file

ROOT = Path(__file__).resolve().parents[1]
"""The checkout that this package runs from."""


def code_digest(*modules: str) -> str:
    """Hash of these modules and of everything of `emorl` that they import, directly or not.

    Comments, layout and docstrings do not count, so only an edit that can change a result changes the digest. It
    is taken over Python's syntax tree, so it holds within one minor version of Python (the project pins 3.11).
    """
    digest = hashlib.sha256()
    for name in sorted(_closure(modules)):
        digest.update(f"{name}\n{_source_tree(_module_file(name))}\n".encode())
    return digest.hexdigest()


def repository_state() -> dict[str, Any]:
    """{"git_commit", "git_dirty"}: the commit checked out and whether tracked files differ from it."""
    commit = _git("rev-parse", "HEAD")
    return {"git_commit": commit, "git_dirty": bool(_git("status", "--porcelain", "--untracked-files=no"))}


def environment() -> dict[str, Any]:
    """What the run ran on and with, for its manifest. No host names, no paths."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "python": platform.python_version(),
        "torch": version("torch"),
        "numpy": version("numpy"),
        "lock_sha256": sha256_of_file(ROOT / "requirements.lock"),
        "platform": platform.platform(),
        "cpu": torch.cpu.get_capabilities().get("cpu_name"),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
    }


def peak_memory_bytes() -> int:
    """Largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _git(*arguments: str) -> str | None:
    try:
        result = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None  # a source archive without git
    return result.stdout.strip()


def _closure(modules: tuple[str, ...]) -> set[str]:
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in found or not _module_file(name).exists():
            continue
        found.add(name)
        waiting += _imports(_module_file(name))
    return found


@cache
def _imports(file: Path) -> tuple[str, ...]:
    """Every dotted name under `emorl` that this file imports; `from a import b` counts as a and as a.b."""
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(name for name in names if name.split(".")[0] == "emorl")


def _module_file(name: str) -> Path:
    path = ROOT.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def _source_tree(file: Path) -> str:
    """The syntax tree without docstrings and other strings that stand alone."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [statement for statement in node.body if not _is_string(statement)] or [ast.Pass()]
    return ast.dump(tree)


def _is_string(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
