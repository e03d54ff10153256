"""The evaluation file, its controls, and the statistics over seeds."""

import json

import numpy as np
import pytest
import torch
from scipy import stats

from emorl import runs
from emorl.data.store import load_split
from emorl.evaluation.evaluate import control_scores, evaluate, examples_path
from emorl.evaluation.statistics import summarise
from emorl.models.interface import Decomposition, Model
from emorl.training.engine import build_model


@pytest.fixture(scope="module")
def run():
    return runs.select_runs("test", ["emorl"], ["tetrominoes"], "base", [0])[0]


class TrueMasks(Model):
    """A model that knows the truth: its masks are the label maps, its reconstruction the image."""

    def __init__(self, labels):
        torch.nn.Module.__init__(self)
        self.device_marker = torch.nn.Parameter(torch.zeros(()))
        self.labels = iter(labels)

    def decompose(self, images, inference, generator):
        labels = torch.from_numpy(np.stack([next(self.labels) for _ in images])).long()
        masks = torch.nn.functional.one_hot(labels, 4).permute(0, 3, 1, 2).float()
        colours = images[:, None].expand(-1, 4, -1, -1, -1)
        return Decomposition(masks, colours, torch.zeros(len(images), 4, 1), images, {"kl": torch.ones(len(images))})

    accumulate_gradients = decode = None


TrueMasks.__abstractmethods__ = frozenset()


def test_evaluation_file(run, prepared, tmp_path):
    split = load_split(prepared, "test")
    untrained = build_model("emorl", run.settings.model, 12, torch.float32, seed=0)
    out = tmp_path / "test.json"
    evaluate(TrueMasks(split.labels), untrained, run.settings.inference, run.evaluation, prepared, 0, {"run": "r"}, out)

    result = json.loads(out.read_text())
    assert result["summary"] == {"ari": 1, "ari_with_background": 1, "mean_best_overlap": 1, "mse": 0, "kl": 1}
    assert {len(values) for values in result["images"].values()} == {16} == {result["images_scored"]}
    assert result["origin"] == {"run": "r"}
    assert {"untrained", "true_masks", "one_slot", "random_slots"} == set(result["controls"])
    examples = np.load(examples_path(out))
    assert examples["images"].shape == (2, 3, 12, 12)
    assert examples["masks"].shape == (2, 4, 35, 35)


def test_evaluation_repeats(run, prepared, tmp_path):
    model = build_model("emorl", run.settings.model, 12, torch.float32, seed=0)
    for name in ("a.json", "b.json"):
        evaluate(model, model, run.settings.inference, run.evaluation, prepared, 3, {}, tmp_path / name)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_controls_are_the_floor_and_the_ceiling(prepared):
    controls = control_scores(load_split(prepared, "test").labels, slots=4, seed=0)
    assert controls["true_masks"]["ari"] == 1
    assert controls["one_slot"]["ari"] == 0
    assert abs(controls["random_slots"]["ari"]) < 0.02


def test_the_t_interval_is_scipys():
    values = [98.0, 97.1, 99.4, 96.0, 98.8]
    summary = summarise(values)
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert (summary.low, summary.high) == (pytest.approx(low), pytest.approx(high))
    assert summary.std == pytest.approx(np.std(values, ddof=1))


def test_few_seeds_have_no_spread():
    assert (summarise([]).mean, summarise([]).n) == (None, 0)
    assert (summarise([5.0]).mean, summarise([5.0]).std, summarise([5.0]).low) == (5.0, None, None)
