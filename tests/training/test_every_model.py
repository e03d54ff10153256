"""Each system of the paper goes through the same engine: it resumes exactly, repeats, and can be decomposed."""

import itertools

import pytest
import torch

from emorl import runs
from emorl.data.store import load_split
from emorl.models import model_names
from emorl.training import engine
from emorl.training.checkpoints import CHECKPOINT, load_checkpoint
from emorl.training.interruption import Interrupted


def stop_after(made, step, **options):
    """Train until `step` is done, as a signal would have it."""
    done = itertools.count(made_step(made) + 1)
    with pytest.raises(Interrupted, match=f"stopped after step {step}, "):
        engine.train(made, lambda progress: None, asked_to_stop=lambda: next(done) == step, **options)


def made_step(made):
    path = made.folder / CHECKPOINT
    return load_checkpoint(path, made.digest)["step"] if path.exists() else 0


def job(name, prepared, folder):
    (run,) = runs.select_runs("test", [name], ["tetrominoes"], "base", [0])
    settings = run.settings.training.model_copy(update={"steps": 4, "log_every": 1})
    return engine.Job(folder, prepared, name, run.settings.model, settings, 0, "digest", {}), run


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
    assert manifest["resumed_at"] == [1, 3]
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
    for values in (result.masks, result.colours, result.reconstruction):
        assert values.min() >= 0
        assert values.max() <= 1 + 1e-5
    colours, masks = model.decode(result.latents)
    assert (colours.shape, masks.shape) == (result.colours.shape, result.masks.shape)
    torch.testing.assert_close(masks.sum(1), torch.ones(3, 12, 12))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
