"""How long a run lasts, asked from outside and without importing MLflow, which takes longer than short runs do."""

import time
from pathlib import Path

from emorl.tracking.locks import MIRROR_LOCK, locked


def outlasts(run_dir: Path, pid: int | None, seconds: float) -> bool:
    """Wait until `seconds` have passed or the run has ended; return whether it still goes on.

    Meanwhile the folder is locked as by its mirror, so that `emorl track sync` does not take the run for a killed one.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + seconds
    with locked(run_dir / MIRROR_LOCK, seconds=0):  # the follower of a killed attempt may have it still
        while not has_ended(run_dir, pid):
            if time.monotonic() >= until:
                return True
            time.sleep(min(0.5, seconds))
    return False


def has_ended(run_dir: Path, pid: int | None) -> bool:
    """Whether the run has its manifest, or the process that trains it is gone; None: whoever trains it is unknown."""
    alive = pid is None or _is_alive(pid)  # asked before the manifest, which may be the run's last act
    return (run_dir / "manifest.json").exists() or not alive


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"  # killed, and its parent has not asked how it ended
