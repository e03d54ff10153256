"""Run a training within its Slurm job's time limit: `python requeue.py SECONDS COMMAND...`.

SECONDS before the limit the command gets SIGUSR2, upon which `emorl train` writes a checkpoint and ends with status 75;
then the job is queued again, under its number, and goes on from there. Slurm's own `--signal` would not do: it reaches
all processes of a job step, and ends Snakemake. A job that is cancelled or pre-empted gets SIGTERM, which this leaves
to the command and to Slurm.
"""

import os
import signal
import subprocess
import sys
import time
from datetime import datetime

ANSWERS_WITHIN = 60.0
"""Seconds that squeue may take."""
WITHOUT_LIMIT = ("", "N/A", "NONE", "UNLIMITED")
"""What squeue says of a job that ends when it likes, and if the controller does not answer."""
SAVED = 75
"""Exit status of `emorl train` when it has been told to stop and has written a checkpoint."""


def main() -> None:
    seconds, command = float(sys.argv[1]), sys.argv[2:]
    job = slurm_job()
    end = end_of(job) or datetime.max
    if seconds_to(end) <= seconds:
        sys.exit(f"error: job {job} ends at {end}, and is to stop {seconds:g} s earlier: raise the profile's runtime")
    terminated = []
    signal.signal(signal.SIGTERM, lambda *_: terminated.append(True))
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # inherited; torchrun, which would die of it, keeps it
    child = subprocess.Popen(command, process_group=0)
    while (status := waited(child, min(seconds_to(end) - seconds, seconds))) is None:
        end = end_of(job) or end  # asked anew: limits are changed while jobs run
        if seconds_to(end) <= seconds:
            os.killpg(child.pid, signal.SIGUSR2)
            status = child.wait()
            if status in (SAVED, 1) and not terminated:  # torchrun ends with 1, whatever its processes end with
                requeue(job)
            break
    sys.exit(status)


def slurm_job() -> str:
    """This job's name for Slurm's commands; the plain number of an array's task can mean the whole array."""
    if "SLURM_ARRAY_TASK_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ["SLURM_JOB_ID"]


def end_of(job: str) -> datetime | None:
    """When Slurm will end the job; None if it has no limit, or the controller does not answer."""
    query = ["squeue", "--noheader", "--jobs", job, "--format", "%e"]
    standard = {name: value for name, value in os.environ.items() if name != "SLURM_TIME_FORMAT"}
    try:
        answer = subprocess.run(
            query, env=standard, capture_output=True, text=True, timeout=ANSWERS_WITHIN
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        answer = str(error)
    if answer in WITHOUT_LIMIT:
        return None
    try:
        return datetime.fromisoformat(answer)
    except ValueError:
        print(f"warning: job {job} does not know when it ends, and is not queued again: squeue said {answer!r}")
        return None


def seconds_to(end: datetime) -> float:
    return (end - datetime.now()).total_seconds()


def waited(child: subprocess.Popen, timeout: float) -> int | None:
    """The exit status, if the child ends in time."""
    try:
        return child.wait(timeout)
    except subprocess.TimeoutExpired:
        return None


def requeue(job: str) -> None:
    print(f"The time limit is near: job {job} is queued again and will go on from its checkpoint.", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(SAVED))  # what ends a job that is queued again
    subprocess.run(["scontrol", "requeue", job], check=True)
    time.sleep(60)


if __name__ == "__main__":
    main()
