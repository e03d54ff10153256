"""On a terminal of 80 columns a live line for each running job, and a failed job's last words; in pipes plain lines."""

import os
import pty
import re
import subprocess
import sys
import termios

import pytest

from emorl.runtime.files import ROOT
from emorl.runtime.live import NAME as NAME_WIDTH
from emorl.runtime.live import Screen

TRAIN = "[tetrominoes/emorl/base seed 0] step {}/8000 10/s 10m left nll -1021 kl 35"
NAME = "tetrominoes/emorl/base seed 0"


@pytest.fixture
def screen():
    return Screen()


def fed(screen, *lines, now=0.0):
    return [text for line in lines for text in screen.feed(line, now)]


def test_each_running_job_has_one_line_with_a_bar_and_the_time_left(screen):
    long = "[multi_dsprites_textured/slot_attention/short_single_gru seed 12] step 10/8000 0.0141/s 157h left"
    assert fed(screen, TRAIN.format(20), "tetrominoes:  25%|##5       | 16.0/64.0 [00:01<00:03, 16.0 scenes/s]") == []
    assert fed(screen, TRAIN.format(2000), long) == []
    first, second, third = screen.live(0.0, 80)
    assert re.fullmatch(rf"{NAME} +█{{5,}}░{{15,}}  25 %  10m00s left", first)
    assert re.fullmatch(r"tetrominoes +█+░+  25 %  3s left", second)
    assert third.startswith("multi_dsprites_textured/…gru seed 12 ░")
    assert third.endswith("  0 %  157h24m left")
    assert all(len(line) < 80 for line in (first, second, third))


def test_between_its_lines_a_job_goes_on_at_its_pace_and_is_not_over_before_it_says_so(screen):
    fed(screen, TRAIN.format(4000))
    assert "  75 %  3m20s left" in screen.live(200.0, 80)[0]
    assert screen.live(4000.0, 80)[0].endswith(" 99 %")
    assert fed(screen, f"[{NAME}] finished after 812 s of training: runs/tetrominoes/emorl/base-5b8e1f6b69/seed0") == [
        f"{NAME}: finished after 812 s of training"
    ]
    assert screen.live(4000.0, 80) == []


def test_of_what_is_made_a_line_is_shown_and_of_snakemake_s_workings_none(screen):
    scored = "runs/tetrominoes/emorl/base-5b8e1f6b69/seed0/evaluation/decomposition-test-fa4b.json: 320 test images"
    shown = fed(
        screen,
        "Using workflow specific profile profiles/default for setting default command line arguments.",
        "Building DAG of jobs...",
        "Scale demo: 0 of 15 runs are trained",
        "Execute 2 jobs...",
        "tetrominoes replica: 100%|##########| 88.0/88.0 [00:02<00:00, 376 scenes/s]",
        scored,
        "  fg_ari                   0.0607668",
        "  Slot Attention  6.1           -                9.1        99.5 ± 0.2  1/1/0",
        "Report: reports/demo/index.html",
    )
    assert shown == [
        "Scale demo: 0 of 15 runs are trained",
        "tetrominoes replica: done in 00:02",
        f"{NAME}: decomposition of 320 test images",
        "  Slot Attention  6.1           -                9.1        99.5 ± 0.2  1/1/0",
        "Report: reports/demo/index.html",
    ]


FAILURE = """[Thu Nov 26 22:17:33 2026]
Error in rule train:
    message: None
    jobid: 3
    output: runs/tetrominoes/emorl/base-5b8e1f6b69/seed0/manifest.json
    log: logs/train/tetrominoes/emorl/base-5b8e1f6b69/seed0.log (check log file(s) for error details)
    shell:
        trap : TERM; python -m emorl train
        (command exited with non-zero exit code)

RuleException:
CalledProcessError in file "/project/workflow/rules/runs.smk", line 30:
Command 'set -euo pipefail;  trap : TERM; workflow/scripts/logged \
logs/train/tetrominoes/emorl/base-5b8e1f6b69/seed0.log \
python -m emorl.runtime.gpus 1 python -m emorl train --threads 1 || [ -e runs/x/manifest.json ]' \
returned non-zero exit status 1.
Shutting down, this might take some time.""".replace("\\\n", "").splitlines()
"""As Snakemake tells it, with and without `--quiet rules`: the first ten lines are then not there."""


