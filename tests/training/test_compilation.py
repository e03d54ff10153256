"""Compiled runs: the same gradients up to rounding, exact resume, and a way back when compiling fails."""

import shutil

import pytest
import torch
from test_every_model import difference, job, stop_after, weights

from emorl.training import compilation, engine
from emorl.training.manifest import Manifest


def compiling(setting, prepared, folder):
    made, _ = job("emorl", prepared, folder)
    object.__setattr__(made, "training", made.training.model_copy(update={"compile": setting}))
    return made


def run(made):
    return engine.train(made, lambda progress: None)


@pytest.mark.drill
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for a CPU needs g++")
def test_a_compiled_run_is_close_to_an_eager_one_and_resumes_exactly(prepared, tmp_path):
    whole, stopped, eager = (
        compiling(setting, prepared, tmp_path / name)
        for name, setting in {"whole": "always", "stopped": "always", "eager": "never"}.items()
    )
    assert run(whole).compiled
    assert not run(eager).compiled
    stop_after(stopped, 2)
    assert run(stopped).resumed_at == [2]
    expected = weights(whole.folder)
    assert all(torch.equal(expected[key], found) for key, found in weights(stopped.folder).items())
    assert difference(whole, whole.folder, eager.folder) < 0.01


@pytest.fixture
def broken(monkeypatch):
    def compile_parts(model):
        raise RuntimeError("\nno working compiler found\nand more")

    monkeypatch.setattr(compilation, "compile_parts", compile_parts)
    monkeypatch.setattr(compilation, "WORTHWHILE_STEPS", 4)


def test_auto_goes_on_without_compiling_after_one_line_of_warning(broken, prepared, tmp_path, capsys):
    made = compiling("auto", prepared, tmp_path / "run")
    run(made)
    assert capsys.readouterr().err == "warning: training goes on without compiling: no working compiler found\n"
    manifest = Manifest.read(made.folder / Manifest.FILE)
    assert (manifest.status, manifest.compiled) == ("finished", False)


def test_always_does_not_go_on(broken, prepared, tmp_path):
    with pytest.raises(RuntimeError, match="no working compiler"):
        run(compiling("always", prepared, tmp_path / "run"))


def test_a_short_run_is_not_compiled(broken, prepared, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compilation, "WORTHWHILE_STEPS", 5)
    assert not run(compiling("auto", prepared, tmp_path / "run")).compiled
    assert capsys.readouterr().err == ""
