"""The checkpoints behind the cells of tables: which one, under which alias, once."""

import math
from pathlib import Path

import mlflow
import pytest
import torch
from folders import evaluate, find_run, finish, make_run, uri_of

from emorl.pipeline.records import (
    Artifact,
    Cell,
    Column,
    PlannedArtifact,
    Row,
    Series,
    ShownRun,
    Table,
)
from emorl.runtime.files import sha256_of_file
from emorl.tracking.store import MlflowClient
from emorl.tracking.sync import sync, sync_report
from emorl.training.checkpoints import load_checkpoint, save_checkpoint

MODEL = "emorl-tetrominoes-test"


@pytest.fixture
def report(root):
    """Three seeds, the last of which failed; `write(scores)` makes their Table 1."""
    run_dirs = [make_run(root, seed=seed) for seed in range(3)]
    for run_dir in run_dirs:
        save_checkpoint(run_dir / "checkpoint.pt", {"digest": "0a1b", "weights": torch.arange(3)})
        finish(run_dir, "failed" if run_dir is run_dirs[2] else "finished")
        evaluate(run_dir, fg_ari=0.5)

    def write(scores, variant="base", made=True):
        folders = [str(run_dir.relative_to(root)) for run_dir in run_dirs]
        runs = [
            ShownRun(seed=seed, folder=folder, file=f"{folder}/evaluation.json", arrays=None)
            for seed, folder in enumerate(folders)
        ]
        named = {"dataset": "tetrominoes", "dataset_title": "", "source": "replica", "split": "test"}
        named |= {"model": "emorl", "variant": variant, "label": ""}
        summary = {"n": len(scores), "mean": None, "std": None, "low": None, "high": None, "paper": []}
        row = Row(
            **named,
            cells=[Cell(metric="fg_ari", seeds=scores, **summary)],
            controls={},
            untrained=None,
            train_images=None,
            images_scored=None,
            started=3,
            finished=2,
            failed=[2],
        )
        about = {"title": "Table 1", "caption": "", "scale": "test", "purpose": "test"}
        columns = {"fg_ari": Column(title="ARI x 100", factor=100.0, digits=1)}
        series = Series(**named, model_title="", at=None, evaluation="decomposition", runs=runs)
        shows = PlannedArtifact(
            **about, draw="table", metrics=["fg_ari"], images=None, needs_runs=True, series=[series], benchmark=None
        )
        Artifact(
            name="table1",
            shows=shows,
            inputs={} if made else {"runs/gone.json": "0"},
            made_by="",
            table=Table(**about, columns=columns, rows=[row], notes=[]),
        ).write(root / "reports" / "test" / "table1.json")
        return "test"

    assert sync(run_dirs, root) == {}
    return run_dirs, write


def test_the_best_seed_of_a_cell_is_registered_once_under_its_alias(root, report):
    run_dirs, write = report
    client = MlflowClient(uri_of(root))
    for _ in range(2):
        assert not sync_report(write({0: 71.25, 1: 86.0}), root)
        (version,) = client.search_model_versions(f"name = '{MODEL}'")
    version = client.get_model_version_by_alias(MODEL, "table1")
    assert version.run_id == find_run(root, run_dirs[1]).info.run_id
    assert version.tags == {
        **{"seed": "1", "variant": "base", "digest": "0a1b", "table1": "ARI x 100 86, best of 2 seeds"},
        "checkpoint_sha256": sha256_of_file(run_dirs[1] / "checkpoint.pt"),
    }

    assert not sync_report(write({0: 90.0, 1: 86.0}), root)  # another seed is the best now
    assert client.get_model_version_by_alias(MODEL, "table1").tags["seed"] == "0"
    assert not sync_report(write({0: math.nan, 1: 86.0}, variant="no_geco"), root)
    version = client.get_model_version_by_alias(MODEL, "table1-no_geco")
    assert (version.version, version.tags["seed"]) == (1, "1")
    assert len(client.search_model_versions(f"name = '{MODEL}'")) == 2


def test_a_registered_checkpoint_comes_back_as_it_was(root, report, tmp_path, monkeypatch):
    run_dirs, write = report
    assert not sync_report(write({0: 71.2}), root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri_of(root))
    folder = mlflow.artifacts.download_artifacts(f"models:/{MODEL}@table1", dst_path=str(tmp_path / "back"))
    state = load_checkpoint(Path(folder) / "checkpoint.pt", "0a1b")
    assert state["weights"].tolist() == [0, 1, 2]
    assert sha256_of_file(run_dirs[0] / "manifest.json") == sha256_of_file(tmp_path / "back/manifest.json")


def test_only_tables_that_are_made_and_cells_with_scores_have_checkpoints(root, report):
    _, write = report
    assert not sync_report(write({0: 71.2}, made=False), root)
    assert not sync_report(write({}), root)  # every seed failed
    assert MlflowClient(uri_of(root)).search_registered_models() == []
