"""64 runs that log at once: none lost, none doubled, whichever store."""

import sqlite3

import pytest
from folders import all_runs, file_points, stored_points
from postgres import database, mlflow_server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """An MLflow server with PostgreSQL: its address, and that of its database."""
    with database() as store, mlflow_server(tmp_path_factory.mktemp("server"), store) as address:
        yield address, store


@pytest.mark.drill
def test_64_runs_log_at_once_to_a_fresh_sqlite_store(crowd):
    root, run_dirs, said = crowd
    check_crowd(root, run_dirs, said)
    assert sqlite3.connect(root / "mlflow.db").execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert not list(root.glob(".mlflow.db*"))  # what the store is made as


@pytest.mark.drill
def test_64_runs_log_at_once_to_a_server_with_postgresql(server, log_at_once, tmp_path):
    address, store = server
    run_dirs, said = log_at_once(tmp_path, address)
    check_crowd(tmp_path, run_dirs, said, store)


def check_crowd(root, run_dirs, said, uri=None):
    assert said == ""
    runs = all_runs(root, "emorl-crowd-test", uri)
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert parent.info.run_name == "emorl/base-0a1b"
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert sorted(int(child.data.tags["seed"]) for child in children) == list(range(64))
    assert {child.info.status for child in children} == {"FINISHED"}
    for run_dir in run_dirs:
        assert stored_points(root, run_dir, uri=uri) == file_points(run_dir)
        assert len(file_points(run_dir)) == 21 * 5
