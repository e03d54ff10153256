"""The evaluation file and its controls."""

import json

import numpy as np
import pytest
import torch

from emorl import runs
from emorl.data.store import load_split
from emorl.evaluation.decomposition import control_scores, evaluate
from emorl.evaluation.job import EvaluationJob
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


def evaluation_job(run, prepared, out, trained, untrained):
    return EvaluationJob(
        build=lambda: trained,
        build_untrained=lambda: untrained,
        inference=run.settings.inference,
        settings=run.evaluation,
        data=prepared,
        seed=3,
        origin={"run": "r"},
        out=out,
    )


def test_evaluation_file(run, prepared, tmp_path):
    split = load_split(prepared, "test")
    untrained = build_model("emorl", run.settings.model, 12, torch.float32, seed=0)
    out = tmp_path / "test.json"
    job = evaluation_job(run, prepared, out, TrueMasks(split.labels), untrained)
    evaluate(job)

    result = json.loads(out.read_text())
    assert result["summary"] == {"ari": 1, "ari_with_background": 1, "mean_best_overlap": 1, "mse": 0, "kl": 1}
    assert {len(values) for values in result["images"].values()} == {16} == {result["images_scored"]}
    assert result["origin"] == {"run": "r"}
    assert {"untrained", "true_masks", "one_slot", "random_slots"} == set(result["controls"])
    examples = np.load(job.arrays_path)
    assert examples["images"].shape == (2, 3, 12, 12)
    assert examples["masks"].shape == (2, 4, 35, 35)


def test_evaluation_repeats(run, prepared, tmp_path):
    model = build_model("emorl", run.settings.model, 12, torch.float32, seed=0)
    for name in ("a.json", "b.json"):
        evaluate(evaluation_job(run, prepared, tmp_path / name, model, model))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_controls_are_the_floor_and_the_ceiling(prepared):
    controls = control_scores(load_split(prepared, "test").labels, slots=4, seed=0)
    assert set(controls["true_masks"]["ari"]) == {1}
    assert set(controls["one_slot"]["ari"]) == {0}
    assert abs(np.mean(controls["random_slots"]["ari"])) < 0.02
