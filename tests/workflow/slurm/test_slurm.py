"""The Slurm profile, on a real Slurm: a disturbed sweep ends with the weights of an undisturbed one."""

import json
import re
import shutil
import time
from contextlib import contextmanager
from itertools import pairwise

import pytest
import torch

from emorl.runtime.files import read_json
from emorl.training.checkpoints import load_checkpoint

PROFILE = "workflow/profiles/slurm"
CONFIG = ("--config", "scale=test", "models=emorl", "datasets=tetrominoes", "seeds=4")
STEPS = 120
CANCELLED, QUEUED_AGAIN, LEFT_ALONE, OUT_OF_TIME = SEEDS = range(4)


@pytest.fixture
def undisturbed(slurm, clone, tmp_path):
    """A sweep of four seeds, trained on this machine without Slurm."""
    workspace = clone.copy(tmp_path / "undisturbed")
    workspace.edit("params/test.yaml", lambda text: text.replace("steps: 12", f"steps: {STEPS}", 1))
    workspace.run("snakemake", "--cores", "2", "reproduce_table1", "--until", "train", *CONFIG)
    return workspace


@pytest.mark.drill
def test_cancelled_queued_again_out_of_time_and_without_controller(undisturbed, slurm, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", slurm.environment()["PATH"])
    workspace = slowed(undisturbed.copy(tmp_path / "disturbed"))
    (group,) = workspace.root.glob("runs/tetrominoes/emorl/base-*")
    runs = {seed: str((group / f"seed{seed}").relative_to(workspace.root)) for seed in SEEDS}
    for folder in runs.values():
        shutil.rmtree(workspace.root / folder)

    with sweep_through_slurm(workspace) as sweep:
        logs = {seed: waited_for(sweep, lambda seed=seed: first_log(workspace, seed)) for seed in SEEDS}
        jobs = {seed: log.stem for seed, log in logs.items()}
        disturb = {
            CANCELLED: lambda: slurm.run("scancel", jobs[CANCELLED]),
            QUEUED_AGAIN: lambda: slurm.run("scontrol", "requeue", jobs[QUEUED_AGAIN]),
            LEFT_ALONE: slurm.restart_controller,
            OUT_OF_TIME: lambda: end_soon(slurm, jobs[OUT_OF_TIME]),
        }
        before = {}
        while len(before) < len(disturb):
            ready = waited_for(sweep, lambda: [s for s in disturb.keys() - before if len(steps_in(logs[s])) > 3])
            for seed in ready:
                before[seed] = steps_in(logs[seed])[-1]
                disturb[seed]()
        assert sweep.wait() == 0, (workspace.root / "sweep.log").read_text()

    for folder in runs.values():
        expected, found = (weights(root / folder) for root in (undisturbed.root, workspace.root))
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[name], found[name]) for name in expected)
        assert [line["step"] for line in metrics(workspace, folder)] == list(range(4, STEPS + 1, 4))
    starts = {seed: workspace.json(f"{folder}/manifest.json")["starts"] for seed, folder in runs.items()}
    resumed = {seed: [start["step"] for start in its_starts[1:]] for seed, its_starts in starts.items()}
    print_table(workspace, runs, before, resumed)
    assert {seed: len(steps) for seed, steps in resumed.items()} == {0: 1, 1: 1, 2: 0, 3: 1}
    assert resumed[CANCELLED][0] >= before[CANCELLED]  # SIGTERM: saved at the end of the step
    assert resumed[QUEUED_AGAIN][0] >= before[QUEUED_AGAIN]
    text = logs[OUT_OF_TIME].read_text()
    assert f"stopped after step {resumed[OUT_OF_TIME][0]}, which is saved" in text
    assert f"The time limit is near: job {jobs[OUT_OF_TIME]} is queued again" in text


@contextmanager
def sweep_through_slurm(workspace):
    """Snakemake with the profile, as on a cluster's login node."""
    with open(workspace.root / "sweep.log", "w") as log:
        sweep = workspace.start(
            "snakemake", "--profile", PROFILE, "reproduce_table1", "--until", "train", *CONFIG,
            "--set-resources", "train:requeue_before=30", "--slurm-init-seconds-before-status-checks", "5",
            "--slurm-keep-successful-logs", stdout=log,
        )  # fmt: skip
    try:
        yield sweep
    finally:
        sweep.kill()


def slowed(workspace):
    """A logged step takes a second longer, or three; each is printed, and a checkpoint comes every three seconds."""
    sleep = f'time.sleep(3 if "seed {OUT_OF_TIME}" in self._prefix else 1)'
    head = "    def update(self, progress: Progress) -> None:\n"
    progress = {
        "import time": "import os\nimport time",
        head: f"{head}        {sleep}\n",
        "LINES = 15.0": "LINES = 0.0",
    }
    for old, new in progress.items():
        workspace.edit("emorl/training/progress.py", lambda text, old=old, new=new: text.replace(old, new, 1))
    workspace.edit("emorl/commands/runs.py", lambda text: text.replace("] = 20.0", "] = 3.0"))
    return workspace


def end_soon(slurm, job):
    """Give a job a limit, in whole minutes, that leaves it half a minute to a minute and a half."""
    minutes, seconds = map(int, slurm.run("squeue", "--noheader", "--jobs", job, "--format", "%M").split(":"))
    slurm.run("scontrol", "update", f"JobId={job}", f"TimeLimit={minutes + (seconds + 35) // 60 + 1}")


def waited_for(sweep, answer):
    """The first answer that is one, while the sweep goes on."""
    while not (found := answer()):
        assert sweep.poll() is None, "the sweep has ended"
        time.sleep(0.5)
    return found


def steps_in(log):
    return [int(step) for step in re.findall(rf"step (\d+)/{STEPS}", log.read_text())] if log.exists() else []


def first_log(workspace, seed):
    return next((workspace.root / ".snakemake/slurm_logs/rule_train").glob(f"*_{seed}/*.log"), None)


def metrics(workspace, folder):
    return [json.loads(line) for line in (workspace.root / folder / "metrics.jsonl").read_text().splitlines()]


def weights(folder):
    return load_checkpoint(folder / "checkpoint.pt", read_json(folder / "manifest.json")["digest"])["model"]


def print_table(workspace, runs, before, resumed):
    """For whoever runs this with -s: what each disturbance cost."""
    names = {CANCELLED: "cancelled", QUEUED_AGAIN: "queued again", LEFT_ALONE: "left alone", OUT_OF_TIME: "out of time"}
    print()
    for seed, folder in runs.items():
        times = [line["time"] for line in metrics(workspace, folder)]
        pause = max(later - earlier for earlier, later in pairwise(times))
        lost = max(0, before[seed] - resumed[seed][0]) if resumed[seed] else 0
        print(f"{names[seed]:13} resumed at {resumed[seed]}, {lost} steps lost, longest pause {pause:.0f} s")
