"""The engine: resume is exact, failures are recorded, foreign checkpoints are refused."""

import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from jobs import origin, start

from emorl.pipeline import config, runs
from emorl.runtime.errors import UserError
from emorl.runtime.interruption import Interrupted
from emorl.training import engine
from emorl.training.checkpoints import CHECKPOINT, PREVIOUS, load_checkpoint
from emorl.training.manifest import Manifest
from emorl.training.metrics import METRICS, MetricsLog
from emorl.training.step import batch_indices

STEPS = 30


@pytest.fixture
def job(prepared, tmp_path):
    return make_job(prepared, tmp_path / "run")


def make_job(prepared, folder, seed=0, **training):
    (run,) = runs.select_runs(config.load_scale("test"), ["emorl"], ["tetrominoes"], "base", [seed])
    settings = run.settings.training.model_copy(update={"steps": STEPS, "log_every": 1} | training)
    return engine.Job(folder, prepared, "emorl", run.settings.model, settings, origin("emorl", seed), start)


def weights(folder):
    return torch.load(folder / CHECKPOINT, weights_only=True)["model"]


def lines(folder):
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def without_times(log):
    return [{k: v for k, v in line.items() if k not in ("time", "steps_per_second")} for line in log]


def run_silently(job, **options):
    return engine.train(job, lambda progress: None, **options)


TRAIN_IN_A_PROCESS = """
import sys, pathlib, time, torch
sys.path.insert(0, sys.argv[3])
torch.set_num_threads(1)
from test_engine import make_job
from emorl.training import engine
from emorl.runtime.interruption import listening
job = make_job(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
with listening() as listener:
    engine.train(job, lambda p: print(p.step, flush=True) or time.sleep(0.05), float(sys.argv[4]),
                 listener.asked_to_stop)
"""  # slowed down, so that a signal sent at a step does not come after the last one


def arguments(prepared, folder, checkpoint_seconds=0.01):
    return [str(prepared), str(folder), os.path.dirname(__file__), str(checkpoint_seconds)]


@pytest.mark.drill
@pytest.mark.slow
def test_killed_at_random_steps_and_resumed_ends_with_identical_weights(prepared, job, tmp_path):
    run_silently(job, checkpoint_seconds=1e9)
    killed = tmp_path / "killed"
    command = [sys.executable, "-c", TRAIN_IN_A_PROCESS, *arguments(prepared, killed)]
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
    manifest = Manifest.read(killed / Manifest.FILE)
    assert manifest.status == "finished"
    assert 1 <= len(manifest.resumed_at) <= 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR2"])
