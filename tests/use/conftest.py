"""Tiny runs in their folders, as training leaves them, and their pictures as files."""

import shutil
import sys
from functools import cache

import pytest
from PIL import Image

from emorl.commands import main as cli
from emorl.data.store import load_split
from emorl.pipeline import config, runs, steps
from emorl.pipeline.portable import export
from emorl.training import engine


@pytest.fixture(scope="session")
def run_folder(prepared, tmp_path_factory):
    """run_folder(model): the folder of a finished run at scale test. Not to be changed."""
    root = tmp_path_factory.mktemp("project")

    @cache
    def train(model):
        (run,) = runs.select_runs(config.load_scale("test"), [model], ["tetrominoes"], "base", [0])
        (root / run.data.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(prepared, root / run.data.path)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(steps, "ROOT", root)
            engine.train(steps.training_job(run), lambda progress: None)
        return root / run.folder

    return train


@pytest.fixture
def own_folder(run_folder, tmp_path):
    """A copy of a run's folder to do with as one likes."""
    return shutil.copytree(run_folder("slot_attention"), tmp_path / "run")


@pytest.fixture(scope="session")
def model_file(run_folder, tmp_path_factory):
    """A portable checkpoint: EfficientMORL, which has test-time settings, 4 slots, 12-pixel images."""
    path = tmp_path_factory.mktemp("portable") / "model.pt"
    export(run_folder("emorl"), path)
    return path


@pytest.fixture(scope="session")
def scenes(prepared):
    """(N, 12, 12, 3) uint8."""
    return load_split(prepared, "test").images


@pytest.fixture
def scene_file(scenes, tmp_path):
    path = tmp_path / "scene.png"
    Image.fromarray(scenes[0]).save(path)
    return path


@pytest.fixture
def emorl(monkeypatch, capsys):
    """emorl(*arguments): what the command line prints on standard output; with `refused`, its last words instead."""

    def call(*arguments, refused=False):
        monkeypatch.setattr(sys, "argv", ["emorl", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert bool(end.value.code) == refused, end.value.code
        output = capsys.readouterr().out
        return end.value.code if refused else output

    return call
