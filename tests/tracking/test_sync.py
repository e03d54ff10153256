"""What is brought in afterwards: a lost store, scores, mean and spread over seeds, reports, pages."""

import contextlib
import math
import os
import re
import shutil
import socket
import sqlite3
import statistics
import sys
import time
from pathlib import Path

import pytest
from folders import (
    all_runs,
    append,
    contents,
    evaluate,
    file_points,
    find_parent,
    find_run,
    finish,
    lines_from,
    make_run,
    sample,
    stored_points,
    uri_of,
)

import emorl
from emorl.commands import tracking
from emorl.runtime.errors import UserError
from emorl.runtime.files import write_json
from emorl.tracking.layout import find_or_create_run
from emorl.tracking.store import MlflowClient
from emorl.tracking.sync import sync, sync_report
from emorl.tracking.troubles import advice
from emorl.tracking.ui import ui_command


def test_a_lost_store_is_built_again_from_the_folders_and_nothing_changes_twice(root, crowd):
    run_dirs = [make_run(root, seed=seed) for seed in range(3)]
    sample(run_dirs[0])
    finish(run_dirs[0])
    finish(run_dirs[1], "failed")
    evaluate(run_dirs[0], fg_ari=0.9, miou=math.nan)
    evaluate(run_dirs[0], "refinement-test-2e.json", fg_ari={"0": 0.5, "1": 0.9}, mse={"0": 0.1, "1": 0.2})
    write_json(run_dirs[1] / "evaluation/decomposition-test-1f.json", {"failed": "diverged", "summary": {}})
    assert sync(run_dirs[:2], root) == {}
    assert sync(run_dirs, root) == {}
    first = contents(root)
    assert [first[f"tetrominoes/emorl/base-0a1b/seed{seed}"][1] for seed in range(3)] == [
        *("FINISHED", "FAILED", "KILLED")
    ]
    points = stored_points(root, run_dirs[0], prefix="")
    assert points[("test/fg_ari", 5000, 0.9)] == 1
    assert points[("test_curves/refinement/fg_ari", 0, 0.5)] == points[("test_curves/refinement/fg_ari", 1, 0.9)] == 1
    assert any(key.startswith("system/") for key, _, _ in points)
    assert sync(run_dirs, root) == {}
    assert contents(root) == first

    other_root = root / "other"
    other_root.mkdir()
    shutil.copy(crowd[0] / "mlflow.db", other_root)  # one that knows nothing of these runs
    assert sync(run_dirs, other_root) == {}
    assert contents(other_root) == first


def test_a_folder_that_cannot_be_read_does_not_hold_up_the_others(root):
    bad, good = make_run(root, seed=0), make_run(root, seed=1)
    (bad / "run.json").write_text("{")
    assert list(sync([bad, good], root)) == [bad]
    assert stored_points(root, good) == file_points(good)


# ---- what was done to the store ----


def test_an_experiment_that_was_deleted_or_renamed_in_the_pages_is_the_same_one(root):
    first, second = make_run(root, seed=0), make_run(root, seed=1)
    assert sync([first], root) == {}
    client = MlflowClient(uri_of(root))
    experiment = find_run(root, first).info.experiment_id
    client.delete_experiment(experiment)
    assert sync([first, second], root) == {}
    assert find_run(root, second).info.experiment_id == experiment
    client.rename_experiment(experiment, "mine")
    assert sync([first, second, make_run(root, seed=2)], root) == {}
    assert len(all_runs(root, "mine")) == 4  # three seeds and their parent
    assert all_runs(root) == []


@pytest.mark.parametrize(("statement", "sentence"), [
    ("UPDATE alembic_version SET version_num = 'acf3f17fdcc7'", "was written by another version of MLflow"),
    (None, "is damaged, or no database"),
])  # fmt: skip
def test_a_store_that_will_never_take_anything_is_not_put_off(root, statement, sentence, monkeypatch):
    if statement is None:
        (root / "mlflow.db").write_bytes(b"no database" * 1000)
    else:
        with contextlib.closing(sqlite3.connect(root / "mlflow.db")) as connection, connection:
            connection.execute(statement)
    troubles = sync([make_run(root)], root)
    assert list(troubles) == [root]
    assert f"{root}/mlflow.db {sentence}: delete it and mlruns/" in troubles[root].sentence
    assert advice(troubles) == "mend what is named, then run `emorl track sync`"
    monkeypatch.setattr(tracking, "ROOT", root)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(UserError, match=sentence):
        tracking.ui(port=port, allowed_hosts="")


# ---- scores ----


def test_a_new_evaluation_is_the_one_shown(root):
    run_dir = make_run(root)
    for name, fg_ari in (("2e", 0.9), ("1f", 0.5)):
        evaluate(run_dir, f"decomposition-test-{name}.json", fg_ari=fg_ari)
        assert sync([run_dir], root) == {}
        assert find_run(root, run_dir).data.metrics["test/fg_ari"] == fg_ari
        time.sleep(0.02)
    append(run_dir, *lines_from(4, 2))  # the evaluation's step must not hide the steps of training
    sync([run_dir], root)
    assert file_points(run_dir) <= stored_points(root, run_dir)


