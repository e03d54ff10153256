"""A bar is for terminals: a log or a script's pipe sees none of it."""

import os
import pty
import subprocess
import sys
import termios

import pytest

from emorl.provenance import ROOT

CODE = """
import emorl.progress as p
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
