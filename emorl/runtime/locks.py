"""Lock files, which the system frees if their holder dies.

Where a file system has no such locks (`flock`; some of clusters do not), nothing is locked and everybody goes on.
"""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

TRAINING_LOCK = ".training.lock"
"""In a run's folder: held by the process that trains it."""


class Held(Exception):
    """Another process holds the lock; `holder` tells which, as in "process 4711 on node7"."""

    def __init__(self, path: Path) -> None:
        self.holder = path.read_text() or "another process"
        super().__init__(f"{self.holder} holds {path}")


@contextmanager
def locked(path: Path, seconds: float) -> Iterator[None]:
    """Hold a lock file. Raises Held if others keep it for `seconds`; no longer waits than that."""
    give_up = time.monotonic() + seconds
    with open(path, "a") as file:
        while not _lock(file):
            if time.monotonic() >= give_up:
                raise Held(path)
            time.sleep(0.05)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def is_locked(path: Path) -> bool | None:
    """Whether a process holds this lock file; None where the file system cannot tell."""
    try:
        with open(path) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # for an instant, which `locked` waits out
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


def _lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # no locks here
        pass
    return True
