"""A store that 64 runs have logged to at once, which the other tests copy: making one takes long."""

import multiprocessing
import os
import shutil
import sqlite3

import pytest
from folders import append, finish, follow_all, lines_from, make_run

os.environ.pop("MLFLOW_TRACKING_URI", None)  # a developer's own store is no test store
PROCESSES = multiprocessing.get_context("forkserver")  # children that have MLflow imported already
PROCESSES.set_forkserver_preload(["emorl.tracking.follow", "emorl.tracking.sync", "mlflow.store.tracking.rest_store"])


@pytest.fixture(scope="session")
def processes():
    return PROCESSES


@pytest.fixture(scope="session")
def log_at_once():
    """Start 64 runs, each with a follower of its own, and write to them in turn until they are over.

    Followers are threads of 16 processes: a process for each would take MLflow a minute to open 64 stores on two cores.
    """

    def log(root, uri=None):
        run_dirs = [make_run(root, dataset="crowd", seed=seed, lines=0) for seed in range(64)]
        groups = {root / f"said{n}": run_dirs[n::16] for n in range(16)}
        followers = [PROCESSES.Process(target=follow_all, args=(group, root, uri, s)) for s, group in groups.items()]
        for follower in followers:
            follower.start()
        for first in range(1, 20, 3):
            for run_dir in run_dirs:
                append(run_dir, *lines_from(first, 3))
        for run_dir in run_dirs:
            finish(run_dir)
        for follower in followers:
            follower.join()
        return run_dirs, "".join(said.read_text() for said in groups)

    return log


@pytest.fixture(scope="session")
def crowd(tmp_path_factory, log_at_once):
    root = tmp_path_factory.mktemp("crowd")
    run_dirs, said = log_at_once(root)
    with sqlite3.connect(root / "mlflow.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # so that the one file is all of it
    return root, run_dirs, said


@pytest.fixture
def root(crowd, tmp_path):
    shutil.copy(crowd[0] / "mlflow.db", tmp_path)
    return tmp_path
