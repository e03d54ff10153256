"""The workflow and its mirror: it holds up nobody, ends by itself, and knows what is being trained."""

import os
import shutil
import signal
import socket
import sqlite3
import time

import pytest

from emorl.runtime.locks import TRAINING_LOCK, locked

SLOWER = "def update(self, progress: Progress) -> None:\n        time.sleep(1)"
COMMAND = ["snakemake", "--cores", "1", "--config", "scale=test", "models=emorl", "datasets=tetrominoes", "--"]


@pytest.fixture
def unfinished(workspace):
    """A workspace where one run is still to be trained, and the words that name it to `emorl train`."""
    run = workspace.runs()[0]
    shutil.rmtree(workspace.root / run["folder"])
    options = ["--dataset", "tetrominoes", "--model", "emorl", "--seed", str(run["seed"])]
    return workspace, run["folder"], ["python", "-m", "emorl", "train", "--scale", "test", *options]


@pytest.mark.drill
def test_neither_training_nor_the_workflow_waits_for_a_locked_store(unfinished):
    workspace, folder, _ = unfinished
    workspace.edit("emorl/runtime/usage.py", lambda text: text.replace("SAMPLES = 10.0", "SAMPLES = 0.0"))
    identity = folder.removeprefix("runs/")
    # The store of the finished workflow has this run, as it was; from now on nobody may write to it.
    store = sqlite3.connect(workspace.root / "mlflow.db", isolation_level=None)
    before = started(store, identity)
    store.execute("BEGIN EXCLUSIVE")
    workspace.run(*COMMAND, f"{folder}/manifest.json")
    assert workspace.json(f"{folder}/manifest.json")["status"] == "finished"
    (tracker,) = workspace.trackers()
    assert tracker.nice() > 0
    log = workspace.root / "logs" / "track.log"
    wait_until(lambda: "database is locked" in log.read_text(), log)
    store.execute("ROLLBACK")

    workspace.mirrored()  # it goes on trying for a minute
    after = started(store, identity)
    assert len(after) == 1
    assert after != before
    workspace.run("python", "-m", "emorl", "track", "sync", folder)
    assert started(store, identity) == after
    assert samples(store, identity) == len((workspace.root / folder / "usage.jsonl").read_text().splitlines()) > 0


@pytest.mark.drill
def test_the_mirror_of_a_killed_workflow_ends_by_itself_and_shows_the_run_as_killed(unfinished):
    workspace, folder, _ = unfinished
    workspace.edit("emorl/training/progress.py", lambda text: text.replace(SLOWER.partition("\n")[0], SLOWER))
    workflow = workspace.start(*COMMAND, f"{folder}/manifest.json", start_new_session=True)
    record = workspace.root / folder / "run.json"
    wait_until(record.exists, record)
    os.killpg(workflow.pid, signal.SIGKILL)  # the training is of its group; the mirror is not
    workflow.communicate()  # nobody else holds on to its output
    assert workspace.trackers()
    workspace.mirrored()
    store = sqlite3.connect(workspace.root / "mlflow.db")
    query = "SELECT r.status FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid WHERE t.value = ? AND " + ACTIVE
    assert store.execute(query, (folder.removeprefix("runs/"),)).fetchall() == [("KILLED",)]


def test_touching_starts_no_mirror(workspace):
    shutil.rmtree(workspace.root / "logs")
    workspace.start(*COMMAND[:-1], "--touch", "--forceall", "--", "reproduce_table1").communicate()
    assert not workspace.trackers()
    assert not (workspace.root / "logs" / "track.log").exists()


@pytest.mark.drill
def test_two_processes_do_not_train_one_run(unfinished):
    workspace, folder, train = unfinished
    (workspace.root / folder).mkdir()
    with locked(workspace.root / folder / TRAINING_LOCK, seconds=0):
        said = workspace.run(*train, status=1)
    holder = f"process {os.getpid()} on {socket.gethostname()}"
    assert said == f"error: {folder} is being trained already, by {holder}\n"
    assert not (workspace.root / folder / "run.json").exists()
    workspace.run(*train)
    assert workspace.json(f"{folder}/manifest.json")["status"] == "finished"


@pytest.mark.drill
def test_by_hand_a_mirror_beside_the_training_ends_with_ctrl_c(unfinished):
    workspace, folder, train = unfinished
    mirror = workspace.start("python", "-m", "emorl", "track", "sync", folder, "--watch")
    workspace.run(*train)
    store = sqlite3.connect(workspace.root / "mlflow.db")
    query = "SELECT r.end_time FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid WHERE t.value = ? AND " + ACTIVE
    ended = [(round(1000 * workspace.json(f"{folder}/manifest.json")["ended"]),)]
    wait_until(lambda: store.execute(query, (folder.removeprefix("runs/"),)).fetchall() == ended, folder)
    mirror.send_signal(signal.SIGINT)
    said, _ = mirror.communicate()
    assert (mirror.returncode, said) == (0, "")


@pytest.mark.drill
def test_links_and_reports_are_verbs(workspace):
    workspace.run("python", "-m", "emorl", "track", "sync", "--links", "links.json")
    links = workspace.json("links.json")
    assert links.keys() >= {run["folder"] for run in workspace.runs()}
    workspace.run("python", "-m", "emorl", "track", "report", "test")
    said = workspace.run("python", "-m", "emorl", "track", "report", "tset", status=1)
    assert said == "error: reports/tset is not there: no report has been made at scale tset\n"
    workspace.environment = lambda: (
        type(workspace).environment(workspace) | {"MLFLOW_TRACKING_URI": "http://me:secret@127.0.0.1:9"}
    )
    said = workspace.run("python", "-m", "emorl", "track", "sync", "--links", "links.json")
    assert "run `emorl track sync` later" in said
    assert "secret" not in said
    assert workspace.json("links.json") == {}


ACTIVE = "r.lifecycle_stage = 'active'"


def started(store, identity):
    query = f"""SELECT r.start_time FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid
               WHERE t.key = 'identity' AND t.value = ? AND {ACTIVE}"""
    return store.execute(query, (identity,)).fetchall()


def samples(store, identity):
    query = f"""SELECT COUNT(*) FROM metrics m JOIN tags t ON t.run_uuid = m.run_uuid
               JOIN runs r ON r.run_uuid = m.run_uuid
               WHERE t.value = ? AND m.key = 'system/memory_usage_megabytes' AND {ACTIVE}"""
    return store.execute(query, (identity,)).fetchone()[0]


def wait_until(condition, told):
    give_up = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < give_up, told.read_text() if hasattr(told, "read_text") else told
        time.sleep(0.2)
