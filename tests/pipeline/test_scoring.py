"""Scores while a run trains: those of its weights on validation images, and training is what it is without them."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from emorl.data.store import load_split
from emorl.evaluation import decomposition
from emorl.models import model_names
from emorl.pipeline import config, runs, steps
from emorl.training import engine
from emorl.training.checkpoints import CHECKPOINT, load_checkpoint
from emorl.training.metrics import METRICS


@pytest.fixture
def job_of(prepared, tmp_path, monkeypatch):
    """job_of(model): that of a run at scale test, in a folder of its own."""

    def job(model):
        (run,) = runs.select_runs(config.load_scale("test"), [model], ["tetrominoes"], "base", [0])
        (tmp_path / run.data.path).parent.mkdir(parents=True)
        shutil.copy(prepared, tmp_path / run.data.path)
        monkeypatch.setattr(steps, "ROOT", tmp_path)
        return run, steps.training_job(run)

    return job


def trained(job):
    engine.train(job, lambda progress: None)
    lines = [json.loads(line) for line in (job.folder / METRICS).read_text().splitlines()]
    return load_checkpoint(job.folder / CHECKPOINT, job.digest), {line["step"]: line for line in lines}


def test_they_are_those_of_the_weights_and_training_is_the_same(job_of):
    run, job = job_of("emorl")
    state, lines = trained(job)
    assert [step for step, line in lines.items() if "validation_fg_ari" in line] == [8, 12]  # every 8th, and the last

    model = engine.build_model(run.model, run.settings.model, 12, torch.float32, seed=5)
    model.load_state_dict(state["model"])
    split = load_split(job.data, "validation")
    scores, _ = decomposition.score_model(model, run.settings.inference, run.evaluation, split, run.seed)
    for name in ("fg_ari", "mse", "kl"):
        assert lines[12][f"validation_{name}"] == pytest.approx(sum(scores[name]) / len(scores[name]))

    unscored, _ = trained(replace(job, folder=job.folder.with_name("unscored"), score=None))
    assert all(torch.equal(unscored["model"][name], weights) for name, weights in state["model"].items())


@pytest.mark.parametrize("name", [name for name in model_names() if name != "emorl"])
def test_every_model_is_scored(name, job_of):
    _, job = job_of(name)
    _, lines = trained(job)
    assert {"validation_fg_ari", "validation_mse"} <= lines[12].keys()


@pytest.mark.parametrize(("every", "steps"), [(8, [8, 16, 24, 30]), (5, [8, 12, 16, 20, 28, 30]), (100, [30])])
def test_the_first_logged_step_after_each_multiple_is_scored(every, steps):
    training = config.load_scale("test").blocks("emorl")["tetrominoes"].training
    settings = training.model_copy(update={"score_every": every, "log_every": 4, "steps": 30})
    logged = [step for step in range(1, 31) if step % 4 == 0 or step == 30]
    assert [step for step in logged if engine._is_scored(step, settings)] == steps
