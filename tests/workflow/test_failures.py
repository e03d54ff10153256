"""Runs that diverge, and runs that are killed."""

import os
import shutil
import signal
import subprocess
import time

import pytest
import torch

from emorl.runtime.files import ROOT


@pytest.mark.drill
def test_a_diverged_run_is_counted_and_is_no_error(workspace):
    """The bound beyond which a run counts as diverged decides no weight, so it is not part of the run's name."""
    shutil.rmtree(workspace.root / workspace.runs()[0]["folder"])
    workspace.forget().edit("params/test.yaml", lambda text: text.replace("explosion: 1.0e+8", "explosion: 1.0e-3"))
    workspace.snakemake("draw_table1", "draw_decompositions_tetrominoes", config="seeds=1")
    run = workspace.runs()[0]
    manifest = workspace.json(f"{run['folder']}/manifest.json")
    assert (manifest["status"], manifest["steps"]) == ("failed", 4)
    text = (workspace.root / "reports/test/table1.txt").read_text()
    assert "1/0/1" in text
    assert "Failed: EfficientMORL on Tetrominoes, seed 0 (diverged)" in text.replace("\n", " ")

    # Both seeds again: the one that failed stays counted, and nothing is trained.
    workspace.run("git", "checkout", "params/test.yaml")
    assert workspace.planned() == {"draw_table1": 1, "draw_decompositions_tetrominoes": 1, "page": 1}


def test_of_a_job_that_is_killed_the_log_says_so(tmp_path):
    script, log = ROOT / "workflow/scripts/logged", tmp_path / "job.log"
    job = subprocess.run([script, log, "sh", "-c", "echo step 7; kill -9 $$"], capture_output=True, text=True)
    assert job.returncode == 137
    assert job.stdout == log.read_text()
    assert job.stdout.startswith("step 7\n")
    assert job.stdout.endswith("error: killed by SIGKILL, as by a system that is out of memory\n")


def test_a_job_that_is_told_to_end_has_its_last_words_in_the_log(tmp_path):
    """The signal reaches all its processes, as from a batch system."""
    command = "trap 'echo saved; exit 75' TERM; echo go; while :; do sleep 0.05; done"
    script, log = ROOT / "workflow/scripts/logged", tmp_path / "job.log"
    job = subprocess.Popen([script, log, "sh", "-c", command], stdout=subprocess.PIPE, process_group=0)
    assert job.stdout.readline() == b"go\n"
    os.killpg(job.pid, signal.SIGTERM)
    assert job.wait() == 75
    assert log.read_text().endswith("saved\n")


@pytest.mark.drill
def test_killed_and_run_again_ends_with_the_same_weights(workspace, finished):
    """SIGKILL of Snakemake and of the training below it, after a checkpoint."""
    run = workspace.runs()[0]["folder"]
    target, checkpoint = f"{run}/manifest.json", f"{run}/checkpoint.pt"
    shutil.rmtree(workspace.root / run)
    workspace.edit(
        "emorl/commands/runs.py", lambda text: text.replace("] = 20.0", "] = 0.0")
    )  # seconds between checkpoints
    slower = "def update(self, progress: Progress) -> None:\n        time.sleep(1)"
    workspace.edit("emorl/training/progress.py", lambda text: text.replace(slower.partition("\n")[0], slower))

    command = ["snakemake", "--cores", "1", target, "--config", "scale=test", "models=emorl", "datasets=tetrominoes"]
    snakemake = workspace.start(*command, start_new_session=True)
    while not (workspace.root / checkpoint).exists():
        assert snakemake.poll() is None, snakemake.stdout.read()
        time.sleep(0.02)
    os.killpg(snakemake.pid, signal.SIGKILL)  # the training is of its group
    snakemake.communicate()
    assert not (workspace.root / target).exists()

    assert f"process {snakemake.pid} on" in workspace.snakemake(target)  # its lock is lifted
    manifest = workspace.json(target)
    assert manifest["status"] == "finished"
    assert 0 < manifest["starts"][1]["step"] < 12
    expected, found = weights(finished.root / checkpoint), weights(workspace.root / checkpoint)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def weights(checkpoint):
    return torch.load(checkpoint, weights_only=True)["model"]
