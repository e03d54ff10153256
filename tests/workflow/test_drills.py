"""A bad day for the workflow: Ctrl-C, two of them at once, data that may only be read."""

import os
import random
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
    run = workspace.runs()[0]["folder"]
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


@pytest.mark.drill
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

    workspace.snakemake(f"{run}/manifest.json")
    manifest = workspace.json(f"{run}/manifest.json")
    assert manifest["status"] == "finished"
    assert manifest["starts"][1]["step"] >= 4
    expected, found = (
        torch.load(place.root / run / "checkpoint.pt", weights_only=True)["model"] for place in (finished, workspace)
    )
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.drill
def test_a_second_workflow_in_the_same_folder_is_turned_away(unfinished):
    workspace, run = unfinished
    first = start(workspace, run)
    os.killpg(first.pid, signal.SIGSTOP)  # until the second has its answer
    said = workspace.run(*COMMAND, f"{run}/manifest.json", status=1)
    assert "Directory cannot be locked" in said
    assert f"Another workflow is at work in this folder: process {first.pid} on" in said
    os.killpg(first.pid, signal.SIGCONT)
    output, _ = first.communicate()
    assert first.returncode == 0, output
    assert len(workspace.json(f"{run}/manifest.json")["starts"]) == 1


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


@pytest.mark.drill
def test_data_that_may_only_be_read_are_trained_on(read_only_data):
    workspace = read_only_data
    run = workspace.runs()[0]["folder"]
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


KILLS = int(os.environ.get("EMORL_KILLS", "30"))
"""More or fewer of them, for whoever has more or less time."""


@pytest.mark.drill
def test_killed_at_any_moment_and_started_again_it_ends_as_if_undisturbed(clone, finished, tmp_path):
    """The main job from nothing, SIGKILL for Snakemake and all that it has started after a random while, and the same
    command again: at last alone. Weights, evaluations and the table are those of a workflow that nobody disturbed."""
    workspace = clone.copy(tmp_path / "killed")
    moments, command = random.Random(0), [*COMMAND[:-1], "--", "reproduce_table1"]
    for kill in range(KILLS):
        process = workspace.start(*command, start_new_session=True)
        try:
            output, _ = process.communicate(timeout=moments.uniform(1, 30))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        else:
            assert process.returncode == 0, f"before kill {kill}:\n{output}"
            places = [
                path for name in ("data", "runs", "reports/test") for path in (workspace.root / name).glob("**/*")
            ]
            moments.choice([path for path in places if path.is_file()]).unlink()  # so that there is something to do
    workspace.run(*command)
    assert not workspace.planned()

    names = [path.relative_to(finished.root) for path in finished.root.glob("runs/*/*/*/seed*/")]
    assert len(names) == 2
    for name in names:
        expected, found = (
            torch.load(place.root / name / "checkpoint.pt", weights_only=True)["model"]
            for place in (finished, workspace)
        )
        assert all(torch.equal(expected[key], found[key]) for key in expected)
        for evaluation in (finished.root / name).glob("evaluation/*.json"):
            assert (workspace.root / name / "evaluation" / evaluation.name).read_bytes() == evaluation.read_bytes()
    table = "reports/test/table1.csv"
    assert (workspace.root / table).read_bytes() == (finished.root / table).read_bytes()
