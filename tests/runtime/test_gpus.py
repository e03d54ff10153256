"""GPUs are lent to one job at a time. The jobs are real processes, the GPUs but names."""

import os
import select
import selectors
import subprocess
import sys

import pytest

from emorl.runtime.errors import UserError
from emorl.runtime.gpus import SHARED_BY, devices

SHOW = "import os; print(os.environ[os.environ.get('SHOWN', 'CUDA_VISIBLE_DEVICES')], flush=True); input()"

WITH_OWN_LOCKS = """
import sys, pathlib
from emorl.runtime import gpus
gpus.LOCKS = pathlib.Path(sys.argv.pop(1))
gpus.main()
"""


@pytest.fixture
def start(tmp_path):
    """Starts a job on so many GPUs; it says which it has got, and stays until it is killed."""
    jobs = []

    def start_job(count, **environment):
        command = [sys.executable, "-c", WITH_OWN_LOCKS, str(tmp_path), str(count), sys.executable, "-c", SHOW]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        jobs.append(subprocess.Popen(command, env=os.environ | environment, **pipes))
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


def test_a_temporary_folder_of_its_own_gives_a_job_no_gpu_of_another(start, tmp_path):
    jobs = [start(1, CUDA_VISIBLE_DEVICES="0,1", TMPDIR=str(tmp_path / name)) for name in ("a", "b")]
    assert {shown(job) for job in jobs} == {"0", "1"}


def test_jobs_on_several_gpus_do_not_hold_what_the_other_waits_for(start):
    jobs = [start(2, CUDA_VISIBLE_DEVICES="0,1,2") for _ in range(2)]
    (first,) = jobs_that_say(jobs, 1)
    held = shown(first).split(",")
    assert len(held) == 2
    first.kill()
    assert len(shown(next(job for job in jobs if job is not first)).split(",")) == 2


def test_a_gpu_may_be_lent_to_several_jobs_at_once(start):
    jobs = [start("1/2", CUDA_VISIBLE_DEVICES="0,1") for _ in range(5)]
    holders = jobs_that_say(jobs, 4)
    assert sorted(shown(job) for job in holders) == ["0", "0", "1", "1"]
    (waiting,) = [job for job in jobs if job not in holders]
    assert waiting.poll() is None
    holders[0].kill()
    assert shown(waiting) in ("0", "1")


def test_who_wants_a_gpu_alone_waits_for_those_that_share_it(start):
    sharing = start("1/2", CUDA_VISIBLE_DEVICES="0")
    assert shown(sharing) == "0"
    alone = start(1, CUDA_VISIBLE_DEVICES="0")
    assert not select.select([alone.stdout], [], [], 1.0)[0]
    sharing.kill()
    assert shown(alone) == "0"


def test_a_job_knows_how_many_its_gpu_is_lent_to(start):
    told = {"CUDA_VISIBLE_DEVICES": "0", "SHOWN": SHARED_BY}
    assert shown(start("1/8", **told)) == "8"
    assert shown(start("1/8", **told, SLURM_JOB_ID="7")) == "1"  # as the allocation is its own


def test_more_gpus_than_there_are(start):
    _, said = start(2, CUDA_VISIBLE_DEVICES="0").communicate()
    assert said == "error: 2 GPUs are asked for, and there are 1: 0\n"


def test_without_a_gpu_there_is_no_choice(start):
    assert shown(start(1, CUDA_VISIBLE_DEVICES="")) == ""


def test_in_a_slurm_job_that_has_what_it_asked_for_the_choice_is_left_alone(start):
    within = {"SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": "0,1"}
    assert [shown(start(2, **within)) for _ in range(3)] == ["0,1"] * 3


def test_jobs_inside_of_an_allocation_of_several_gpus_have_one_each(start):
    within = {"SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": "0,1"}
    assert {shown(start(1, **within)) for _ in range(2)} == {"0", "1"}


def test_a_job_that_asks_for_none_sees_none_and_waits_for_nobody(start):
    present = {"CUDA_VISIBLE_DEVICES": "0", "HIP_VISIBLE_DEVICES": "0"}
    assert shown(start(1, **present)) == "0"
    start(1, **present)  # waits for it
    assert shown(start(0, **present)) == ""


