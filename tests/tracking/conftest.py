"""A store that 64 runs have logged to at once, which the other tests copy: making one takes long."""

import contextlib
import multiprocessing
import os
import shutil
import sqlite3
import subprocess

import pytest
from folders import append, finish, lines_from, make_run, sync_often, training, watch_all

os.environ.pop("MLFLOW_TRACKING_URI", None)  # a developer's own store is no test store
PROCESSES = multiprocessing.get_context("forkserver")  # children that have MLflow imported already
PROCESSES.set_forkserver_preload(["emorl.tracking.sync", "mlflow.store.tracking.rest_store"])


@pytest.fixture(scope="session")
def processes():
    return PROCESSES


@pytest.fixture(scope="session")
def log_at_once():
    """Write to 64 runs in turn until they are over, while one process watches them and 15 others come between."""

    def log(root, uri=None):
        workflow = subprocess.Popen(["sleep", "600"])
        run_dirs = [make_run(root, dataset="crowd", seed=seed, lines=0) for seed in range(64)]
        said = [root / f"said{n}" for n in range(16)]
        watcher = PROCESSES.Process(target=watch_all, args=(root, uri, said[0], workflow.pid))
        syncs = [PROCESSES.Process(target=sync_often, args=(root, uri, said[n], run_dirs[n::15])) for n in range(1, 16)]
        with contextlib.ExitStack() as trainings:
            for run_dir in run_dirs:
                trainings.enter_context(training(run_dir))
            for process in [watcher, *syncs]:
                process.start()
            for first in range(1, 20, 3):
                for run_dir in run_dirs:
                    append(run_dir, *lines_from(first, 3))
            for run_dir in run_dirs:
                finish(run_dir)
        for process in syncs:
            process.join()
        workflow.kill()
        workflow.wait()
        watcher.join()
        return run_dirs, "".join(file.read_text() for file in said)

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
