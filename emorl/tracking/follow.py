"""Mirror a run while it is being trained, from a process of its own."""

import contextlib
import math
import time
from pathlib import Path

import psutil

from emorl.files import read_json
from emorl.tracking.locks import MIRROR_LOCK, locked
from emorl.tracking.messages import brief, say
from emorl.tracking.mirror import Mirror
from emorl.tracking.store import open_store
from emorl.tracking.usage import UsageLog
from emorl.tracking.waiting import has_ended


def follow(run_dir: Path, root: Path, pid: int | None, poll_seconds: float = 10, deadline_seconds: float = 60) -> None:
    """Mirror a run folder while it is written, until its manifest appears or the process `pid` is gone.

    From then on it has `deadline_seconds` (and the store call under way) for what is left. A store that is
    locked or away never raises. If another process keeps mirroring the folder, this one returns quietly.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    # The follower of a killed run lingers for a poll and the deadline at most: a quick resume outwaits it.
    with locked(run_dir / MIRROR_LOCK, poll_seconds + deadline_seconds) as mine:
        if mine:
            _follow(run_dir, root, pid, poll_seconds, deadline_seconds)


def _follow(run_dir: Path, root: Path, pid: int | None, poll_seconds: float, deadline_seconds: float) -> None:
    mirror: Mirror | None = None
    usage: UsageLog | None = None
    failing = False
    give_up = math.inf
    while True:
        ended = has_ended(run_dir, pid)
        if ended:
            give_up = min(give_up, time.monotonic() + deadline_seconds)
        elif pid is not None:
            usage = _sampled(usage, run_dir, pid)
        try:
            if (run_dir / "run.json").exists():
                client = open_store(root)  # fails early where another call would hang
                if mirror is None or mirror.record != read_json(run_dir / "run.json"):  # written anew by a resume
                    mirror = Mirror(run_dir, root, client)
                mirror.send_lines(give_up)
                if ended:
                    mirror.conclude()
                else:
                    mirror.set_status("running")
            if failing:
                say(f"{run_dir} is mirrored again")
            failing = False
        except Exception as error:
            mirror = None
            if not failing:
                say(f"{run_dir} is not mirrored for now, training goes on: {brief(error)}")
            failing = True
        if ended and not failing:
            return
        if time.monotonic() >= give_up:
            say(f"{run_dir} has ended and is not wholly mirrored: run `emorl track sync` later")
            return
        time.sleep(max(0.0, min(poll_seconds, give_up - time.monotonic())))


def _sampled(usage: UsageLog | None, run_dir: Path, pid: int) -> UsageLog | None:
    """A process that is just ending, or a full disk, costs a sample and no more."""
    with contextlib.suppress(psutil.Error, OSError):
        usage = usage or UsageLog(run_dir, pid)
        usage.sample()
    return usage
