"""The code in docs/using.md runs as it stands there."""

import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from emorl.runtime.files import ROOT

PAGE = (ROOT / "docs" / "using.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(run_folder, scenes, tmp_path):
    """A folder with a run and two pictures of the names that the page uses."""
    run = run_folder("slot_attention")
    shutil.copytree(run, tmp_path / "runs" / run.relative_to(run.parents[3]))
    Image.fromarray(scenes[0]).save(tmp_path / "scene.png")
    Image.fromarray(np.tile(scenes[1], (3, 4, 1))).save(tmp_path / "photo.jpg")
    return tmp_path


@pytest.mark.slow
def test_the_page(folder):
    """In the page's order: what the commands write, the Python code reads."""
    commands = f'emorl() {{ "{sys.executable}" -m emorl "$@"; }}\npython() {{ "{sys.executable}" "$@"; }}\n'
    script = "set -eu\n" + commands + "\n".join(blocks("sh"))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(["sh", "-c", script], cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert (folder / "segments" / "photo" / "overview.png").is_file()
    assert (folder / "traversals" / "scene" / "traversal.gif").is_file()
    assert {path.name for path in (folder / "films" / "scene").iterdir()} == {
        "traversal.gif", "slot-0-dim-2.gif", "slot-0-dim-5.gif"
    }  # fmt: skip

    shutil.rmtree(folder / "films")
    code = "\n".join(blocks("python"))
    result = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    masks, _, scenes = result.stdout.splitlines()
    assert masks == "torch.Size([2, 4, 12, 12])"
    assert scenes.startswith("(1, 2, ")
    assert (folder / "films" / "scene" / "traversal.gif").is_file()


def test_every_file_that_is_written_is_explained(folder):
    for name in ("overview.png", "labels.png", "mask-K.png", "slot-K.png", "image.png", "decomposition.npz"):
        assert f"`{name}`" in PAGE
