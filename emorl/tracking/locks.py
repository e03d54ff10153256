"""Lock files, which the system frees if their holder dies."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

MIRROR_LOCK = ".mirror.lock"
"""In the run folder: held by the one process that mirrors it."""
STORE_LOCK = "mlflow.db.lock"
"""In the project root: held while the store or a run in it is found or created."""
STORE_LOCK_SECONDS = 120
"""A new store takes 6 to 10 s, and many mirrors may queue behind it."""


@contextmanager
def locked(path: Path, seconds: float) -> Iterator[bool]:
    """Hold a lock file; yield whether it was to be had in time."""
    give_up = time.monotonic() + seconds
    with open(path, "a") as file:
        while not (held := _try_lock(file)) and time.monotonic() < give_up:
            time.sleep(0.1)
        yield held


@contextmanager
def store_lock(root: Path) -> Iterator[None]:
    """Hold the store's lock. Raises TimeoutError."""
    with locked(root / STORE_LOCK, STORE_LOCK_SECONDS) as held:
        if not held:
            raise TimeoutError(f"others held {root / STORE_LOCK} for {STORE_LOCK_SECONDS} s")
        yield


def _try_lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
