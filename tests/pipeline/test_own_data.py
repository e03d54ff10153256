"""From a folder of pictures to scores in the commands that a user types; and what needs masks says so."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from emorl.commands import data as data_commands
from emorl.commands import main as cli
from emorl.commands import runs as run_commands
from emorl.data import collections
from emorl.pipeline import config, identity, new_scale, runs, steps
from emorl.runtime.errors import UserError


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with the scale test alone; `emorl(...)` types into it."""
    (tmp_path / "params").mkdir()
    for name in ("test.yaml", "experiments.yaml"):
        (tmp_path / "params" / name).write_text((config.PARAMS / name).read_text())
    for module in (config, steps, collections, data_commands, run_commands):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(config, "PARAMS", tmp_path / "params")
    monkeypatch.setattr(config, "EXPERIMENTS", tmp_path / "params" / "experiments.yaml")
    monkeypatch.setattr(collections, "HASHES", tmp_path / "hashes")
    monkeypatch.setattr(identity, "CACHE", tmp_path / "probes")
    return tmp_path


@pytest.fixture
def pictures(tmp_path):
    """Forty grey pictures with a coloured square each."""
    rng = np.random.default_rng(0)
    (tmp_path / "My pictures").mkdir()
    for number in range(40):
        pixels = np.full((20, 24, 3), 90, np.uint8)
        top, left = rng.integers(0, 14, 2)
        pixels[top : top + 6, left : left + 6] = rng.integers(60, 256, 3)
        Image.fromarray(pixels).save(tmp_path / "My pictures" / f"{number}.png")
    return tmp_path / "My pictures"


@pytest.fixture
def emorl(monkeypatch, capsys):
    def call(*arguments, refused=False):
        monkeypatch.setattr(sys, "argv", ["emorl", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert bool(end.value.code) == refused, end.value.code
        return end.value.code if refused else capsys.readouterr().out

    return call


@pytest.mark.slow
def test_three_commands_from_a_folder_to_scores(project, pictures, emorl):
    printed = emorl("new-dataset", pictures, "--slots", 3, "--like", "test")
    assert "params/my_pictures.yaml: 32 train, 4 test, 4 validation pictures; the middle square of each" in printed
    which = ("--scale", "my_pictures", "--dataset", "my_pictures", "--model", "emorl", "--seed", 0)
    assert " ".join(map(str, which)).replace("emorl", "slot_attention") in printed
    emorl("train", *which)
    printed = emorl("evaluate", *which, "--pictures", project / "shown.png")
    assert "4 test images" in printed
    assert {line.split()[0] for line in printed.splitlines()[1:]} == {"mse", "nll", "kl", "kl_top", "pictures"}
    assert Image.open(project / "shown.png").width > 3 * 96
    assert "active_share" in emorl("evaluate", *which, "--what", "traversal")
    assert "no factors of the objects" in emorl("evaluate", *which, "--what", "disentanglement", refused=True)
    assert "my_pictures has no masks" in emorl("evaluate", *which, "--what", "leak", refused=True)

    (run,) = runs.select_runs(config.load_scale("my_pictures"), ["emorl"], ["my_pictures"], "base", [0])
    controls = json.loads((project / run.evaluation_path("decomposition")).read_text())["controls"]
    assert controls.keys() == {"untrained"}

    listed = emorl("data", "list", "my_pictures", "--scale", "my_pictures").splitlines()
    assert len(listed) == 40
    assert listed[0].startswith("train\t0\t")
    assert listed[0].endswith(".png")

    Image.new("RGB", (20, 20)).save(pictures / "new.png")
    (again,) = runs.select_runs(config.load_scale("my_pictures"), ["emorl"], ["my_pictures"], "base", [0])
    assert again.data.path != run.data.path
    assert again.folder != run.folder or "new.png" not in again.data.pictures.splits["train"]


def test_the_block_is_refused_where_it_cannot_be(project, pictures):
    path, settings = new_scale.new_scale("mine", str(pictures), None, "test", 16, 3, "middle square")
    assert config.load_scale("mine").datasets == {"mine": settings}
    with pytest.raises(UserError, match=r"params/mine.yaml is there already"):
        new_scale.new_scale("mine", str(pictures), None, "test", 16, 3, "middle square")
    with pytest.raises(UserError, match=r"params/cut.yaml: crop is 'foo'; must be 'middle square'"):
        new_scale.new_scale("cut", str(pictures), None, "test", 16, 3, "foo")
    with pytest.raises(UserError, match="no name that is taken"):
        new_scale.new_scale("tetrominoes", str(pictures), None, "test", 16, 3, "middle square")
    path.write_text(path.read_text().replace("source: folder", "source: replica"))
    with pytest.raises(UserError, match=r"datasets\.mine"):
        config.load_scale("mine")


def test_sub_folders_that_are_called_as_splits_are_are_the_splits(project, tmp_path):
    for folder in ("train", "test", "val"):
        (tmp_path / "set" / folder).mkdir(parents=True)
        Image.new("RGB", (16, 16)).save(tmp_path / "set" / folder / "a.png")
    _, settings = new_scale.new_scale("mine", str(tmp_path / "set"), None, "test", 16, 3, "middle square")
    assert (settings.train, settings.test, settings.validation) == ("train", "test", "val")


def test_a_batch_larger_than_the_data_is_a_sentence(project, pictures, emorl):
    for number in range(5, 40):
        (pictures / f"{number}.png").unlink()
    emorl("new-dataset", pictures, "--name", "few", "--like", "test", "--image-size", 16)
    message = emorl("train", "--scale", "few", "--dataset", "few", "--model", "emorl", "--seed", 0, refused=True)
    assert "few has 3 pictures for training, fewer than batch_size 8" in message