# ---- What there is: a stand-in says what nvidia-smi -L would ----


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """Lets nvidia-smi answer so; it is not there before."""
    for variable in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def answers(text, seconds=0, status=0):
        script = tmp_path / "nvidia-smi"
        hang = f"exec sleep {seconds}" if seconds else ""
        script.write_text(f"#!/bin/sh\n{hang}\ncat <<'END'\n{text}\nEND\nexit {status}\n")
        script.chmod(0o755)

    return answers


TWO = """GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-aa01)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-bb02)"""
DIVIDED = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aa01)
  MIG 3g.20gb     Device  0: (UUID: MIG-11)
  MIG 1g.5gb      Device  1: (UUID: MIG-GPU-aa01/7/0)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bb02)"""


def test_the_driver_is_asked_unless_somebody_has_chosen(driver, monkeypatch):
    assert devices() == []
    driver(TWO)
    assert devices() == ["GPU-aa01", "GPU-bb02"]
    for setting in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
        assert devices() == []


@pytest.mark.parametrize(
    ("setting", "names"),
    [
        ("1", ["GPU-bb02"]),
        ("1, 0", ["GPU-bb02", "GPU-aa01"]),
        ("0,GPU-aa01,GPU-aa", ["GPU-aa01"]),  # one GPU, named thrice
        ("7,GPU-dd", ["7", "GPU-dd"]),  # what is not known is kept
    ],
)
def test_a_gpu_has_one_name_whatever_the_user_calls_it(driver, monkeypatch, setting, names):
    driver(TWO)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
    assert devices() == names


def test_one_gpu_named_by_number_and_by_uuid_is_lent_once(driver, start, tmp_path):
    driver(TWO)
    assert shown(start(1, CUDA_VISIBLE_DEVICES="0")) == "GPU-aa01"
    second = start(1, CUDA_VISIBLE_DEVICES="GPU-aa01,1")
    assert shown(second) == "GPU-bb02"


@pytest.mark.parametrize(
    "words",
    [
        "No devices were found",
        "Unable to determine the device handle for GPU0000:01:00.0: Unknown Error",
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
    ],
)
@pytest.mark.parametrize("status", [0, 9])
def test_the_drivers_words_are_no_gpus(driver, words, status):
    driver(words, status=status)
    assert devices() == []


def test_one_gpu_that_is_lost_takes_no_other_with_it(driver):
    driver(f"Unable to determine the device handle for gpu 0000:03:00.0: GPU is lost.\n{TWO}", status=15)
    assert devices() == ["GPU-aa01", "GPU-bb02"]


def test_a_driver_that_hangs_is_named(driver, monkeypatch):
    driver(TWO, seconds=5)
    monkeypatch.setattr("emorl.runtime.gpus.ANSWERS_WITHIN", 0.1)
    with pytest.raises(UserError, match=r"nvidia-smi has not answered .* CUDA_VISIBLE_DEVICES set to nothing"):
        devices()


def test_a_divided_gpu_is_its_instances(driver, start, monkeypatch):
    driver(DIVIDED)
    assert devices() == ["MIG-11", "MIG-GPU-aa01/7/0", "GPU-bb02"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert devices() == ["MIG-11", "MIG-GPU-aa01/7/0"]
    assert {shown(start(1)) for _ in range(2)} == {"MIG-11", "MIG-GPU-aa01/7/0"}


def test_amds_gpus_are_counted_where_pytorch_is_built_for_them(driver, monkeypatch, tmp_path):
    for node, number in enumerate((0, 50432, 17718)):  # the processor has 0
        (tmp_path / str(node)).mkdir()
        (tmp_path / str(node) / "gpu_id").write_text(f"{number}\n")
    monkeypatch.setattr("emorl.runtime.gpus.NODES", tmp_path)
    assert devices() == []  # the small GPU of many a processor, and a PyTorch that cannot use it
    monkeypatch.setattr("emorl.runtime.gpus.version", lambda package: "2.13.0+rocm7.1")
    assert devices() == ["0", "1"]
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "1")
    assert devices() == ["1"]


def test_amds_own_variable_is_set_too_where_it_is_in_use(start):
    job = start(1, CUDA_VISIBLE_DEVICES="0,1", HIP_VISIBLE_DEVICES="1", SHOWN="HIP_VISIBLE_DEVICES")
    assert shown(job) == "1"


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
