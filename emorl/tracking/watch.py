"""One process that mirrors a project's runs while they are trained; it imports MLflow once one of them changes."""

import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from emorl.runtime.files import ROOT
from emorl.tracking.folders import Change, changes, is_over, is_trained, run_folders
from emorl.tracking.troubles import Troubles, advice
from emorl.training.manifest import RunRecord


def start(log: Path) -> None:
    """Watch all runs from a process of its own until this one, the workflow, is gone.

    Nothing waits for it, so it must not hold on to this process's output: what it has to say is in `log`.
    """
    command = ["nice", sys.executable, "-m", "emorl", "track", "sync", "--watch", "--pid", str(os.getpid())]
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as out:
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)


def watch(
    root: Path,
    run_dirs: Sequence[Path] = (),
    pid: int | None = None,
    poll_seconds: float = 10,
    deadline_seconds: float = 60,
) -> None:
    """Mirror run folders (default: all) now and whenever they change: for ever, or until the process `pid` is gone.

    With `pid`, runs that are over already are left out until they change, and when it is gone there are
    `deadline_seconds`, and the store call under way, for what is left. A store that is locked or away never raises, and
    is told once.
    """
    seen = {} if pid is None else {run_dir: s for run_dir, s in _look(root, run_dirs).items() if is_over(run_dir)}
    told: Troubles = {}
    give_up = math.inf
    while True:
        over = pid is not None and not _is_alive(pid)  # asked before looking
        if over:
            give_up = min(give_up, time.monotonic() + deadline_seconds)
        now = _look(root, run_dirs)
        troubles: Troubles = {}
        if changed := [run_dir for run_dir, state in now.items() if seen.get(run_dir) != state]:
            from emorl.tracking.sync import sync  # with MLflow: 4 s of a core

            troubles = sync(changed, root, give_up)
            if root not in troubles:
                seen |= {folder: now[folder] for folder in changed if not {folder, folder.parent} & troubles.keys()}
        for folder in troubles.keys() - told.keys():
            say(troubles[folder].sentence)
        if told and not troubles:
            say("everything is mirrored again")
        told = troubles and told | troubles
        if over and not troubles and not any(trained for trained, _ in now.values()):
            return
        if time.monotonic() >= give_up:
            say(f"the workflow is over and not everything is mirrored: {advice(troubles)}")
            return
        _pause(min(poll_seconds, give_up - time.monotonic()), None if over else pid)


def say(sentence: str) -> None:
    print("emorl track:", sentence, file=sys.stderr, flush=True)


def _look(root: Path, run_dirs: Sequence[Path]) -> dict[Path, tuple[bool, list[Change]]]:
    """Of those of `run_dirs` (none given: of all runs) that have begun, whether they are trained, and their files."""
    begun = [run_dir for run_dir in run_dirs if (run_dir / RunRecord.FILE).exists()] if run_dirs else run_folders(root)
    return {run_dir: (is_trained(run_dir), changes(run_dir)) for run_dir in begun}


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _pause(seconds: float, pid: int | None) -> None:
    """Until `seconds` have passed or the process `pid` is gone."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and (pid is None or _is_alive(pid)):
        time.sleep(min(left, 1.0))
