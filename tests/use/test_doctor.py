"""Runs made to have each fault are told so, with the number; those that have none are left in peace."""

import json

import numpy as np
import pytest
import torch

from emorl.pipeline import config
from emorl.pipeline.runs import PreparedData
from emorl.runtime.errors import UserError
from emorl.training.checkpoints import CHECKPOINT, read_plain_data, save_checkpoint
from emorl.use import doctor
from emorl.use.doctor import Observed, of_decompositions, of_images, of_training

MODEL = {"sigma": 0.3, "geco": {"target": -1.1, "warm_start": 10}}
TRAINING = {"learning_rate": 1e-3, "decay_steps": 100, "steps": 1000}
RNG = np.random.default_rng(0)


def lines(**metrics):
    """Metrics of 100 logged steps; a function of the step, or a number."""
    return [
        {"step": step, "learning_rate": 1e-3, "kl": 40.0, "geco_constraint": -5.0}
        | {name: value(step) if callable(value) else value for name, value in metrics.items()}
        for step in range(10, 1001, 10)
    ]


def training_findings(model=None, **metrics):
    said = of_training(lines(**metrics), {"model": MODEL | (model or {}), "training": TRAINING}, 1000)
    return [finding.sentence for finding in said]


def test_a_healthy_training_is_left_in_peace():
    assert training_findings() == []
    assert training_findings(learning_rate=lambda step: 1e-3 * min(1, step / 200)) == []  # a warm-up from low rates


@pytest.mark.parametrize(
    ("model", "metrics", "sentence"),
    [
        (
            {"geco": {"target": -2.0, "warm_start": 10}},
            {},
            "the likelihood can reach: -2, where the floor is -1.204",
        ),
        ({}, {"geco_constraint": 3.0}, "met already: at 100% of the logged steps"),
        ({}, {"kl": 0.02}, "the KL has collapsed: 0.02 nats"),
        (
            {},
            {"learning_rate": lambda step: 1e-3 * 0.5 ** (step / 50)},
            "past its decay: 1.8% of its highest at step 290",
        ),
    ],
)
def test_faults_of_training(model, metrics, sentence):
    (found,) = training_findings(model, **metrics)
    assert sentence in found


def test_models_without_geco_and_kl_are_looked_at_as_well():
    config_of = {"model": {"sigma": 1.0}, "training": TRAINING}
    assert list(of_training([{"step": 10, "learning_rate": 1e-3, "loss": 3.0}], config_of, 1000)) == []
    assert list(of_training([], config_of, 1000)) == []


def test_images_that_are_all_alike():
    images = RNG.integers(0, 256, (20, 8, 8, 3), np.uint8)
    assert list(of_images(images)) == []
    (found,) = of_images(np.repeat(images[:1], 20, 0))
    assert "all alike: a pixel's variance over 20 of them is" in found.sentence


def scenes():
    """Eight grey images with a red and a green square, and the regions."""
    images = np.full((8, 3, 16, 16), 0.4)
    regions = np.zeros((8, 16, 16), int)
    for n in range(8):
        images[n, :, 2:6, n : n + 5] = np.array([1, 0, 0])[:, None, None]
        images[n, :, 10:14, n : n + 5] = np.array([0, 1, 0])[:, None, None]
        regions[n, 2:6, n : n + 5], regions[n, 10:14, n : n + 5] = 1, 2
    return images, regions


def sentences(regions, sharpness=0.94, reconstruction=None, K=4):
    images, _ = scenes()
    masks = (1 - sharpness) / K + sharpness * (regions[:, None] == np.arange(K)[:, None, None])
    observed = Observed(images, images if reconstruction is None else reconstruction, masks)
    return [finding.sentence for finding in of_decompositions(observed, {"sigma": 0.3, "xavier_gain": 0.02})]


def test_slots_that_bind_are_left_in_peace():
    assert sentences(scenes()[1]) == []


def test_one_slot_keeps_everything():
    (found,) = sentences(np.zeros((8, 16, 16), int))
    assert "one slot keeps everything: 100% of the pixels" in found


def test_slots_share_the_background():
    regions = scenes()[1]
    regions[:, :, 8:] = np.where(regions[:, :, 8:] == 0, 3, regions[:, :, 8:])
    (found,) = sentences(regions)
    assert "slots share the background: 2.0 of them" in found


def test_no_slot_decides():
    (found,) = sentences(scenes()[1], sharpness=0.05)
    assert "no slot decides: the largest mask has 0.29 of a pixel, where 4 equal ones have 0.25" in found


def test_reconstructions_that_show_nothing():
    images, regions = scenes()
    (found,) = sentences(regions, reconstruction=np.broadcast_to(images.mean((2, 3), keepdims=True), images.shape))
    assert "100% of the variance is left" in found


# ---- A whole folder ----


@pytest.fixture
def sick(own_folder, prepared, tmp_path, monkeypatch):
    """A run's folder whose slots are all equal: the decoder's weights are zero."""
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    state = read_plain_data(own_folder / CHECKPOINT)
    for name, weight in state["model"].items():
        if name.startswith("decoder"):
            state["model"][name] = torch.zeros_like(weight)
    save_checkpoint(own_folder / CHECKPOINT, state)
    data = tmp_path / PreparedData("tetrominoes", config.load_scale("test").datasets["tetrominoes"]).path
    data.parent.mkdir(parents=True)
    data.symlink_to(prepared)
    return own_folder


def test_the_command(emorl, sick):
    output = emorl("doctor", sick)
    assert "- no slot decides: the largest mask has 0.25 of a pixel, where 4 equal ones have 0.25" in output
    assert "    try first: training.steps" in output
    assert "remark" not in output


def test_what_cannot_be_looked_at_is_said(emorl, own_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    metrics = [json.loads(line) | {"kl": 0.5} for line in (own_folder / "metrics.jsonl").read_text().splitlines()]
    (own_folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics))
    output = emorl("doctor", own_folder)
    assert "- the KL has collapsed: 0.5 nats per image" in output
    assert "is not there: no image was looked at" in output


def test_no_run_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match=r"there is no run; it has no run\.json"):
        doctor.examine(tmp_path)
