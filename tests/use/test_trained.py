"""What `segment` gives is what the model's own `decompose` gives, and a matter of picture and seed alone."""

import subprocess
import sys
from dataclasses import fields

import pytest
import torch
from PIL import Image

import emorl as package
from emorl.models import Decomposition, model_names
from emorl.pipeline import config, runs
from emorl.runtime.errors import UserError
from emorl.runtime.files import ROOT
from emorl.training.checkpoints import load_checkpoint
from emorl.training.engine import build_model


def by_hand(name, folder, pixels, seed):
    """The decomposition of one picture (H, W, 3) uint8 by a model built from params/ and the run's weights."""
    (run,) = runs.select_runs(config.load_scale("test"), [name], ["tetrominoes"], "base", [0])
    model = build_model(name, run.settings.model, 12, torch.float32, 0)
    model.load_state_dict(load_checkpoint(folder / "checkpoint.pt", run.digest)["model"])
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    return model.decompose(image, run.settings.inference, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", model_names())
def test_segment_is_the_models_own_decomposition(name, run_folder, scenes):
    folder = run_folder(name)
    found = package.load(folder / "checkpoint.pt", device="cpu").segment(list(scenes[:3]), seed=5)
    assert found.masks.shape == (3, 4, 12, 12)
    torch.testing.assert_close(found.masks.sum(1), torch.ones(3, 12, 12))
    for n in range(3):
        expected = by_hand(name, folder, scenes[n], seed=5)
        for field in (field.name for field in fields(Decomposition) if field.name != "scalars"):
            one, other = getattr(found, field), getattr(expected, field)
            assert (one is None) == (other is None)
            assert one is None or torch.equal(one[n], other[0])
        assert all(torch.equal(found.scalars[key][n], value[0]) for key, value in expected.scalars.items())


def test_one_picture_or_several_of_any_kind(model_file, scenes, scene_file):
    model = package.load(model_file)
    one = model.segment(scene_file)
    assert one.masks.shape == (1, 4, 12, 12)
    several = model.segment([scenes[1], str(scene_file), Image.open(scene_file)])
    assert torch.equal(several.masks[1], one.masks[0])
    assert torch.equal(several.masks[2], one.masks[0])


def test_no_picture_is_a_sentence(model_file):
    for nothing in ([], None, torch.zeros(1, 3, 8, 8)):
        with pytest.raises(UserError, match="no picture"):
            package.load(model_file).segment(nothing)


def test_the_seed_decides(model_file, scene_file):
    model = package.load(model_file)
    assert torch.equal(model.segment(scene_file).latents, model.segment(scene_file, seed=0).latents)
    assert not torch.equal(model.segment(scene_file).latents, model.segment(scene_file, seed=1).latents)


def test_importing_the_package_is_light():
    code = "import sys, emorl; emorl.load; print([name for name in sys.modules if name in ('torch', 'numpy', 'PIL')])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
