"""What jobs take of a machine, and how many trainings run at once: as many as there are GPUs, or else cores."""

import re
import shutil

import pytest


@pytest.mark.drill
@pytest.mark.parametrize(
    ("gpus", "runs_per_gpu", "at_once"), [("GPU-of-this-test", 1, False), ("GPU-of-this-test", 2, True), ("", 1, True)]
)
def test_trainings_at_once(workspace, monkeypatch, gpus, runs_per_gpu, at_once):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    slower = "def update(self, progress: Progress) -> None:\n        time.sleep(2)"
    workspace.edit("emorl/training/progress.py", lambda text: text.replace(slower.partition("\n")[0], slower))
    workspace.edit("emorl/runtime/device.py", lambda text: text.replace("names := gpus.devices()", "names := []"))
    targets = [f"{run['folder']}/manifest.json" for run in workspace.runs()]
    for target in targets:
        shutil.rmtree((workspace.root / target).parent)
    workspace.snakemake(*targets, config=f"runs_per_gpu={runs_per_gpu}")
    first, second = sorted((workspace.json(target) for target in targets), key=lambda manifest: manifest["started"])
    assert (second["started"] < first["ended"]) == at_once


def test_what_jobs_take_of_a_machine(clone):
    """Whoever computes on a GPU locks it; scikit-learn, which most of DCI's time goes to, takes none."""
    output = clone.snakemake("-n", "-p", "reproduce_table3", "reproduce_fig10", config="datasets=clevr6,tetrominoes")
    rules = re.findall(
        r"^rule (train|evaluate|benchmark):\n.*?^    resources: ([^\n]*)\n(?:.*?\n)*?Shell command: ([^\n]*)$",
        output,
        re.MULTILINE | re.DOTALL,
    )
    assert {rule for rule, _, _ in rules} == {"train", "evaluate", "benchmark"}
    for _, resources, command in rules:
        gpus = 0 if "--what disentanglement " in command else 1
        assert f"gpu={gpus}," in resources
        assert f"python -m emorl.runtime.gpus {gpus} python -m " in command
        assert int(re.search(r"mem_mb=(\d+)", resources)[1]) > 1.2 * 6200  # MB that IODINE has taken on CLEVR6
