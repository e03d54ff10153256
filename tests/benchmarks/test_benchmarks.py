"""Benchmarks measure what training does, and what Figure 10's says of the systems beside their speed."""

import csv
import sys

import pytest
import torch

from benchmarks import figure10, harness, levers, precision
from benchmarks.figure10 import parameters_of
from emorl.models.parts.precision import set_float32_precision


@pytest.mark.parametrize(
    ("system", "parameters"),
    [
        ("EfficientMORL I=0", 666_502),
        ("EfficientMORL I=3", 666_502),
        ("EfficientMORL I=3 E-X-S", 1_031_110),
        ("IODINE", 2_757_264),  # "approximately 2.75M", App. E.3
        ("IODINE, reference", 1_178_192),
    ],
)
def test_parameters_are_those_of_the_system_in_question(system, parameters):
    assert parameters_of(system) == parameters


@pytest.fixture(autouse=True)
def precision_before():
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = False, True  # PyTorch's own
    torch.backends.cudnn.benchmark = False


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs a benchmark as its command does, and reads the CSV that it leaves."""

    def run_benchmark(module, *options):
        out = tmp_path / "out.csv"
        monkeypatch.setattr(sys, "argv", ["benchmark", "--repetitions", "1", "--out", str(out), *options])
        module.main()
        with open(out) as file:
            return list(csv.DictReader(file))

    return run_benchmark


def test_cases_of_several_precisions_each_have_training_s_own(run, monkeypatch):
    """On a GPU, float32 products are IEEE's beside float32, and TF32 beside bfloat16: as the engine sets them."""
    seen = {}

    def noted(model, images):
        def step():
            seen.setdefault(model.decoder.dtype, set()).add(torch.backends.cuda.matmul.allow_tf32)

        return step

    cases = {name: levers.Case(noted, dtype=case.dtype) for name, case in levers.TRAINING.items()}
    monkeypatch.setattr(levers, "TRAINING", cases)
    set_float32_precision(exact=True)
    run(levers, "--dataset", "tetrominoes", "--batch", "1")
    assert seen == {torch.float32: {False}, torch.bfloat16: {True}}


class Replaying:
    """Replays without allocating anything, as a CUDA graph does."""

    def __init__(self, generator):
        pass

    def run(self, work):
        return work()

    def record(self, work):
        scalars = work()
        return lambda: scalars


def test_the_memory_of_a_recorded_step_is_seen(run, monkeypatch):
    """And the default of a long run on a GPU is among the cases."""
    assert levers.RECORDED["+ CUDA graph, compiled, bfloat16 (default)"].dtype is torch.bfloat16
    monkeypatch.setattr(levers, "CudaGraphs", Replaying)
    monkeypatch.setattr(levers, "TRAINING", {levers.REFERENCE: levers.TRAINING[levers.REFERENCE]} | levers.RECORDED)
    cases = ("--cases", levers.REFERENCE, "+ CUDA graph")
    rows = run(levers, "--dataset", "tetrominoes", "--batch", "1", *cases)
    plain, recorded = (float(row["peak_mb"]) for row in rows)
    assert recorded > plain
    assert float(rows[1]["median_s"]) < float(rows[0]["median_s"]) / 10  # what is timed is the replay


def test_figure_10_says_what_it_was_measured_on(run):
    (row,) = run(figure10, "--systems", "Slot Attention", "--sizes", "16", "--batch", "1")
    assert row["torch"] == torch.__version__
    assert row["git_dirty"] in ("True", "False")
    assert float(row["training_s"]) > float(row["forward_s"]) > 0


def test_precisions_are_compared_on_the_scales_own_runs(run, monkeypatch, prepared):
    from emorl.pipeline import runs

    monkeypatch.setattr(runs.PreparedData, "path", property(lambda data: prepared))
    rows = run(precision, "--scale", "test", "--seeds", "0", "--steps", "2")
    assert [row["precision"] for row in rows] == ["float32", "bfloat16"]
    assert rows[0]["loss"] != rows[1]["loss"]


def test_the_product_that_stands_for_the_peak_fills_a_gpu():
    from benchmarks import peak

    assert peak.SIDES["cuda"] >= 8192
    assert peak.SIDES["cpu"] < 4096  # seconds, on two cores


def test_operations_are_counted():
    with harness.OperationCount() as count:
        torch.ones(2, 3) @ torch.ones(3, 4)
    assert count.operations == 2 * 2 * 3 * 4
