"""Lock files: held by one at a time, freed by death, told of."""

import os
import socket
import subprocess
import sys
import threading

import pytest

from emorl.runtime.locks import Held, is_locked, locked

HOLD = """
import sys, time
from pathlib import Path
from emorl.runtime.locks import locked
with locked(Path(sys.argv[1]), seconds=0):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lock"


def test_a_lock_is_held_by_one_and_names_it(path):
    assert is_locked(path) is False
    with locked(path, seconds=0):
        assert is_locked(path) is True
        with pytest.raises(Held, match=f"process {os.getpid()} on {socket.gethostname()} holds {path}"):
            locked(path, seconds=0.1).__enter__()
    assert is_locked(path) is False
    with locked(path, seconds=0):
        pass


def test_a_lock_that_is_soon_free_is_waited_for(path):
    first = locked(path, seconds=0)
    first.__enter__()
    threading.Timer(0.3, first.__exit__, (None, None, None)).start()
    with locked(path, seconds=60):
        assert is_locked(path)


def test_a_killed_holder_frees_it_at_once(path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    assert is_locked(path)
    process.kill()
    process.communicate()
    with locked(path, seconds=0):
        assert path.read_text() == f"process {os.getpid()} on {socket.gethostname()}"


def test_whoever_asks_does_not_keep_others_out(path):
    """A tracker looks at the very moment a training starts."""
    path.touch()
    stop = threading.Event()

    def look():
        while not stop.is_set():
            is_locked(path)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(200):
            with locked(path, seconds=2):
                pass
    finally:
        stop.set()
        looking.join()
