"""The evaluation file and its controls."""

import statistics
from itertools import cycle

import numpy as np
import pytest
import torch
from performing import ORIGIN, performed

from emorl.data.store import load_split
from emorl.evaluation import decomposition, perform
from emorl.evaluation.decomposition import control_scores, summarise
from emorl.evaluation.interface import EvaluationJob
from emorl.models.interface import Decomposition, Model
from emorl.pipeline import config, runs
from emorl.training.engine import build_model


@pytest.fixture(scope="module")
def run():
    return runs.select_runs(config.load_scale("test"), ["emorl"], ["tetrominoes"], "base", [0])[0]


class TrueMasks(Model):
    """A model that knows the truth: its masks are the label maps, its reconstruction the image."""

    def __init__(self, labels):
        torch.nn.Module.__init__(self)
        self.device_marker = torch.nn.Parameter(torch.zeros(()))
        self.labels = cycle(labels)

    def decompose(self, images, inference, generator):
        labels = torch.from_numpy(np.stack([next(self.labels) for _ in images])).long()
        masks = torch.nn.functional.one_hot(labels, 4).permute(0, 3, 1, 2).float()
        reconstructions = images[:, None].expand(-1, 4, -1, -1, -1)
        return Decomposition(
            masks, reconstructions, torch.zeros(len(images), 4, 1), images, {"kl": torch.ones(len(images))}
        )

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
        origin=ORIGIN,
        out=out,
    )


def test_evaluation_file(run, prepared, tmp_path):
    split = load_split(prepared, "test")
    untrained = build_model("emorl", run.settings.model, 12, torch.float32, seed=0)
    out = tmp_path / "test.json"
    job = evaluation_job(run, prepared, out, TrueMasks(split.labels), untrained)
    result = performed("decomposition", job)
    quantiles = result.summary.pop("fg_ari_quantile")
    assert len(quantiles) == 21
    assert set(quantiles.values()) == {1}
    ones = ("fg_ari", "ari_with_background", "mean_best_overlap", "mean_iou", "background_share", "kl")
    spreads = ("fg_ari_over_images", "fg_ari_over_draws", "mse")
    assert result.summary == dict.fromkeys(ones, 1) | dict.fromkeys(spreads, 0)
    assert {len(values) for values in result.kept["images"].values()} == {16} == {result.images_scored}
    assert result.origin == ORIGIN
    assert {"untrained", "true_masks", "one_slot", "random_slots"} == set(result.controls)
    examples = np.load(job.arrays_path)
    assert examples["images"].shape == (2, 3, 12, 12)
    assert examples["masks"].shape == (2, 4, 35, 35)


def test_spreads_are_those_over_images_and_over_draws():
    images = {"fg_ari": [0.2, 0.4, 0.9]}
    summary = summarise({"images": images, "control_images": {}, "fg_ari_of_draws": [0.5, 0.4, 0.6]})["summary"]
    assert summary["fg_ari_over_images"] == pytest.approx(statistics.pstdev(images["fg_ari"]))
    assert summary["fg_ari_over_draws"] == pytest.approx(statistics.stdev([0.5, 0.4, 0.6]))
    assert [summary["fg_ari_quantile"][at] for at in ("0.00", "0.25", "0.50", "1.00")] == [
        0.2,
        pytest.approx(0.3),
        0.4,
        0.9,
    ]


def test_images_without_objects_are_counted(run, prepared, tmp_path, monkeypatch):
    split = load_split(prepared, "test")
    split.labels[[2, 5]] = 0
    monkeypatch.setattr(decomposition, "load_split", lambda *_: split)
    model = TrueMasks(split.labels)
    result = performed("decomposition", evaluation_job(run, prepared, tmp_path / "test.json", model, model))
    assert result.summary["images_without_objects"] == 2
    assert result.summary["fg_ari"] == result.controls["true_masks"]["fg_ari"] == 14 / 16


def test_evaluation_repeats(run, prepared, tmp_path):
    model = build_model("emorl", run.settings.model, 12, torch.float32, seed=0)
    for name in ("a.json", "b.json"):
        perform("decomposition", evaluation_job(run, prepared, tmp_path / name, model, model))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_controls_are_the_floor_and_the_ceiling(prepared):
    controls = control_scores(load_split(prepared, "test").labels, slots=4, seed=0)
    assert set(controls["true_masks"]["fg_ari"]) == {1}
    assert set(controls["one_slot"]["fg_ari"]) == {0}
    assert abs(np.mean(controls["random_slots"]["fg_ari"])) < 0.02