def test_a_signal_stops_after_the_step_and_nothing_of_it_is_lost(name, prepared, tmp_path):
    """Checkpoints are an hour apart, so what is there afterwards was saved for the signal."""
    folder = tmp_path / "run"
    command = [sys.executable, "-c", TRAIN_IN_A_PROCESS, *arguments(prepared, folder, checkpoint_seconds=3600)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    last = next(int(line) for line in process.stdout if int(line) >= 3)
    process.send_signal(getattr(signal, name))
    said, complaint = process.communicate()
    assert process.returncode == 1
    step = load_checkpoint(folder / CHECKPOINT, "digest")["step"]
    assert f"stopped after step {step}, which is saved" in complaint
    assert step - 1 == int([last, *said.split()][-1])  # the stopped step is saved, and not reported any more
    assert [line["step"] for line in lines(folder)] == list(range(1, step + 1))


def test_a_clock_that_goes_backwards_changes_nothing(job, monkeypatch, prepared, tmp_path):
    now = itertools.count(2e9, -3600)
    monkeypatch.setattr(time, "time", lambda: next(now))
    manifest = run_silently(job, checkpoint_seconds=0)
    assert manifest.status == "finished"
    assert 0 < manifest.wall_seconds < 600
    assert [line["step"] for line in lines(job.folder)] == list(range(1, STEPS + 1))


def test_points_never_change_once_they_are_visible(prepared, job):
    """Stop between the checkpoint and the metrics, or in the middle of a line: the resumed log is the same."""
    stop_after(job, steps=9)
    seen = (job.folder / METRICS).read_bytes()
    with open(job.folder / METRICS, "ab") as file:
        file.write(b'{"step": 10, "loss": 1.')  # torn off by the kill
    run_silently(job)
    assert (job.folder / METRICS).read_bytes().startswith(seen)
    assert [line["step"] for line in lines(job.folder)] == list(range(1, STEPS + 1))


def stop_after(job, steps):
    """Train so many steps, saving each."""
    done = itertools.count(1)
    with pytest.raises(Interrupted):
        run_silently(job, checkpoint_seconds=0, asked_to_stop=lambda: next(done) == steps)


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


def test_who_takes_no_step_signs_nothing(job):
    """A run without steps left that is asked for again, its manifest deleted, keeps the origin of the steps it took."""
    stop_after(job, steps=7)
    run_silently(job)
    path = job.folder / Manifest.FILE
    manifest = path.read_text()
    path.unlink()
    elsewhere = engine.Job(**(vars(job) | {"start": lambda step: start(99)}))
    assert [taken.git_commit for taken in run_silently(elsewhere).starts] == ["from 0", "from 7"]
    assert path.read_text() == manifest


def test_hardware_is_that_of_every_start(job):
    stop_after(job, steps=7)
    manifest = run_silently(job)
    on_a_gpu = manifest.starts[0].environment.model_copy(update={"gpu": "NVIDIA H100"})
    starts = [manifest.starts[0].model_copy(update={"environment": on_a_gpu}), manifest.starts[1]]
    machine = manifest.starts[1].environment.hardware
    assert manifest.hardware == machine
    assert manifest.model_copy(update={"starts": starts}).hardware == f"NVIDIA H100, then {machine}"


def test_nan_is_recorded_as_failure(job, monkeypatch):
    poison(monkeypatch, at_step=5, value=float("nan"))
    with pytest.raises(engine.Diverged, match=r"step 6.*loss is nan"):
        run_silently(job)
    manifest = Manifest.read(job.folder / Manifest.FILE)
    assert manifest.status == "failed"
    assert "diverged at step 6" in manifest.error
    assert lines(job.folder)[-1]["step"] == 6


def test_a_stop_between_logged_steps_saves_no_weights_that_are_no_numbers(prepared, tmp_path, monkeypatch):
    job = make_job(prepared, tmp_path / "run", log_every=6)
    poison(monkeypatch, at_step=3, value=float("nan"))
    answers = iter([False, False, False, True])
    with pytest.raises(engine.Diverged, match=r"step 4.*loss is nan"):
        engine.train(job, lambda progress: None, asked_to_stop=lambda: next(answers))
    assert Manifest.read(job.folder / Manifest.FILE).status == "failed"
    assert not (job.folder / CHECKPOINT).exists()


def test_explosion_is_recorded_before_its_weights_are_saved(prepared, tmp_path, monkeypatch):
    job = make_job(prepared, tmp_path / "run", log_every=3)
    poison(monkeypatch, at_step=5, value=1e9)
    with pytest.raises(engine.Diverged, match=r"step 6.*beyond 1e"):
        run_silently(job, checkpoint_seconds=0)
    assert torch.load(job.folder / CHECKPOINT, weights_only=True)["step"] == 3


def poison(monkeypatch, at_step, value):
    from emorl.models.emorl import EfficientMORL

    original = EfficientMORL.accumulate_gradients

    def poisoned(self, images, step, generator):
        scalars = original(self, images, step, generator)
        return scalars | {"loss": torch.tensor(value)} if step == at_step else scalars

    monkeypatch.setattr(EfficientMORL, "accumulate_gradients", poisoned)


def test_checkpoint_of_another_run_is_refused(prepared, job):
    stop_after(job, steps=3)
    other = engine.Job(**(vars(job) | {"origin": origin("emorl", digest="other")}))
    with pytest.raises(UserError, match="another configuration, or by code that computes something else"):
        run_silently(other)


def truncated(content):
    return content[:1000]


def with_a_flipped_bit(content):
    """In the middle of a weight, where PyTorch alone would not notice."""
    return content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 1]) + content[len(content) // 2 + 1 :]


@pytest.mark.slow
@pytest.mark.parametrize("damage", [truncated, with_a_flipped_bit])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(damage, job, prepared, tmp_path, capsys):
    stop_after(job, steps=6)
    path = job.folder / CHECKPOINT
    path.write_bytes(damage(path.read_bytes()))
    assert run_silently(job).resumed_at == [5]
    warning = f"warning: {path} is damaged or no checkpoint: its checksum does not match; going on from the one before"
    assert capsys.readouterr().err == f"{warning}, of step 5\n"

    undisturbed = make_job(prepared, tmp_path / "undisturbed")
    run_silently(undisturbed)
    expected = weights(undisturbed.folder)
    assert all(torch.equal(expected[name], found) for name, found in weights(job.folder).items())
    assert without_times(lines(job.folder)) == without_times(lines(undisturbed.folder))


def test_killed_between_the_renames_of_two_checkpoints(job):
    stop_after(job, steps=3)
    (job.folder / CHECKPOINT).unlink()
    assert run_silently(job).resumed_at == [2]


def test_without_any_whole_checkpoint_the_run_is_refused(job):
    stop_after(job, steps=3)
    for name in (CHECKPOINT, PREVIOUS):
        (job.folder / name).write_bytes(b"zeros")
    with pytest.raises(UserError, match=r"checkpoint\.pt is damaged .*; there is no other: delete it to start afresh"):
        run_silently(job)


class Malicious:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (os.system, (f"touch {self.marker}",))


@pytest.mark.parametrize("signed", [False, True])
def test_malicious_checkpoint_is_refused_and_does_nothing(signed, job, tmp_path):
    job.folder.mkdir()
    path = job.folder / CHECKPOINT
    torch.save({"digest": "digest", "model": Malicious(tmp_path / "owned")}, path)
    if signed:
        path.write_bytes(path.read_bytes() + hashlib.sha256(path.read_bytes()).digest())
    with pytest.raises(UserError, match="read safely" if signed else "is a PyTorch file of another program"):
        run_silently(job)
    assert not (tmp_path / "owned").exists()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of four megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, text=True)
    if mount.returncode:
        pytest.skip(f"no file system may be mounted here: {mount.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
def test_a_full_disk_while_saving_keeps_the_last_checkpoint(prepared, small_disk, job):
    folder, filler = small_disk / "run", small_disk / "filler"
    command = [sys.executable, "-c", TRAIN_IN_A_PROCESS, *arguments(prepared, folder, checkpoint_seconds=0)]
    stop_after(engine.Job(**(vars(job) | {"folder": folder})), steps=1)
    room = 3 * (folder / CHECKPOINT).stat().st_size // 2  # for one checkpoint more, not for two
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - room))
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert f"No space left on device: '{folder / CHECKPOINT}'" in result.stderr
    assert load_checkpoint(folder / CHECKPOINT, "digest")["step"] == 2
    assert not list(folder.glob(".*.tmp"))
    filler.unlink()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    run_silently(job)
    expected = weights(job.folder)
    assert all(torch.equal(expected[name], found) for name, found in weights(folder).items())
    assert without_times(lines(folder)) == without_times(lines(job.folder))


def test_a_full_disk_is_named_when_metrics_do_not_fit(tmp_path):
    path = tmp_path / METRICS
    path.symlink_to("/dev/full")
    log = MetricsLog(path)
    log.add({"step": 1})
    with pytest.raises(OSError, match="No space left on device") as raised:
        log.publish()
    assert raised.value.filename == str(path)
    path.unlink()
    log.publish()  # nothing of it was lost
    assert path.read_text() == '{"step": 1}\n'


def test_batches_are_permutations_of_the_data():
    drawn = torch.cat([batch_indices(step, 10, 3, seed=7, device=torch.device("cpu")) for step in range(6)])
    first, second = drawn[:9].tolist(), drawn[9:].tolist()
    assert len(set(first)) == len(set(second)) == 9
    assert first != second
