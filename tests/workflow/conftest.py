"""Workspaces: git clones of the working tree in which commands run as a user would type them."""

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]


class Workspace:
    """One clone. Commands are those of this environment, and act on the clone's package alone."""

    def __init__(self, root: Path):
        self.root = root

    def environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_TRACKING", "SNAKEMAKE", "GIT_"))}
        inherited.pop("PYTHONDONTWRITEBYTECODE", None)  # the many processes of one test would compile all anew
        names = {f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        return inherited | names | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "DVC_SITE_CACHE_DIR": str(self.root.parent / "dvc-site-cache"),
            "DVC_GLOBAL_CONFIG_DIR": str(self.root.parent / "dvc-config"),
        }  # fmt: skip

    def start(self, *command: str, **options: Any) -> subprocess.Popen:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True} | options
        return subprocess.Popen(command, cwd=self.root, env=self.environment(), **pipes)

    def run(self, *command: str, status: int = 0) -> str:
        """Standard output and error of a command that must exit with `status`."""
        process = self.start(*command)
        output, _ = process.communicate()
        assert process.returncode == status, f"{' '.join(command)}: exit status {process.returncode}\n{output}"
        return output

    def snakemake(self, *arguments: str, config: str = "", status: int = 0) -> str:
        """One model unless `config` names others: what is tested is the workflow."""
        defaults = [
            value
            for value in ("scale=test", "models=emorl", "datasets=tetrominoes")
            if value.partition("=")[0] + "=" not in config
        ]
        return self.run("snakemake", "--cores", "2", *arguments, "--config", *defaults, *config.split(), status=status)

    def planned(self, *arguments: str, config: str = "") -> Counter[str]:
        """How many jobs of each rule a dry run announces; the target itself is not counted."""
        output = self.snakemake("-n", *arguments, config=config)
        jobs = Counter(re.findall(r"^(?:local)?rule (\w+):$", output, re.MULTILINE))
        assert jobs or "Nothing to be done" in output, output
        del jobs["reproduce_table1"]
        return jobs

    def edit(self, name: str, change: Callable[[str], str]) -> None:
        path = self.root / name
        before = path.read_text()
        after = change(before)
        assert after != before
        path.write_text(after)

    def json(self, name: str) -> Any:
        return json.loads((self.root / name).read_text())

    def runs(self) -> list[dict[str, Any]]:
        """Those in Table 1, as its record has them: seed, folder, file."""
        return [run for series in self.json("reports/test/table1.json")["shows"]["series"] for run in series["runs"]]

    def contents(self) -> dict[str, bytes]:
        """Every file but for what git, Snakemake and probes note for themselves."""
        files = [path for path in self.root.rglob("*") if path.is_file()]
        named = {str(path.relative_to(self.root)): path for path in files if "__pycache__" not in path.parts}
        return {
            name: path.read_bytes()
            for name, path in named.items()
            if not name.startswith((".git/", ".snakemake/", ".cache/"))
        }

    def trackers(self) -> list[psutil.Process]:
        """Processes that mirror this workspace's runs; each outlives its workflow for a moment."""
        words = [process for process in psutil.process_iter(["cmdline"]) if "track" in (process.info["cmdline"] or [])]
        found = []
        for process in words:
            with contextlib.suppress(psutil.Error):
                if process.cwd() == str(self.root) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def mirrored(self) -> None:
        """Wait until no process mirrors runs any more."""
        give_up = time.monotonic() + 120
        while self.trackers():
            assert time.monotonic() < give_up
            time.sleep(0.1)

    def copy(self, to: Path) -> "Workspace":
        self.mirrored()
        shutil.copytree(self.root, to, symlinks=True)
        return Workspace(to)

    def forget(self) -> "Workspace":
        """Leave only what a clone with pulled results has: no records of Snakemake's."""
        shutil.rmtree(self.root / ".snakemake")
        return self


@pytest.fixture(scope="session")
def clone(tmp_path_factory) -> Workspace:
    """The working tree, committed, nothing run. Not to be changed."""
    return Workspace(_once(tmp_path_factory, "clone", _clone))


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Workspace:
    """A clone after `snakemake reproduce_table1` at scale test, its output in run.log. Not to be changed."""

    def reproduce(folder: Path) -> None:
        _clone(folder)
        (folder.parent / "run.log").write_text(Workspace(folder).snakemake("reproduce_table1"))

    return Workspace(_once(tmp_path_factory, "finished", reproduce))


@pytest.fixture
def workspace(finished, tmp_path) -> Workspace:
    """A copy of `finished` to do with as one likes."""
    return finished.copy(tmp_path / "workspace")


def _once(tmp_path_factory, name: str, make: Callable[[Path], None]) -> Path:
    """`make` a folder in this test session, whichever of pytest's processes asks first."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    parent = shared / f"workflow-{name}"
    parent.mkdir(exist_ok=True)
    with open(parent / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (parent / "made").exists():
            make(parent / name)
            (parent / "made").touch()
    return parent / name


def _clone(folder: Path) -> None:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in filter(None, listing.stdout.split("\0")):
        if (ROOT / name).exists():  # else deleted and not yet committed
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    workspace = Workspace(folder)
    workspace.run("git", "init", "--quiet", "--initial-branch=main")
    workspace.run("git", "add", "--all")
    workspace.run("git", "commit", "--quiet", "--message=The working tree")
