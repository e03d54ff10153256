"""Runs in progress: kept for another clone, taken up there to the same weights, and let go when they are over."""

import shutil

import pytest
import torch
from typer.testing import CliRunner

from emorl.commands import runs as commands
from emorl.commands import sharing
from emorl.commands.main import app
from emorl.pipeline import config, runs, steps
from emorl.pipeline.in_progress import IN_PROGRESS, LARGEST, keep, take_up
from emorl.runtime.errors import UserError
from emorl.runtime.interruption import Interrupted
from emorl.runtime.usage import USAGE
from emorl.training import engine
from emorl.training.checkpoints import CHECKPOINT, load_checkpoint
from emorl.training.manifest import Manifest
from emorl.training.metrics import METRICS

TRAIN = ("train", "--scale", "test", "--dataset", "tetrominoes", "--model", "emorl", "--seed", "0")


@pytest.fixture
def run(prepared, tmp_path, monkeypatch):
    """A run of a project in a folder of its own, whose data are prepared."""
    (run,) = runs.select_runs(config.load_scale("test"), ["emorl"], ["tetrominoes"], "base", [0])
    (tmp_path / run.data.path).parent.mkdir(parents=True)
    shutil.copy(prepared, tmp_path / run.data.path)
    for module in (steps, commands, sharing):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    return run


@pytest.fixture
def interrupted(run, tmp_path):
    """The same run, stopped after a few of its twelve steps."""
    taken = []
    with pytest.raises(Interrupted):
        engine.train(steps.training_job(run), lambda progress: None, 0, lambda: taken.append(1) or len(taken) == 6)
    return run


def call(*arguments):
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_another_clone_goes_on_to_the_same_weights(interrupted, tmp_path):
    own = tmp_path / interrupted.folder
    kept = tmp_path / IN_PROGRESS / interrupted.folder.relative_to("runs")
    assert str(kept.relative_to(tmp_path)) in call("record", "--in-progress", own)
    assert {path.name for path in kept.iterdir()} == {CHECKPOINT, METRICS, "run.json"}
    engine.train(steps.training_job(interrupted), lambda progress: None)
    expected, log = load_checkpoint(own / CHECKPOINT, interrupted.digest), (own / METRICS).read_text()

    shutil.rmtree(own)
    output = call(*TRAIN)
    assert f"goes on from {IN_PROGRESS}" in output
    found = load_checkpoint(own / CHECKPOINT, interrupted.digest)
    assert [start["step"] for start in found["starts"]] == [0, 6]
    assert all(torch.equal(found["model"][name], weights) for name, weights in expected["model"].items())
    assert len((own / METRICS).read_text().splitlines()) == len(log.splitlines())
    assert load_checkpoint(kept / CHECKPOINT, interrupted.digest)["step"] == found["step"]


def test_a_run_that_is_over_is_over_in_another_clone(interrupted, tmp_path):
    """Without another step, as the same; the record is made anew with it there."""
    own = tmp_path / interrupted.folder
    engine.train(steps.training_job(interrupted), lambda progress: None)
    call("record", "--in-progress", own)
    manifest, state = (own / "manifest.json").read_text(), load_checkpoint(own / CHECKPOINT, interrupted.digest)
    size = (own / CHECKPOINT).stat().st_size
    shutil.rmtree(own)
    assert "finished after" in call(*TRAIN)
    assert (own / "manifest.json").read_text() == manifest
    assert (own / CHECKPOINT).stat().st_size < size / 2
    found = load_checkpoint(own / CHECKPOINT, interrupted.digest)["model"]
    assert all(torch.equal(found[name], weights) for name, weights in state["model"].items())
    (own / Manifest.FILE).unlink()  # as Snakemake does before it trains a run again
    assert "finished after" in call(*TRAIN)
    assert (own / Manifest.FILE).read_text() == manifest


def test_a_run_that_failed_can_go_on_from_what_is_kept(interrupted, tmp_path):
    """It is not over: as the engine would where it failed, another clone starts it again with its optimiser."""
    own = tmp_path / interrupted.folder
    manifest = engine.train(steps.training_job(interrupted), lambda progress: None)
    keep(interrupted.folder, tmp_path)
    manifest.model_copy(update={"status": "failed", "error": "diverged"}).write(own / Manifest.FILE)
    kept = keep(interrupted.folder, tmp_path)
    assert not (kept / Manifest.FILE).exists()
    assert "optimizer" in load_checkpoint(kept / CHECKPOINT, interrupted.digest)


def test_a_run_that_is_over_here_takes_nothing_up_from_one_that_is_not(interrupted, tmp_path):
    keep(interrupted.folder, tmp_path)
    own = tmp_path / interrupted.folder
    engine.train(steps.training_job(interrupted), lambda progress: None)
    for checkpoint in own.glob("checkpoint*"):
        checkpoint.unlink()
    log = (own / METRICS).read_bytes()
    assert take_up(interrupted.folder, tmp_path) is None
    assert (own / METRICS).read_bytes() == log


def test_what_is_here_already_is_not_replaced(interrupted, tmp_path):
    kept = keep(interrupted.folder, tmp_path)
    (kept / CHECKPOINT).write_bytes(b"of another day")
    assert take_up(interrupted.folder, tmp_path) is None
    load_checkpoint(tmp_path / interrupted.folder / CHECKPOINT, interrupted.digest)


def test_what_was_sampled_of_the_machine_stays_with_the_run(interrupted, tmp_path):
    usage = tmp_path / interrupted.folder / USAGE
    usage.write_text('{"step": 0, "time": 1.0}\n')
    keep(interrupted.folder, tmp_path)
    shutil.rmtree(usage.parent)
    take_up(interrupted.folder, tmp_path)
    assert usage.read_text() == '{"step": 0, "time": 1.0}\n'


def test_all_are_kept_that_could_go_on(interrupted, tmp_path):
    imported = tmp_path / interrupted.folder.with_name("seed1")
    imported.mkdir()
    shutil.copy(tmp_path / interrupted.folder / CHECKPOINT, imported)
    output = call("record", "--in-progress")
    assert f"left out: {imported.relative_to(tmp_path)} has no {METRICS}" in output
    assert len(list((tmp_path / IN_PROGRESS).glob("*/*/*/*"))) == 1


def test_what_is_no_run_in_progress_is_refused(interrupted, tmp_path):
    with pytest.raises(UserError, match="it is no run that could go on"):
        keep(interrupted.folder.with_name("seed5"), tmp_path)
    with pytest.raises(UserError, match="is no run of this project"):
        call("record", "--in-progress", tmp_path / "elsewhere")
    with pytest.raises(UserError, match="chosen with --in-progress alone"):
        call("record", tmp_path / interrupted.folder)
    with open(tmp_path / interrupted.folder / CHECKPOINT, "ab") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(UserError, match=r"checkpoint.pt has 3.0 MB; in git are kept those of up to 3 MB"):
        keep(interrupted.folder, tmp_path)
    assert not (tmp_path / IN_PROGRESS).exists()
