"""GPUs are lent to one job at a time. The jobs are real processes, the GPUs but names."""

import os
import selectors
import subprocess
import sys

import pytest

from emorl.gpus import devices

SHOW = "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'), flush=True); input()"


@pytest.fixture
def start(tmp_path):
    """Starts a job on so many GPUs; it says which it has got, and stays until it is killed."""
    jobs = []

    def start_job(count, **environment):
        command = [sys.executable, "-m", "emorl.gpus", str(count), sys.executable, "-c", SHOW]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        jobs.append(subprocess.Popen(command, env=os.environ | {"TMPDIR": str(tmp_path)} | environment, **pipes))
        return jobs[-1]

    yield start_job
    for job in jobs:
        job.kill()
        job.communicate()


def shown(job):
    return job.stdout.readline().strip()


def test_each_job_has_a_gpu_of_its_own_and_one_too_many_waits(start):
    jobs = [start(1, CUDA_VISIBLE_DEVICES="0,1,GPU-2") for _ in range(4)]
    holders = {shown(job): job for job in jobs_that_say(jobs, 3)}
    assert set(holders) == {"0", "1", "GPU-2"}
    (waiting,) = [job for job in jobs if job not in holders.values()]
    assert waiting.poll() is None
    holders["1"].kill()
    assert shown(waiting) == "1"


def test_jobs_on_several_gpus_do_not_hold_what_the_other_waits_for(start):
    jobs = [start(2, CUDA_VISIBLE_DEVICES="0,1,2") for _ in range(2)]
    (first,) = jobs_that_say(jobs, 1)
    held = shown(first).split(",")
    assert len(held) == 2
    first.kill()
    assert len(shown(next(job for job in jobs if job is not first)).split(",")) == 2


def test_more_gpus_than_there_are(start):
    _, said = start(2, CUDA_VISIBLE_DEVICES="0").communicate()
    assert said == "error: 2 GPUs are asked for, and there are 1: 0\n"


def test_without_a_gpu_and_within_slurm_the_choice_is_left_alone(start):
    assert shown(start(1, CUDA_VISIBLE_DEVICES="")) == ""
    within = {"SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": "0,1"}
    assert [shown(start(1, **within)) for _ in range(3)] == ["0,1"] * 3


def test_the_driver_is_asked_unless_somebody_has_chosen(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert devices() == []
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\necho GPU-aa\necho GPU-bb\n")
    driver.chmod(0o755)
    assert devices() == ["GPU-aa", "GPU-bb"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 5")
    assert devices() == ["3", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert devices() == []


def jobs_that_say(jobs, count):
    """The first `count` of these jobs that have something to say; they will not have said it yet."""
    selector = selectors.DefaultSelector()
    for job in jobs:
        selector.register(job.stdout, selectors.EVENT_READ, job)
    found = []
    while len(found) < count:
        for key, _ in selector.select():
            selector.unregister(key.fileobj)
            found.append(key.data)
    return found
