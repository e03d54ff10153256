"""Films: each frame is the scene decoded anew with one number changed, and they loop."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from emorl.runtime.errors import UserError
from emorl.use import traversal
from emorl.use.trained import load


@pytest.fixture(scope="module")
def model(model_file):
    return load(model_file, device="cpu")


@pytest.fixture(scope="module")
def films(model, scenes):
    return model.traverse(scenes[0], slots=[2, 0], dimensions=[3, 1], span=(-1.5, 2.5), frames=8)


numbers = st.floats(-10, 10, allow_subnormal=False)


@given(numbers, numbers, numbers, st.integers(2, 40))
def test_values_start_where_the_dimension_is_and_loop_within_the_range(start, low, length, frames):
    high = low + abs(length)
    values = traversal.looping(start, low, high, frames)
    assert values[0] == pytest.approx(np.clip(start, low, high), abs=1e-6)
    assert (values >= low - 1e-9).all()
    assert (values <= high + 1e-9).all()
    steps = np.abs(np.diff([*values, values[0]]))  # the last frame is as near the first as any two
    assert steps.max() <= np.pi * (high - low) / frames + 1e-9


def test_a_period_goes_to_both_ends():
    values = traversal.looping(0.0, -1.0, 3.0, 400)
    assert (values.min(), values.max()) == (pytest.approx(-1, abs=1e-3), pytest.approx(3, abs=1e-3))


def test_frames_are_scenes_with_one_number_changed(model, films, scenes):
    codes = model.segment(scenes[0]).latents[0]
    assert films.scenes.shape == (2, 2, 8, 3, 12, 12)
    for n, slot in enumerate([2, 0]):
        for m, dimension in enumerate([3, 1]):
            for t in range(8):
                changed = codes.clone()
                changed[slot, dimension] = films.values[n, m, t]
                reconstructions, masks = model.model.decode(changed[None])
                expected = 255 * (reconstructions[0] * masks[0][:, None]).sum(0)
                assert np.abs(films.scenes[n, m, t] - expected.numpy()).max() <= 0.51


def test_slots_alone(model, films, scenes):
    found = model.segment(scenes[0])
    reconstructions, masks = model.model.decode(found.latents)
    for picture, slot in zip(films.pictures, [2, 0], strict=True):
        assert np.abs(picture - 255 * (reconstructions[0, slot] * masks[0, slot]).numpy()).max() <= 0.51


def test_the_most_active_dimensions_come_first(model, scenes):
    found = model.traverse(scenes[0], frames=4)
    codes = model.segment(scenes[0]).latents[0]
    least, largest = codes.amin(0), codes.amax(0)
    activeness = []
    for dimension in range(codes.shape[1]):
        middle, half = (least + largest)[dimension] / 2, (largest - least)[dimension] / 2
        variances = []
        for slot in range(4):
            scenes_of = []
            for share in (-2, -1, 0, 1, 2):
                changed = codes.clone()
                changed[slot, dimension] = middle + share * half
                reconstructions, masks = model.model.decode(changed[None])
                scenes_of.append((reconstructions * masks[:, :, None]).sum(1)[0])
            variances.append(torch.stack(scenes_of).var(0).mean().item())
        activeness.append(np.mean(variances))
    np.testing.assert_allclose(found.activeness, activeness, rtol=1e-3)
    assert found.dimensions == np.argsort(activeness)[::-1][:4].tolist()
    assert found.slots == [0, 1, 2, 3]
    assert found.scenes.shape == (4, 4, 4, 3, 12, 12)


def test_without_a_range_of_ones_own_values_reach_beyond_the_slots(model, scenes):
    codes = model.segment(scenes[0]).latents[0].numpy()
    values = model.traverse(scenes[0], dimensions=[1], frames=64).values
    low, high = codes[:, 1].min(), codes[:, 1].max()
    assert values.min() == pytest.approx(low - (high - low) / 2, abs=1e-2)
    assert values.max() == pytest.approx(high + (high - low) / 2, abs=1e-2)


@pytest.mark.parametrize(("options", "sentence"), [
    ({"slots": [4]}, "slot 4: there is none; slots are 0 to 3"),
    ({"dimensions": [-1]}, "dimension -1: there is none; dimensions are 0 to"),
    ({"span": (1.0, 1.0)}, "the range from 1 to 1 is empty"),
    ({"span": (-math.inf, 1.0)}, "the range from -inf to 1 is infinite"),
])  # fmt: skip
def test_what_there_is_not(options, sentence, model, scenes):
    with pytest.raises(UserError, match=sentence):
        model.traverse(scenes[0], **options)


def test_gifs_loop_for_ever_and_show_the_frames(films, tmp_path):
    paths = films.save(tmp_path / "films")
    names = ["traversal", "slot-2-dim-3", "slot-2-dim-1", "slot-0-dim-3", "slot-0-dim-1"]
    assert [path.name for path in paths] == [f"{name}.gif" for name in names]
    assert sorted(paths) == sorted((tmp_path / "films").iterdir())
    for path in paths:
        with Image.open(path) as gif:
            assert gif.n_frames == 8
            assert gif.info["loop"] == 0
            assert gif.info["duration"] == 60
    with Image.open(paths[1]) as gif:
        for t in (0, 3, 7):
            gif.seek(t)
            shown = np.asarray(gif.convert("RGB"))[18:, 6:][:96:8, :96:8]  # below the title, a pixel of each square
            apart = np.abs(shown - films.scenes[0, 0, t].transpose(1, 2, 0).astype(float))
            assert apart.max() <= 16  # a palette has 256 colours
            assert apart.mean() <= 3
