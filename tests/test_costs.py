"""What `emorl plan` says before anything is started."""

import json

import pytest

from emorl import costs
from emorl.plan import make_plan


@pytest.fixture(scope="module")
def plan():
    return make_plan("test", {"models": "emorl", "datasets": "tetrominoes"})


def finish(root, run, seconds, steps):
    folder = root / run["folder"]
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"status": "finished", "wall_seconds": seconds, "steps": steps}))


def test_hours_come_from_finished_runs_of_the_same_model_and_data(plan, tmp_path):
    runs = [run for run in plan["runs"] if run["variant"] == "base"]
    finish(tmp_path, runs[0], seconds=3600.0, steps=6)
    found = {cost.what: cost for cost in costs.estimate(plan, "table2", tmp_path)}
    base, prior = found["emorl tetrominoes base"], found["emorl tetrominoes reversed_prior"]
    assert (base.done, base.todo, base.hours) == (1, 1, pytest.approx(12 / 6))
    assert (prior.done, prior.todo, prior.low, prior.high) == (0, 1, pytest.approx(2), pytest.approx(2))
    assert base.megabytes > 0
    assert not costs.within(list(found.values()), 3.0)
    assert costs.within(list(found.values()), 100.0)


def test_without_any_a_probe_on_this_machine_tells(plan, tmp_path):
    (cost,) = costs.estimate(plan, "fig18", tmp_path)
    assert cost.todo == 2
    assert 0 < cost.low <= cost.hours <= cost.high
    assert "probe" in cost.source
    assert max(map(len, costs.as_text([cost]).splitlines())) <= 80


def test_nothing_is_left_to_do(plan, tmp_path):
    for run in plan["runs"]:
        finish(tmp_path, run, seconds=1.0, steps=12)
    found = costs.estimate(plan, "all", tmp_path)
    assert sum(cost.todo for cost in found) == 0
    assert costs.within(found, 0.0)
