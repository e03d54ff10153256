"""What is refused before training, and scores that are none."""

import dataclasses
import shutil

import pytest
import torch

from emorl.evaluation import perform
from emorl.evaluation.interface import Evaluation, EvaluationJob
from emorl.pipeline import config, runs, steps
from emorl.runtime.errors import UserError
from emorl.training import engine
from emorl.training.checkpoints import CHECKPOINT, load_checkpoint, save_checkpoint


@pytest.fixture
def run(prepared, tmp_path, monkeypatch):
    """A run of a project in a folder of its own, whose data are prepared."""
    (run,) = runs.select_runs(config.load_scale("test"), ["slot_mlp"], ["tetrominoes"], "base", [0])
    (tmp_path / run.data.path).parent.mkdir(parents=True)
    shutil.copy(prepared, tmp_path / run.data.path)
    monkeypatch.setattr(steps, "ROOT", tmp_path)
    return run


def test_fewer_images_than_a_batch_are_refused(run):
    """Published files may hold fewer than asked for (`fewer_train`)."""
    training = run.settings.training.model_copy(update={"batch_size": 65})
    greedy = dataclasses.replace(run, settings=run.settings.model_copy(update={"training": training}))
    with pytest.raises(UserError, match=r"^tetrominoes has 64 pictures for training, fewer than batch_size 65 of"):
        steps.training_job(greedy)


def test_weights_that_are_no_numbers_have_no_score(run, tmp_path):
    engine.train(steps.training_job(run), lambda progress: None)
    steps.evaluate_run(run, "decomposition")
    out = tmp_path / run.evaluation_path("decomposition")
    assert Evaluation.read(out).failed is None
    path = tmp_path / run.folder / CHECKPOINT
    state = load_checkpoint(path, run.digest)
    name = next(reversed(state["model"]))
    state["model"][name].view(-1)[0] = torch.nan
    save_checkpoint(path, state)
    steps.evaluate_run(run, "decomposition")
    evaluation = Evaluation.read(out)
    assert evaluation.failed == f"weights that are no finite numbers, in {name}"
    assert evaluation.summary == {}


def test_a_score_that_is_no_number_is_a_failure(run, tmp_path, monkeypatch):
    engine.train(steps.training_job(run), lambda progress: None)
    monkeypatch.setattr(
        steps, "perform", lambda name, job: perform(name, dataclasses.replace(job, build=lambda: without_numbers(job)))
    )
    steps.evaluate_run(run, "decomposition")
    assert Evaluation.read(tmp_path / run.evaluation_path("decomposition")).failed == "mse came out as no finite number"


def without_numbers(job: EvaluationJob) -> torch.nn.Module:
    model = job.build()
    decompose = model.decompose

    def spoilt(*arguments):
        found = decompose(*arguments)
        return dataclasses.replace(found, reconstruction=found.reconstruction * torch.nan)

    model.decompose = spoilt
    return model
