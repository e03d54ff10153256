"""The engine: resume is exact, failures are recorded, foreign checkpoints are refused."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

from emorl import runs
from emorl.errors import UserError
from emorl.training import engine

STEPS = 30


@pytest.fixture
def job(prepared, tmp_path):
    return make_job(prepared, tmp_path / "run")


def make_job(prepared, folder, seed=0, **training):
    (run,) = runs.select_runs("test", ["emorl"], ["tetrominoes"], "base", [seed])
    settings = run.settings.training.model_copy(update={"steps": STEPS, "log_every": 1} | training)
    record = {"dataset": "tetrominoes", "seed": seed}
    return engine.Job(folder, prepared, "emorl", run.settings.model, settings, seed, "digest", record)


def weights(folder):
    return torch.load(folder / engine.CHECKPOINT, weights_only=True)["model"]


def lines(folder):
    return [json.loads(line) for line in (folder / engine.METRICS).read_text().splitlines()]


def without_times(log):
    return [{k: v for k, v in line.items() if k not in ("time", "steps_per_second")} for line in log]


def run_silently(job, **options):
    return engine.train(job, lambda progress: None, **options)


TRAIN_IN_A_PROCESS = """
import sys, pathlib, torch
sys.path.insert(0, sys.argv[3])
torch.set_num_threads(1)
from test_engine import make_job
from emorl.training import engine
job = make_job(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
engine.train(job, lambda p: print(p.step, flush=True), checkpoint_seconds=0.01)
"""


def test_killed_at_random_steps_and_resumed_ends_with_identical_weights(prepared, job, tmp_path):
    run_silently(job, checkpoint_seconds=1e9)
    killed = tmp_path / "killed"
    command = [sys.executable, "-c", TRAIN_IN_A_PROCESS, str(prepared), str(killed), os.path.dirname(__file__)]
    chooser, last = random.Random(time.time_ns()), 0
    for _ in range(3):
        target = chooser.randint(last + 1, last + STEPS // 4)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for line in process.stdout:
            if int(line) >= target:
                process.send_signal(signal.SIGKILL)
                break
        process.wait()
        assert process.returncode == -signal.SIGKILL
        last = int(line)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    expected, found = weights(job.folder), weights(killed)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert without_times(lines(killed)) == without_times(lines(job.folder))
    manifest = json.loads((killed / engine.MANIFEST).read_text())
    assert manifest["status"] == "finished"
    assert 1 <= len(manifest["resumed_at"]) <= 3


def test_points_never_change_once_they_are_visible(prepared, job):
    """Stop between the checkpoint and the metrics, or in the middle of a line: the resumed log is the same."""
    stop_after(job, steps=9)
    seen = (job.folder / engine.METRICS).read_bytes()
    with open(job.folder / engine.METRICS, "ab") as file:
        file.write(b'{"step": 10, "loss": 1.')  # torn off by the kill
    run_silently(job)
    assert (job.folder / engine.METRICS).read_bytes().startswith(seen)
    assert [line["step"] for line in lines(job.folder)] == list(range(1, STEPS + 1))


def stop_after(job, steps):
    class Stop(Exception):
        pass

    def stop(progress):
        if progress.step == steps:
            raise Stop

    with pytest.raises(Stop):
        engine.train(job, stop, checkpoint_seconds=0)


def test_seeds_differ_and_the_same_seed_repeats(prepared, tmp_path):
    jobs = [make_job(prepared, tmp_path / name, seed, steps=2) for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    a, b, c = (run_silently(job) and weights(job.folder) for job in jobs)
    name = "decoder.first.weight"
    assert torch.equal(a[name], b[name])
    assert not torch.equal(a[name], c[name])


def test_training_leaves_the_global_generator_alone(job):
    before = torch.random.get_rng_state()
    run_silently(job)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_finished_run_is_not_touched(job):
    run_silently(job)
    stamps = {path: path.stat().st_mtime_ns for path in job.folder.iterdir()}
    run_silently(job)
    assert {path: path.stat().st_mtime_ns for path in job.folder.iterdir()} == stamps


def test_nan_is_recorded_as_failure(job, monkeypatch):
    poison(monkeypatch, at_step=5, value=float("nan"))
    with pytest.raises(engine.Diverged, match=r"step 6.*loss is nan"):
        run_silently(job)
    manifest = json.loads((job.folder / engine.MANIFEST).read_text())
    assert manifest["status"] == "failed"
    assert "diverged at step 6" in manifest["error"]
    assert lines(job.folder)[-1]["step"] == 6


def test_explosion_is_recorded_before_its_weights_are_saved(prepared, tmp_path, monkeypatch):
    job = make_job(prepared, tmp_path / "run", log_every=3)
    poison(monkeypatch, at_step=5, value=1e9)
    with pytest.raises(engine.Diverged, match=r"step 6.*beyond 1e"):
        run_silently(job, checkpoint_seconds=0)
    assert torch.load(job.folder / engine.CHECKPOINT, weights_only=True)["step"] == 3


def poison(monkeypatch, at_step, value):
    from emorl.models.emorl import EfficientMORL

    original = EfficientMORL.accumulate_gradients

    def poisoned(self, images, step, generator):
        scalars = original(self, images, step, generator)
        return scalars | {"loss": torch.tensor(value)} if step == at_step else scalars

    monkeypatch.setattr(EfficientMORL, "accumulate_gradients", poisoned)


def test_checkpoint_of_another_run_is_refused(prepared, job):
    stop_after(job, steps=3)
    other = engine.Job(**(vars(job) | {"digest": "other"}))
    with pytest.raises(UserError, match="another configuration or by other training code"):
        run_silently(other)


def test_damaged_checkpoint_is_refused(job):
    stop_after(job, steps=3)
    path = job.folder / engine.CHECKPOINT
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"checkpoint\.pt is not a checkpoint that can be read safely"):
        run_silently(job)


class Malicious:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (os.system, (f"touch {self.marker}",))


def test_malicious_checkpoint_is_refused_and_does_nothing(job, tmp_path):
    job.folder.mkdir()
    torch.save({"digest": "digest", "model": Malicious(tmp_path / "owned")}, job.folder / engine.CHECKPOINT)
    with pytest.raises(UserError, match="read safely"):
        run_silently(job)
    assert not (tmp_path / "owned").exists()


def test_full_disk_while_saving_keeps_the_last_checkpoint(job, monkeypatch):
    stop_after(job, steps=3)
    before = (job.folder / engine.CHECKPOINT).read_bytes()

    def full(state, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        run_silently(job, checkpoint_seconds=0)
    assert (job.folder / engine.CHECKPOINT).read_bytes() == before
    assert not list(job.folder.glob("*.tmp"))
    monkeypatch.undo()
    assert run_silently(job)["status"] == "finished"


def test_batches_are_permutations_of_the_data():
    drawn = torch.cat([engine._batch_indices(step, 10, 3, seed=7, device=torch.device("cpu")) for step in range(6)])
    first, second = drawn[:9].tolist(), drawn[9:].tolist()
    assert len(set(first)) == len(set(second)) == 9
    assert first != second
