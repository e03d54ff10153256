"""Where a result comes from: the state of the repository, and the machine."""

import os
import platform
import subprocess
from collections.abc import Iterator

from emorl.runtime.files import ROOT, sha256_of_file
from emorl.training.manifest import Environment


def repository_state() -> tuple[str | None, bool | None]:
    """The commit that is checked out, and whether code or values differ from it; None where that is not known.

    Files below emorl/ and params/ that git does not track count, as they decide results like all others there. A folder
    inside the checkout of something else has no commit of its own.
    """
    tracked = _git("ls-files", "emorl/__init__.py")
    if _git("rev-parse", "--show-toplevel") != str(ROOT) or not tracked:
        return None, None
    return _git("rev-parse", "HEAD"), None if _is_blind() else next(uncommitted(), None) is not None


def uncommitted() -> Iterator[str]:
    """Files that differ from the commit, and those of emorl/ and params/ that git does not know."""
    yield from (line[3:] for line in _lines("status", "--porcelain", "--untracked-files=no"))
    yield from _lines("ls-files", "--others", "--exclude-standard", "emorl", "params")


def in_history(commit: str) -> bool | None:
    """Whether the checked-out commit comes after this one, or is it; None where git does not know the whole history."""
    if repository_state()[0] is None or _git("rev-parse", "--is-shallow-repository") != "false":
        return None
    return _git("merge-base", "--is-ancestor", commit, "HEAD") is not None


def _is_blind() -> bool:
    """Whether git has been told not to look at some of the files that decide results (`git update-index`)."""
    return any(line[0].islower() or line[0] == "S" for line in _lines("ls-files", "-v", "emorl", "params"))


def environment() -> Environment:
    """What this process runs on and with."""
    import numpy
    import torch

    from emorl.runtime import cpu

    return Environment(
        python=platform.python_version(),
        torch=torch.__version__,
        numpy=numpy.__version__,
        lock_sha256=sha256_of_file(ROOT / "requirements.lock"),
        platform=platform.platform(),
        cpu=cpu.capabilities().get("cpu_name"),
        cpu_count=os.cpu_count(),
        threads=torch.get_num_threads(),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    )


def _lines(*arguments: str) -> list[str]:
    return (_git(*arguments) or "").splitlines()


def _git(*arguments: str) -> str | None:
    try:
        own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        command = ["git", *arguments]
        result = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None  # a source archive without git
    return result.stdout.rstrip()
