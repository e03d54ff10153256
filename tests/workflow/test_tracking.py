"""Training and its mirror: a store that takes nothing holds up nobody."""

import shutil
import sqlite3
import time


def test_training_does_not_wait_for_a_locked_store(workspace):
    run = workspace.json("reports/test/plan.json")["runs"][0]
    folder, identity = workspace.root / run["folder"], run["folder"].removeprefix("runs/")
    shutil.rmtree(folder)
    options = [word for key in ("dataset", "model", "seed") for word in (f"--{key}", str(run[key]))]
    # The store of the finished workflow has this run, as it was; from now on nobody may write to it.
    store = sqlite3.connect(workspace.root / "mlflow.db", isolation_level=None)
    before = started(store, identity)
    store.execute("BEGIN EXCLUSIVE")
    workspace.run("python", "-m", "emorl", "train", "--scale", "test", *options)
    assert workspace.json(f"{run['folder']}/manifest.json")["status"] == "finished"
    store.execute("ROLLBACK")

    give_up = time.monotonic() + 120  # its mirror goes on trying for a minute
    while started(store, identity) == before:
        assert time.monotonic() < give_up, (folder / "mirror.log").read_text()
        time.sleep(0.5)
    workspace.run("python", "-m", "emorl", "track", "sync", str(folder))
    assert len(started(store, identity)) == 1


def started(store, identity):
    query = """SELECT r.start_time FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid
               WHERE t.key = 'identity' AND t.value = ? AND r.lifecycle_stage = 'active'"""
    return store.execute(query, (identity,)).fetchall()
