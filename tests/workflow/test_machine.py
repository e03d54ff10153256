"""How many trainings run at once: as many as there are GPUs, or else cores."""

import shutil

import pytest


@pytest.mark.parametrize(("gpus", "at_once"), [("GPU-of-this-test", False), ("", True)])
def test_trainings_at_once(workspace, monkeypatch, gpus, at_once):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    slower = "def update(self, progress: Progress) -> None:\n        time.sleep(2)"
    workspace.edit("emorl/training/progress.py", lambda text: text.replace(slower.partition("\n")[0], slower))
    planned = workspace.json("reports/test/plan.json")["runs"]
    targets = [f"{run['folder']}/manifest.json" for run in planned if run["variant"] == "base"]
    for target in targets:
        shutil.rmtree((workspace.root / target).parent)
    workspace.snakemake(*targets)
    first, second = sorted((workspace.json(target) for target in targets), key=lambda manifest: manifest["started"])
    assert (second["started"] < first["ended"]) == at_once
