"""GPUs lent to one job at a time: `python -m emorl.gpus 2 COMMAND...` runs a command on two that are free.

A job holds a lock file per GPU, which the kernel releases when the job is gone, however it ended. In a Slurm job the
choice has been made, and without a GPU there is none to make: the command runs as it is.
"""

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from emorl.errors import UserError


def main() -> None:
    count, command = int(sys.argv[1]), sys.argv[2:]
    names = devices()
    if names and "SLURM_JOB_ID" not in os.environ:
        try:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(take(count, names))
        except UserError as error:
            sys.exit(f"error: {error}")
    os.execvp(command[0], command)


def devices() -> list[str]:
    """Names of the GPUs that CUDA may use: those in CUDA_VISIBLE_DEVICES if set, else all that the driver lists."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    query = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]  # CUDA may number them in another order
    try:
        return subprocess.run(query, check=True, capture_output=True, text=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        return []


def take(count: int, names: list[str]) -> list[str]:
    """Lock `count` of these GPUs, waiting until as many are free; this process holds them, also when it has become
    another by exec. Raises UserError if there are fewer.
    """
    if count > len(names):
        raise UserError(f"{count} GPUs are asked for, and there are {len(names)}: {', '.join(names)}")
    turn = _open_lock("turn")
    fcntl.flock(turn, fcntl.LOCK_EX)  # one job at a time looks: two could each hold what the other waits for
    held: dict[str, int] = {}
    while True:
        for name in names:
            if name not in held and len(held) < count and (lock := _try_lock(name)) is not None:
                held[name] = lock
        if len(held) == count:
            break
        time.sleep(0.5)
    os.close(turn)
    for lock in held.values():
        os.set_inheritable(lock, True)
    return list(held)


def _try_lock(name: str) -> int | None:
    lock = _open_lock(name)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _open_lock(name: str) -> int:
    """The lock's file descriptor, in a folder that all of this user's checkouts share."""
    folder = Path(tempfile.gettempdir()) / f"emorl-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o600)


if __name__ == "__main__":
    main()
