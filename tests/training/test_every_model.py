"""Each system of the paper goes through the same engine: it resumes exactly, repeats, and can be decomposed."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from jobs import origin, start
from torch._subclasses import FakeTensorMode

from emorl.data.store import load_split
from emorl.models import model_names
from emorl.pipeline import config, runs
from emorl.runtime.interruption import Interrupted
from emorl.training import engine
from emorl.training.checkpoints import CHECKPOINT, load_checkpoint, save_checkpoint
from emorl.training.step import TrainingStep


def stop_after(made, step, **options):
    """Train until `step` is done, as a signal would have it."""
    done = itertools.count(made_step(made) + 1)
    with pytest.raises(Interrupted, match=f"stopped after step {step}, "):
        engine.train(made, lambda progress: None, asked_to_stop=lambda: next(done) == step, **options)


def made_step(made):
    path = made.folder / CHECKPOINT
    return load_checkpoint(path, made.digest)["step"] if path.exists() else 0


def job(name, prepared, folder):
    (run,) = runs.select_runs(config.load_scale("test"), [name], ["tetrominoes"], "base", [0])
    settings = run.settings.training.model_copy(update={"steps": 4, "log_every": 1})
    return engine.Job(folder, prepared, name, run.settings.model, settings, origin(name), start), run


def weights(folder):
    return torch.load(folder / CHECKPOINT, weights_only=True)["model"]


def difference(made, one, other):
    """How far the weights in two folders are apart, over the way that training has taken them.

    Single weights say little: Adam makes whole steps of rounding errors where a gradient is nearly zero.
    """
    start = engine.build_model(made.model, made.model_settings, 12, torch.float32, made.seed).state_dict()
    a, b = weights(one), weights(other)
    moved, apart = (torch.cat([(a[key] - w[key]).flatten() for key in start]).norm() for w in (start, b))
    return (apart / moved).item()


@pytest.mark.parametrize("name", model_names())
def test_a_stopped_run_ends_with_the_weights_of_one_that_was_not(name, prepared, tmp_path):
    whole, _ = job(name, prepared, tmp_path / "whole")
    engine.train(whole, lambda progress: None)
    stopped, _ = job(name, prepared, tmp_path / "stopped")
    for step in (1, 3):
        stop_after(stopped, step)
    manifest = engine.train(stopped, lambda progress: None)
    assert manifest.resumed_at == [1, 3]
    expected, found = weights(whole.folder), weights(stopped.folder)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)


@pytest.mark.parametrize("name", model_names())
def test_masks_sum_to_one_and_values_are_in_range(name, prepared):
    _, run = job(name, prepared, None)
    images = load_split(prepared, "test").images[:3]
    images = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    model = engine.build_model(name, run.settings.model, 12, torch.float32, seed=0)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    result = model.decompose(images, run.settings.inference, torch.Generator().manual_seed(0))
    assert result.masks.shape == (3, 4, 12, 12)
    torch.testing.assert_close(result.masks.sum(1), torch.ones(3, 12, 12))
    for values in (result.masks, result.reconstructions, result.reconstruction):
        assert values.min() >= 0
        assert values.max() <= 1 + 1e-5
    reconstructions, masks = model.decode(result.latents)
    assert (reconstructions.shape, masks.shape) == (result.reconstructions.shape, result.masks.shape)
    torch.testing.assert_close(masks.sum(1), torch.ones(3, 12, 12))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


OF_A_GPU = torch.tensor([7, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0], dtype=torch.uint8)
"""State of a generator of noise: seed and offset."""


@pytest.mark.parametrize("name", ["emorl", "slot_attention", "iodine"])  # Adam and RMSprop
def test_a_run_that_was_begun_on_a_gpu_goes_on_on_the_cpu(name, prepared, tmp_path):
    made, _ = job(name, prepared, tmp_path / "run")
    stop_after(made, 2)
    state = load_checkpoint(made.folder / CHECKPOINT, made.digest)
    state["generator"], state["compiled"] = OF_A_GPU, True  # by a compiler that this machine may lack
    for group in state["optimizer"]["param_groups"]:
        group |= {"capturable": True, "lr": torch.tensor(1e-4)}
    save_checkpoint(made.folder / CHECKPOINT, state)
    manifest = engine.train(made, lambda progress: None)
    assert (manifest.status, manifest.steps) == ("finished", 4)
    assert [start.same_noise for start in manifest.starts] == [True, False]
    assert not manifest.compiled
    groups = load_checkpoint(made.folder / CHECKPOINT, made.digest)["optimizer"]["param_groups"]
    assert not any(group["capturable"] for group in groups)


@pytest.mark.parametrize("name", ["emorl", "iodine"])
def test_a_run_that_was_begun_on_the_cpu_goes_on_on_a_gpu(name, prepared, tmp_path, monkeypatch):
    """On tensors of a GPU that have no values, and with a stand-in for its generator."""
    made, _ = job(name, prepared, tmp_path / "run")
    stop_after(made, 2)
    state = load_checkpoint(made.folder / CHECKPOINT, made.digest)
    model = engine.build_model(name, made.model_settings, 12, torch.float32, 0)
    seeds = []

    class Generator:
        def __init__(self, device):
            assert torch.device(device).type == "cuda"

        def manual_seed(self, seed):
            seeds.append(seed)
            return self

        def get_state(self):
            return OF_A_GPU

    monkeypatch.setattr(torch, "Generator", Generator)
    with FakeTensorMode(allow_non_fake_inputs=True):
        weights = [torch.nn.Parameter(torch.zeros(w.shape, device="cuda"), w.requires_grad) for w in model.parameters()]
        model = SimpleNamespace(parameters=lambda: weights)
        images = torch.zeros(8, 12, 12, 3, dtype=torch.uint8, device="cuda")
        step = TrainingStep(model, images, made.training, made.seed, None)
        assert not step.restore(2, state["optimizer"], state["generator"])
    assert len(set(seeds)) == 2  # what a run draws from its first step on is not drawn again
    assert all(group["capturable"] for group in step.optimizer.param_groups)
    assert {state["step"].device.type for state in step.optimizer.state.values()} == {"cuda"}
