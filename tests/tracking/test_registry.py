"""The checkpoints behind the cells of tables: which one, under which alias, once."""

import math
from pathlib import Path

import mlflow
import pytest
import torch
from folders import evaluate, find_run, finish, make_run, uri_of

from emorl.files import sha256_of_file, write_json
from emorl.tracking.store import MlflowClient
from emorl.tracking.sync import sync, sync_report
from emorl.training.checkpoints import load_checkpoint, save_checkpoint

MODEL = "emorl-tetrominoes-test"


@pytest.fixture
def report(root):
    """Three seeds, the last of which failed, and a plan; `write(scores)` makes its Table 1."""
    run_dirs = [make_run(root, seed=seed) for seed in range(3)]
    for run_dir in run_dirs:
        save_checkpoint(run_dir / "checkpoint.pt", {"digest": "0a1b", "weights": torch.arange(3)})
        finish(run_dir, "failed" if run_dir is run_dirs[2] else "finished")
        evaluate(run_dir, ari=0.5)
    plan = root / "reports" / "test" / "plan.json"

    def write(scores, variant="base", made=True):
        runs = [{"seed": seed, "folder": str(run_dir.relative_to(root))} for seed, run_dir in enumerate(run_dirs)]
        write_json(plan, {"artifacts": {"table1": {"draw": "table", "digest": "77", "series": [{"runs": runs}]}}})
        cells = [{"metric": "ari", "seeds": {str(seed): score for seed, score in scores.items()}}]
        row = {"dataset": "tetrominoes", "model": "emorl", "variant": variant, "cells": cells}
        columns = {"ari": {"title": "ARI x 100"}}
        write_json(plan.parent / "table1.json", {"scale": "test", "columns": columns, "rows": [row]})
        (plan.parent / ".table1-77").touch()
        if not made:
            (plan.parent / ".table1-77").unlink()
        return plan

    assert sync(run_dirs, root) == []
    return run_dirs, write


def test_the_best_seed_of_a_cell_is_registered_once_under_its_alias(root, report):
    run_dirs, write = report
    client = MlflowClient(uri_of(root))
    for _ in range(2):
        assert sync_report(write({0: 71.25, 1: 86.0}), root)
        (version,) = client.search_model_versions(f"name = '{MODEL}'")
    version = client.get_model_version_by_alias(MODEL, "table1")
    assert version.run_id == find_run(root, run_dirs[1]).info.run_id
    assert version.tags == {
        **{"seed": "1", "variant": "base", "digest": "0a1b", "table1": "ARI x 100 86, best of 2 seeds"},
        "checkpoint_sha256": sha256_of_file(run_dirs[1] / "checkpoint.pt"),
    }

    assert sync_report(write({0: 90.0, 1: 86.0}), root)  # another seed is the best now
    assert client.get_model_version_by_alias(MODEL, "table1").tags["seed"] == "0"
    assert sync_report(write({0: math.nan, 1: 86.0}, variant="no_geco"), root)
    version = client.get_model_version_by_alias(MODEL, "table1-no_geco")
    assert (version.version, version.tags["seed"]) == (1, "1")
    assert len(client.search_model_versions(f"name = '{MODEL}'")) == 2


def test_a_registered_checkpoint_comes_back_as_it_was(root, report, tmp_path, monkeypatch):
    run_dirs, write = report
    assert sync_report(write({0: 71.2}), root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri_of(root))
    folder = mlflow.artifacts.download_artifacts(f"models:/{MODEL}@table1", dst_path=str(tmp_path / "back"))
    state = load_checkpoint(Path(folder) / "checkpoint.pt", "0a1b")
    assert state["weights"].tolist() == [0, 1, 2]
    assert sha256_of_file(run_dirs[0] / "manifest.json") == sha256_of_file(tmp_path / "back/manifest.json")


def test_only_tables_that_are_made_and_cells_with_scores_have_checkpoints(root, report):
    _, write = report
    assert sync_report(write({0: 71.2}, made=False), root)
    assert sync_report(write({}), root)  # every seed failed
    assert MlflowClient(uri_of(root)).search_registered_models() == []
