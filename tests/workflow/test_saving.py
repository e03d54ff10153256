"""`make save`: what is saved is what is there, or a sentence says what is not."""

import importlib.util
import os
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[2] / "workflow/scripts/save.py"
NOTE = "outs:\n- {{md5: 0.dir, size: {size}, nfiles: {files}, hash: md5, path: runs}}\n"


@pytest.fixture
def save(tmp_path, monkeypatch):
    """save(files, size): the script's last words where DVC saves so many of the 2 files and 7 bytes in runs/."""
    spec = importlib.util.spec_from_file_location("save", FILE)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.chdir(tmp_path)
    Path("runs/tetrominoes").mkdir(parents=True)
    Path("runs/tetrominoes/a").write_text("four")
    Path("elsewhere").write_text("xyz")
    os.symlink("../../elsewhere", "runs/tetrominoes/b")  # links to files are followed
    Path("runs/tetrominoes/.training.lock").write_text("process 1")
    said = []

    def call(files=2, size=7):
        def run(command, check):
            said.append(command)
            if command[0] == "dvc":
                Path("runs.dvc").write_text(NOTE.format(files=files, size=size))

        monkeypatch.setattr(script.subprocess, "run", run)
        monkeypatch.setattr("sys.argv", ["save.py", "runs"])
        try:
            script.main()
        except SystemExit as end:
            return end.code
        return said

    return call


def test_what_is_there_is_saved(save):
    assert save() == [["dvc", "add", "runs"], ["git", "add", "runs.dvc"]]


@pytest.mark.parametrize("place", ["runs", "runs/tetrominoes", "runs/tetrominoes/evaluation"])
def test_a_link_to_a_folder_is_named(save, place, tmp_path):
    if Path(place).exists():
        Path(place).rename("moved")
    else:
        Path("moved").mkdir()
    os.symlink(tmp_path / "moved", place)
    assert save().startswith(f"error: {place} is a link to a folder, behind which DVC saves nothing")
    assert not Path("runs.dvc").exists()


@pytest.mark.parametrize(("files", "size"), [(1, 7), (2, 4)])
def test_what_was_not_saved_is_noticed(save, files, size):
    assert save(files, size).startswith(f"error: runs has 2 files of 7 bytes, but {files} of {size} were saved")


def test_nothing_is_a_sentence(save):
    Path("runs").rename("moved")
    assert save() == "error: runs is not there: nothing has been made that could be saved"