@pytest.mark.parametrize("account", [FAILURE, FAILURE[10:]])
def test_of_a_job_that_fails_the_log_s_path_and_last_lines_are_shown(account, screen, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "logs/train/tetrominoes/emorl/base-5b8e1f6b69/seed0.log"
    log.parent.mkdir(parents=True)
    log.write_text("\n".join([*map(str, range(30)), TRAIN.format(20), "error: the disk is full"]))
    fed(screen, TRAIN.format(20), TRAIN.format(20).replace("seed 0", "seed 1"))
    assert fed(screen, "error: the disk is full", *account) == [
        "error: the disk is full",
        "train failed: logs/train/tetrominoes/emorl/base-5b8e1f6b69/seed0.log",
        *(f"  | {number}" for number in range(20, 30)),
        "Shutting down, this might take some time.",
    ]
    assert [line[:NAME_WIDTH].rstrip() for line in screen.live(0.0, 80)] == ["tetrominoes/emorl/base seed 1"]


def test_a_run_that_diverges_is_running_no_more(screen):
    fed(screen, TRAIN.format(20))
    line = "error: runs/tetrominoes/emorl/base-5b8e1f6b69/seed0 diverged at step 40: loss is nan; recorded as failed"
    assert fed(screen, line) == [line]
    assert screen.live(0.0, 80) == []


CHILD = f"""
import sys, time
print("Building DAG of jobs...", flush=True)
print("A sentence that is longer than the eighty columns of the terminal, which does not break any of its words.")
for step in (2000, 6000):
    print("{TRAIN}".format(step), flush=True)
    time.sleep(0.8)
print("[{NAME}] finished after 2 s of training: runs/x", file=sys.stderr, flush=True)
print("the end")
sys.exit(3)
"""
COMMAND = [sys.executable, "-m", "emorl.runtime.live", sys.executable, "-c", CHILD]


def seen(written):
    """Frames of a terminal: what stands on it whenever something was written; knows nothing but what is used."""
    lines, frames = [], []
    for part in re.split(r"(?=\x1b\[\d+F\x1b\[J)", written.replace("\r\n", "\n")):
        if found := re.match(r"\x1b\[(\d+)F\x1b\[J", part):
            lines = lines[: -int(found[1])]
        lines = lines + re.sub(r"^\x1b\[\d+F\x1b\[J", "", part).split("\n")[:-1]
        frames.append(lines)
    return frames


def test_on_a_terminal_lines_pass_above_the_bars():
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    process = subprocess.Popen(COMMAND, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    written = b""
    while True:
        try:
            written += os.read(ours, 1 << 16)
        except OSError:  # how a terminal says that nobody is left to write to it
            break
    os.close(ours)
    assert process.wait() == 3
    frames = seen(written.decode())
    assert frames[-1] == [
        "A sentence that is longer than the eighty columns of the terminal, which does",
        "not break any of its words.",
        f"{NAME}: finished after 2 s of training",
        "the end",
    ]
    bars = [frame[-1] for frame in frames if "█" in frame[-1]]
    assert all(re.fullmatch(rf"{NAME} +█+░+ +\d+ %  \S+ left", bar) for bar in bars)
    assert len(set(bars)) >= 2


def test_in_a_pipe_all_lines_are_plain_and_there():
    result = subprocess.run(COMMAND, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 3
    assert result.stdout.splitlines()[0] == "Building DAG of jobs..."
    assert result.stdout.count(" step ") == 2
    assert "\x1b" not in result.stdout + result.stderr
