"""A bar is for terminals: a script's pipe sees none of it, a log the states of long ones as lines."""

import os
import pty
import subprocess
import sys
import termios

import pytest

from emorl.runtime.files import ROOT

CODE = """
import emorl.runtime.progress as p
p.SECONDS_BEFORE_BAR = 0
for n in p.progress(range(3), "segment", "images"):
    p.say(f"picture {n}")
"""


@pytest.fixture
def terminal():
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    yield ours, theirs
    os.close(ours)


def said(**streams):
    return subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, text=True, check=True, **streams)


def test_on_a_terminal_there_is_a_bar(terminal):
    ours, theirs = terminal
    result = said(stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    assert "segment:" in os.read(ours, 1 << 16).decode()
    assert result.stdout == "picture 0\npicture 1\npicture 2\n"


def test_in_a_log_there_are_lines_alone():
    result = said(capture_output=True)
    assert (result.stdout, result.stderr) == ("picture 0\npicture 1\npicture 2\n", "")


def test_in_a_log_the_states_of_a_long_one_are_lines():
    code = "from emorl.runtime.progress import progress_bar as bar\nwith bar('prepare', 3, ' scenes') as b: b.update(3)"
    log = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, check=True, capture_output=True).stderr
    assert "\r" not in log
    assert [line.split(":")[0] for line in log.splitlines()] == ["prepare", "prepare"]
    assert "3.00/3.00" in log.splitlines()[-1]
