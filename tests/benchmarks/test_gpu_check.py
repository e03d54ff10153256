"""The scripts for a GPU that is there for minutes, on a CPU: what asks it everything, and what trains runs."""

import gzip
import itertools
import os
import subprocess
import sys
import tarfile
from types import SimpleNamespace

import pytest
import torch

from emorl.runtime.files import ROOT


@pytest.fixture(scope="module")
def gpu(tmp_path_factory):
    """The script's parts at tiny sizes, whatever this machine has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINY", "1")
        patch.setenv("WORK", str(tmp_path_factory.mktemp("work")))
        patch.syspath_prepend(ROOT / "tests" / "models")
        from benchmarks.gpu import checks, data, times, train

        yield SimpleNamespace(checks=checks, data=data, times=times, train=train)


def kinds(output):
    """First words of the lines, without the times that checks took."""
    return [line.split()[0] for line in output.splitlines() if not line.startswith("    (")]


@pytest.mark.parametrize(
    ("check", "arguments", "lines"),
    [
        ("float32_products", (), 3),
        ("golden", ("small_gaussian_geco_I3", torch.float32), 1),
        pytest.param("golden", ("small_gaussian_geco_I3", torch.bfloat16), 1, marks=pytest.mark.slow),
        pytest.param("recorded_steps", ("slot_attention", "tetrominoes"), 2, marks=pytest.mark.slow),
        ("gradients", ("iodine", "tetrominoes"), 1),
        pytest.param("resume", (), 1, marks=pytest.mark.slow),
    ],
)
def test_checks_pass(gpu, capsys, check, arguments, lines):
    gpu.checks.guarded(getattr(gpu.checks, check), *arguments)
    assert kinds(capsys.readouterr().out) == ["PASS"] * lines


@pytest.mark.slow
def test_a_step_that_differs_when_recorded_fails(gpu, capsys, monkeypatch):
    class Wrong:
        def __init__(self, generator):
            pass

        def run(self, work):
            return work()

        def record(self, work):
            return lambda: {name: 1.001 * value for name, value in work().items()}

    monkeypatch.setattr("benchmarks.gpu.common.RECORDER", Wrong)
    gpu.checks.guarded(gpu.checks.recorded_steps, "slot_attention", "tetrominoes")
    assert kinds(capsys.readouterr().out) == ["FAIL", "PASS"]  # bfloat16 may be so far apart


def test_what_a_check_raises_is_its_failure(gpu, capsys):
    def broken():
        raise RuntimeError("no such kernel")

    gpu.checks.guarded(broken)
    assert "FAIL broken: RuntimeError: no such kernel" in capsys.readouterr().out


@pytest.mark.slow
def test_a_step_is_timed(gpu, capsys):
    setting = gpu.times.SETTINGS[0]
    flops = gpu.times.operations_of(setting)
    (row,) = gpu.times.time_of_step(setting, gpu.times.DEFAULT, torch.bfloat16, flops, recorded=True)
    assert 0 < row.lowest_ms <= row.ms
    assert row.tflops == pytest.approx(flops / row.ms / 1e9)
    gpu.times.convolution(*gpu.times.CONVOLUTIONS[0])
    assert kinds(capsys.readouterr().out) == ["NOTE", "TIME", "TIME", "TIME"]


@pytest.mark.slow
def test_a_training_leaves_its_scores_and_checkpoint(gpu, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu.train, "OUT", tmp_path)
    monkeypatch.setattr(gpu.train, "left", lambda: gpu.train.EVALUATION + 1)  # a second of training
    gpu.data.main()
    gpu.train.main()
    output = capsys.readouterr().out
    assert "fg_ari=" in output
    assert "FAIL" not in output
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.pt", "metrics.jsonl"}


@pytest.mark.drill
def test_runs_come_back_from_a_lent_machine(tmp_path):
    """It is lent the last commit and prepared data. One run ends, one is stopped, one has no such data set."""
    repository, clone, data = tmp_path / "repository", tmp_path / "clone", tmp_path / "data"
    git = ["git", "clone", "-q", "--depth", "1", f"file://{ROOT}"]
    subprocess.run([*git, "--bare", str(repository)], check=True)
    subprocess.run([*git, str(clone)], check=True)
    data.mkdir()
    for step, scale in itertools.product(("fetch", "prepare"), ("test", "small")):
        command = [sys.executable, "-m", "emorl", step, "--scale", scale, "--dataset", "tetrominoes"]
        subprocess.run(command, cwd=clone, check=True)
    for prepared in (clone / "data" / "prepared").glob("*.h5"):
        (data / f"{prepared.name}.gz").write_bytes(gzip.compress(prepared.read_bytes(), 1))

    def trained(runs: list[str], budget: int) -> subprocess.CompletedProcess[str]:
        settings = {"REPOSITORY": repository, "DATA": data, "BUDGET": budget, "OUT": "out", "PYTHON": sys.executable}
        environment = os.environ | {name: str(value) for name, value in settings.items()}
        script = ["bash", str(ROOT / "benchmarks" / "gpu" / "train_runs.sh")]
        lines = "".join(f"{run}\n" for run in runs)
        return subprocess.run(script, input=lines, env=environment, cwd=tmp_path, text=True, stdout=subprocess.PIPE)

    done = trained(["test tetrominoes slot_mlp base 1", "small tetrominoes slot_mlp base 1"], budget=60)
    assert done.returncode == 0, done.stdout
    with tarfile.open(tmp_path / "out" / "tetrominoes.tgz") as archive:
        names = archive.getnames()
    assert len([name for name in names if name.endswith("/checkpoint.pt")]) == 2
    assert len([name for name in names if name.endswith("manifest.json")]) == 1  # the long one has none yet
    assert "logs/tetrominoes/small-slot_mlp-base-1.log" in names
    assert trained(["test tetromino emorl base 0"], budget=60).returncode == 1
    assert (tmp_path / "out" / "tetromino.tgz").exists()
