"""What `emorl plan` says before anything is started."""

from pathlib import Path

import pytest

from emorl.pipeline import config, costs
from emorl.pipeline.in_progress import IN_PROGRESS
from emorl.pipeline.plan import make_plan
from emorl.pipeline.provenance import environment
from emorl.training.manifest import DataOrigin, Manifest, Start


@pytest.fixture(scope="module")
def plan():
    return make_plan("test", {"models": "emorl", "datasets": "tetrominoes"})


def finish(root, run, seconds, steps, gpu=None, shared_by=None):
    """Of a run of scale test, on this machine's CPU or a GPU."""
    scale = config.load_scale("test")
    block = config.block(scale, run.model, run.dataset, run.variant)
    settings = {"data": scale.datasets[run.dataset], "model": block.model, "training": block.training}
    settings = {name: part.model_dump(mode="json") for name, part in settings.items()}
    data = DataOrigin(name=run.dataset, source="replica", sha256="", train_sha256="", scenes={})
    digest = run.folder.split("/")[3].rpartition("-")[2]
    identity = {"scale": "test", "config": settings, "config_sha256": "", "data_digest": "", "computes": ""}
    identity |= {key: getattr(run, key) for key in ("dataset", "model", "variant", "seed")} | {"digest": digest}
    machine = environment().model_copy(update={"gpu": gpu})
    start = Start(
        step=0, time=0.0, git_commit=None, git_dirty=None, code_digest="", processes=1, environment=machine,
        gpu_shared_by=shared_by,
    )  # fmt: skip
    took = {"steps": steps, "started": 0.0, "ended": seconds, "wall_seconds": seconds, "starts": [start]}
    how = {"status": "finished", "error": None, "precision": "float32", "compiled": False, "parameters": 1}
    Manifest(**identity, data=data, **took, **how).write(root / run.folder / Manifest.FILE)


def test_hours_come_from_finished_runs_of_the_same_model_and_data(plan, tmp_path):
    runs = [run for run in plan.runs if run.variant == "base"]
    counted = {cost.what: cost.hours for cost in costs.estimate(plan, "table2", tmp_path).costs}
    finish(tmp_path, runs[0], seconds=7200.0, steps=12)
    estimate = costs.estimate(plan, "table2", tmp_path)
    found = {cost.what: cost for cost in estimate.costs}
    base, prior = found["emorl tetrominoes base"], found["emorl tetrominoes reversed_prior"]
    assert (base.done, base.todo, base.hours) == (1, 1, pytest.approx(2))
    assert (prior.done, prior.todo, prior.source) == (0, 1, "finished runs")
    more = counted["emorl tetrominoes reversed_prior"] / (counted["emorl tetrominoes base"] / len(runs))
    assert prior.low == prior.high == pytest.approx(2 * more, rel=0.05)  # by what one does more than the other
    assert base.megabytes > 0
    assert not costs.within(estimate, 3.0)
    assert costs.within(estimate, 100.0)
    assert costs.hours_from_the_start(estimate.costs) == pytest.approx(estimate.total("hours") + 2)
    assert "All of it from the start: " in costs.as_text(estimate)


def test_without_any_what_a_step_does_is_counted(plan, tmp_path):
    estimate = costs.estimate(plan, "fig18", tmp_path)
    (cost,) = estimate.costs
    assert cost.todo == 2
    assert 0 < cost.low < cost.hours < cost.high
    text = costs.as_text(estimate, price=2.5)
    assert "no run on it has been measured" in text
    assert f"At 2.5 an hour: {2.5 * cost.hours:,.2f}, from" in text
    assert max(map(len, text.splitlines())) <= 80
    assert costs.as_sentence(estimate, 2).startswith("Training what is left (2 runs, 2 at once) is estimated to take ")


def test_measured_runs_of_a_device_correct_what_is_counted_for_it(plan, tmp_path):
    """Those of another device do not, nor those that shared it or may have; runs that took ten times as long as counted
    make the others ten times as dear."""
    base = [run for run in plan.runs if run.variant == "base"]
    before = costs.estimate(plan, "table2", tmp_path, "h100")
    for gpu, shared_by in (("NVIDIA A100-SXM4-80GB", 1), ("NVIDIA H100 80GB HBM3", 8), ("NVIDIA H100 80GB HBM3", None)):
        finish(tmp_path, base[0], seconds=7e3, steps=12, gpu=gpu, shared_by=shared_by)
        assert costs.estimate(plan, "table2", tmp_path, "h100").calibration.error is None
    hours = {cost.what: cost.hours for cost in before.costs}
    measured = 10 * 3600 * hours["emorl tetrominoes base"] / len(base)
    finish(tmp_path, base[0], seconds=measured, steps=12, gpu="NVIDIA H100 80GB HBM3", shared_by=1)
    after = costs.estimate(plan, "table2", tmp_path, "h100")
    assert after.calibration.factor == pytest.approx(10)
    found = {cost.what: cost for cost in after.costs}
    assert found["emorl tetrominoes base"].source == "finished runs"
    assert "h100" not in after.device  # but its name
    others = costs.Calibration((2.0, 4.0)).interval(1.0, 4.0)
    assert others[0] == pytest.approx(2 * 8**0.5)
    assert others[1] < others[0] < others[2]


def test_the_error_is_that_of_runs_that_were_not_counted_in():
    assert costs.Calibration(()).error is None
    assert costs.Calibration((2.0,)).error == costs.ONE_RUN_S_ERROR
    assert costs.Calibration((2.0, 2.0, 2.0)).error == pytest.approx(1)
    assert costs.Calibration((1.0, 2.0)).error == pytest.approx(2)  # either would have been missed by this factor


def test_nothing_is_left_to_do(plan, tmp_path):
    for run in plan.runs:
        finish(tmp_path, run, seconds=1.0, steps=12)
    found = costs.estimate(plan, "all", tmp_path)
    assert found.total("todo") == 0
    assert costs.within(found, 0.0)
    assert costs.as_sentence(found, 2) == "Nothing is left to train."


def test_what_is_over_in_the_clone_that_this_comes_from_is_done(plan, tmp_path):
    run = plan.runs[0]
    finish(tmp_path, run, seconds=1.0, steps=12)
    kept = tmp_path / IN_PROGRESS / Path(run.folder).relative_to("runs")
    kept.parent.mkdir(parents=True)
    (tmp_path / run.folder).rename(kept)
    assert costs.estimate(plan, "all", tmp_path).total("done") == 1


def test_what_needs_no_run_costs_nothing(plan, tmp_path):
    text = costs.as_text(costs.estimate(plan, "fig12", tmp_path))
    assert text.splitlines()[1].split() == ["all", "0", "0", "0", "0", "-", "0"]
