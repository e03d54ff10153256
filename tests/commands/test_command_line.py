"""The command line's manners: one sentence and a non-zero status, no traceback, nothing written."""

import shutil
import subprocess
import sys

import pytest

from emorl.commands.main import main
from emorl.runtime.files import ROOT


def emorl(*arguments):
    return subprocess.run([sys.executable, "-m", "emorl", *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "sentence"), [
    (("train", "--scale", "big", "--dataset", "tetrominoes", "--model", "emorl", "--seed", "0"), "no scale 'big'"),
    (("evaluate", "--scale", "test", "--dataset", "tetrominoes", "--model", "emorl", "--seed", "987"),
     "has no manifest.json: it has not been trained to its end"),
    (("prepare", "--scale", "test", "--dataset", "tetrominoes", "--expect", "data/prepared/other.h5"),
     "code or params/ have changed since"),
])  # fmt: skip
def test_errors_are_one_sentence(arguments, sentence):
    result = emorl(*arguments)
    assert result.returncode != 0
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_code_of_one_checkout_does_not_run_in_another(tmp_path, monkeypatch):
    (tmp_path / "other" / "emorl").mkdir(parents=True)
    (tmp_path / "other" / "docs").mkdir()
    shutil.copy(ROOT / "emorl" / "__main__.py", tmp_path / "other" / "emorl")
    monkeypatch.setattr(sys, "argv", ["emorl", "models"])
    for place in ("other", "other/docs"):
        monkeypatch.chdir(tmp_path / place)
        with pytest.raises(SystemExit) as end:
            main()
        assert f"error: this is the emorl of {ROOT}, and {tmp_path}/other is another checkout" in end.value.code
    for place in (tmp_path, ROOT, ROOT / "docs"):
        monkeypatch.chdir(place)
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code


@pytest.mark.parametrize(("arguments", "sentence"), [
    (("plan", "table1", "--budget-hours", "nan"), "be greater than or equal to"),
    (("plan", "table1", "--price", "inf"), "inf is no finite number"),
    (("archive", "--licence", "not a licence"), "'not a licence' is no SPDX identifier"),
])  # fmt: skip
def test_values_that_mean_nothing_are_refused_before_anything_is_done(arguments, sentence, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["emorl", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert sentence in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_check_prints_warnings():
    result = emorl("check", "--scale", "paper")
    assert result.returncode == 0
    assert "floor" in result.stdout
    assert "params/paper.yaml and params/experiments.yaml are valid" in result.stdout
