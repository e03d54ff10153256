"""workflow/scripts/requeue.py in real Slurm jobs, around a program that answers signals as a training does."""

import re
import sys
import time
from pathlib import Path

import pytest

REQUEUE = Path(__file__).resolve().parents[3] / "workflow/scripts/requeue.py"

TRAINING = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
signal.signal(signal.SIGUSR2, lambda *_: {warned})
print("training", flush=True)
while True:
    time.sleep(0.1)
"""


@pytest.fixture
def submit(slurm, tmp_path):
    """Submits a training on the whole node with a limit of one minute; returns its number and its log."""
    jobs = []

    def submit_job(seconds, warned="sys.exit(75)"):
        (tmp_path / "training.py").write_text(TRAINING.format(warned=warned))
        command = f"{sys.executable} {REQUEUE} {seconds} {sys.executable} {tmp_path / 'training.py'}"
        options = ["--parsable", "--exclusive", "--time=1", "--requeue", "--open-mode=append"]
        jobs.append(slurm.run("sbatch", *options, f"--output={tmp_path}/%j.log", f"--wrap={command}").strip())
        return jobs[-1], tmp_path / f"{jobs[-1]}.log"

    yield submit_job
    for job in jobs:
        slurm.run("scancel", job)


def test_warned_saved_and_queued_again(slurm, submit):
    job, log = submit(seconds=55)
    wait_until(lambda: shown(slurm, job)["Restarts"] == "1")
    wait_until(lambda: log.read_text().count("training") == 2)  # it runs again
    assert f"The time limit is near: job {job} is queued again" in log.read_text()


def test_cancelled_while_it_saves_it_is_not_queued_again(slurm, submit):
    job, log = submit(seconds=55, warned="print('warned', flush=True)")
    wait_until(lambda: log.exists() and "warned" in log.read_text())
    slurm.run("scancel", job)
    wait_until(lambda: not slurm.run("squeue", "--noheader", "--jobs", job))
    assert (shown(slurm, job)["JobState"], shown(slurm, job)["Restarts"]) == ("CANCELLED", "0")


def test_preempted_it_is_queued_again_by_slurm_alone(slurm, submit):
    job, log = submit(seconds=5)
    wait_until(lambda: log.exists() and "training" in log.read_text())
    slurm.run("sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=true")
    wait_until(lambda: log.read_text().count("training") == 2)
    assert shown(slurm, job)["Restarts"] == "1"
    assert "time limit" not in log.read_text()


def test_a_limit_too_short_to_train_is_an_error(slurm, submit):
    job, log = submit(seconds=90)
    wait_until(lambda: shown(slurm, job)["JobState"] == "FAILED")
    assert re.fullmatch(
        rf"error: job {job} ends at .*, and is to stop 90 s earlier: raise .* runtime\n", log.read_text()
    )


def shown(slurm, job):
    return dict(field.partition("=")[::2] for field in slurm.run("scontrol", "--oneliner", "show", "job", job).split())


def wait_until(condition):
    while not condition():
        time.sleep(0.2)