def test_a_key_means_the_same_whichever_evaluation_or_model_it_comes_from(root):
    run_dir = make_run(root)
    evaluate(run_dir, fg_ari=0.9)
    evaluate(run_dir, "decomposition-validation-1f.json", fg_ari=0.8)
    evaluate(run_dir, "disentanglement-test-1f.json", completeness=0.7)
    evaluate(run_dir, "generalisation-test-1f.json", fg_ari={"6": 0.6, "7": 0.5})
    sync([run_dir], root)
    shown = find_run(root, run_dir).data.metrics
    scores = {key: value for key, value in shown.items() if not key.startswith("train/")}
    assert scores == {
        **{"test/fg_ari": 0.9, "validation/fg_ari": 0.8, "test/disentanglement/completeness": 0.7},
        "test_curves/generalisation/fg_ari": 0.5,
    }
    assert {"train/nll", "train/kl", "train/emorl/loss"} <= shown.keys()


def test_the_parent_shows_mean_and_spread_over_its_seeds(root):
    run_dirs = [make_run(root, seed=seed) for seed in range(4)]
    scores = [0.9, 0.8, 0.4]
    for run_dir, fg_ari in zip(run_dirs[1:], scores, strict=True):
        finish(run_dir)
        evaluate(run_dir, fg_ari=fg_ari)
    finish(run_dirs[0], "failed")
    assert sync(run_dirs[:2], root) == {}
    metrics = find_parent(root, run_dirs[0]).data.metrics
    assert metrics == {"test/fg_ari_mean": 0.9, "test/n": 1, "test/failed": 1}  # one seed has no spread
    assert sync(run_dirs, root) == {}
    parent = find_parent(root, run_dirs[0])
    expected = {"test/fg_ari_mean": statistics.mean(scores), "test/fg_ari_sd": statistics.stdev(scores)}
    assert parent.data.metrics == pytest.approx(expected | {"test/n": 3, "test/failed": 1})
    assert parent.info.end_time == max(find_run(root, run_dir).info.end_time for run_dir in run_dirs)


def test_parents_that_two_projects_created_at_once_become_one(root):
    here, there = make_run(root, seed=0), make_run(root, seed=1)
    for run_dir, fg_ari in ((here, 0.2), (there, 0.4)):
        finish(run_dir)
        evaluate(run_dir, fg_ari=fg_ari)
    sync([here, there], root)
    client, parent, seed = MlflowClient(uri_of(root)), find_parent(root, here), find_run(root, there)
    name = parent.data.tags["identity"]
    client.set_tag(parent.info.run_id, "identity", "hidden")  # so that another of its name can be made
    other = find_or_create_run(client, parent.info.experiment_id, name, "double", parent.info.start_time / 1000, {})
    client.set_tag(parent.info.run_id, "identity", name)
    client.set_tag(seed.info.run_id, "mlflow.parentRunId", other.info.run_id)
    assert sync([here], root) == {}
    kept = find_parent(root, here)  # there is one
    assert {run.data.tags["mlflow.parentRunId"] for run in all_runs(root) if "seed" in run.data.tags} == {
        kept.info.run_id
    }
    assert kept.data.metrics["test/fg_ari_mean"] == pytest.approx(0.3)


# ---- reports and pages ----


def test_a_report_is_one_run_per_scale_with_its_files(root):
    report_dir = root / "reports" / "demo"
    (report_dir / "figures").mkdir(parents=True)
    (report_dir / "figures/fig1.png").write_bytes(b"png")
    for table in ("fg_ari\n0.9\n", "fg_ari\n0.99\n"):
        (report_dir / "table1.csv").write_text(table)
        assert not sync_report("demo", root)
    (report,) = all_runs(root, "emorl-reports")
    assert (report.info.run_name, report.info.status) == ("report demo", "FINISHED")
    artifacts = Path(report.info.artifact_uri.removeprefix("file://"))
    assert artifacts.is_relative_to(root / "mlruns")
    assert (artifacts / "table1.csv").read_text() == "fg_ari\n0.99\n"
    assert (artifacts / "figures/fig1.png").read_bytes() == b"png"


def test_the_pages_are_served_to_this_machine_alone(root, monkeypatch):
    command = ui_command(root, port=5123)
    assert command[:4] == [sys.executable, "-m", "mlflow", "server"]
    options = dict(zip(command[4::2], command[5::2], strict=True))
    assert (options["--host"], options["--port"]) == ("127.0.0.1", "5123")
    assert options["--backend-store-uri"] == f"sqlite:///{root}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    with pytest.raises(UserError):
        ui_command(root, port=5123)


def test_nothing_else_imports_mlflow_and_nothing_calls_home():
    package = Path(emorl.__file__).parent
    importing = {
        path.parent.relative_to(package)
        for path in package.rglob("*.py")
        if re.search(r"^\s*(import|from) mlflow", path.read_text(), re.MULTILINE)
    }
    assert importing == {Path("tracking")}
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == os.environ["DO_NOT_TRACK"] == "true"
