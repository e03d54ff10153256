"""A bad day for the workflow: Ctrl-C, two of them at once, data that may only be read."""

import os
import shutil
import signal
import subprocess
import time

import pytest
import torch

SLOWER = "def update(self, progress: Progress) -> None:\n        time.sleep(1)"
COMMAND = ["snakemake", "--cores", "1", "--config", "scale=test", "models=emorl", "datasets=tetrominoes", "--"]


@pytest.fixture
def unfinished(workspace):
    """A workspace where one run is still to be trained, a second per step, and what its manifest will be called."""
    run = workspace.json("reports/test/plan.json")["runs"][0]["folder"]
    shutil.rmtree(workspace.root / run)
    log_of(workspace, run).unlink()
    workspace.edit("emorl/training/progress.py", lambda text: text.replace(SLOWER.partition("\n")[0], SLOWER))
    return workspace, run


def log_of(workspace, run):
    return workspace.root / "logs" / "train" / f"{run.removeprefix('runs/')}.log"


def start(workspace, run):
    """Snakemake in a process group of its own, as a shell would have it, once it has trained a step."""
    process = workspace.start(*COMMAND, f"{run}/manifest.json", start_new_session=True)
    log = log_of(workspace, run)
    while "step 4/12" not in (log.read_text() if log.exists() else ""):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_stopped_from_the_keyboard_or_by_the_machine_nothing_is_lost(name, unfinished, finished):
    """The signal goes to all processes of the workflow, as Ctrl-C and a shutdown do; checkpoints are 20 s apart."""
    workspace, run = unfinished
    process = start(workspace, run)
    os.killpg(process.pid, getattr(signal, name))
    process.communicate()
    assert process.returncode != 0
    deadline = time.monotonic() + 60
    while not (workspace.root / run / "checkpoint.pt").exists():  # the training may outlive Snakemake for a step
        assert time.monotonic() < deadline
        time.sleep(0.02)

    workspace.snakemake("--unlock")
    workspace.snakemake(f"{run}/manifest.json")
    manifest = workspace.json(f"{run}/manifest.json")
    assert manifest["status"] == "finished"
    assert manifest["resumed_at"][0] >= 4
    expected, found = (
        torch.load(place.root / run / "checkpoint.pt", weights_only=True)["model"] for place in (finished, workspace)
    )
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_second_workflow_in_the_same_folder_is_turned_away(unfinished):
    workspace, run = unfinished
    first = start(workspace, run)
    os.killpg(first.pid, signal.SIGSTOP)  # until the second has its answer
    command = [*COMMAND[:-1], "--rerun-incomplete", "--", f"{run}/manifest.json"]
    assert "Directory cannot be locked" in workspace.run(*command, status=1)
    os.killpg(first.pid, signal.SIGCONT)
    output, _ = first.communicate()
    assert first.returncode == 0, output
    assert workspace.json(f"{run}/manifest.json")["resumed_at"] == []


@pytest.fixture
def read_only_data(workspace):
    """Prepared and raw data on a file system that takes no writes."""
    data = workspace.root / "data"
    mount = subprocess.run(["mount", "--bind", data, data], capture_output=True, text=True)
    if mount.returncode:
        pytest.skip(f"no file system may be mounted here: {mount.stderr.strip()}")
    subprocess.run(["mount", "-o", "remount,bind,ro", data], check=True)
    yield workspace
    subprocess.run(["umount", data], check=True)


def test_data_that_may_only_be_read_are_trained_on(read_only_data):
    workspace = read_only_data
    run = workspace.json("reports/test/plan.json")["runs"][0]["folder"]
    expected = torch.load(workspace.root / run / "checkpoint.pt", weights_only=True)["model"]
    shutil.rmtree(workspace.root / run)
    workspace.snakemake("reproduce_table1")
    found = torch.load(workspace.root / run / "checkpoint.pt", weights_only=True)["model"]
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_data_that_cannot_be_written_are_named(read_only_data):
    workspace = read_only_data
    options = ["--scale", "test", "--dataset", "clevr6"]
    said = workspace.run("python", "-m", "emorl", "fetch", *options, status=1)
    assert said.splitlines()[-1].startswith("error: ")
    assert "data/raw/clevr6" in said.splitlines()[-1]
    assert said.endswith(": Read-only file system\n")
