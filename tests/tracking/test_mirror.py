"""The MLflow mirror: nothing lost, nothing doubled, nothing raised, whatever is killed, locked or away."""

import errno
import fcntl
import json
import math
import os
import random
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
from folders import (
    NOW,
    Training,
    Watcher,
    all_runs,
    append,
    evaluate,
    file_points,
    find_parent,
    find_run,
    finish,
    lines_from,
    make_run,
    sample,
    stored_points,
    training,
    wait_until,
)
from mlflow import MlflowClient
from mlflow.entities import Metric

from emorl.runtime.locks import locked
from emorl.tracking import store
from emorl.tracking import watch as watching
from emorl.tracking.mirror import batched
from emorl.tracking.sync import sync, sync_report
from emorl.tracking.watch import watch

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")


# ---- what a run looks like ----


def test_a_seed_lies_below_its_parent_with_its_tags_and_params(root):
    config = {
        "model": {"K": 7, "lr": 1e-4, "name": "emorl", "sizes": [1, 2], "geco": None},
        "text": "x" * 9000,
    }
    config |= {f"p{i}": i for i in range(150)}  # more than MLflow takes at once
    one, two = make_run(root, seed=1, config=config), make_run(root, seed=2, config=config)
    assert sync([one, two], root) == {}

    assert {run.info.run_name for run in all_runs(root)} == {
        *("emorl/base-0a1b", "seed1 emorl/base-0a1b", "seed2 emorl/base-0a1b")
    }
    parent, child = find_parent(root, one), find_run(root, one)
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert find_run(root, two).data.tags["mlflow.parentRunId"] == parent.info.run_id
    expected = {"git_commit": "c0ffee", "git_dirty": "False", "data_source": "replica", "data_sha256": "d5"}
    expected |= {"config_sha256": "cf", "code_digest": "cd", "seed": "1", "scale": "test"}
    expected |= {"dataset": "tetrominoes", "model": "emorl", "variant": "base", "digest": "0a1b"}
    assert expected.items() <= child.data.tags.items()
    assert child.data.params["model.K"] == "7"
    assert child.data.params["model.lr"] == "0.0001"
    assert child.data.params["model.sizes"] == "[1, 2]"
    assert child.data.params["model.geco"] == "null"
    assert child.data.params["text"] == "x" * 6000
    assert len(child.data.params) == 156
    assert child.info.start_time == 1000 * NOW
    assert parent.info.status == "FINISHED"
    (data,) = child.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest, data.dataset.profile) == ("tetrominoes", "d5", '{"num_rows": 64}')


@pytest.mark.parametrize("status", ["finished", "failed"])
def test_the_manifest_ends_the_run(root, status):
    run_dir = make_run(root)
    finish(run_dir, status)
    assert sync([run_dir], root) == {}
    run = find_run(root, run_dir)
    assert (run.info.status, run.info.end_time) == (status.upper(), 1000 * (NOW + 999))
    assert run.data.tags["status"] == status


def test_a_run_that_changed_between_resumes_keeps_params_and_renews_tags(root):
    run_dir = make_run(root, config={"K": 7, "workers": 2})
    sync([run_dir], root)
    run_dir = make_run(root, config={"K": 7, "workers": 4, "new": 1}, git_commit="beef")
    assert sync([run_dir], root) == {}
    run = find_run(root, run_dir)
    assert run.data.params == {"K": "7", "workers": "2", "new": "1"}
    assert run.data.tags["git_commit"] == "beef"


def test_a_run_begun_again_from_the_start_takes_the_place_of_the_old_one(root):
    run_dir = make_run(root, lines=5)
    assert sync([run_dir], root) == {}
    old = find_run(root, run_dir).info.run_id
    run_dir = make_run(root, lines=3, started=NOW + 0.5)
    assert sync([run_dir], root) == {}
    run = find_run(root, run_dir)
    assert run.info.run_id != old
    assert run.data.metrics["train/emorl/loss"] == 3


def test_a_watcher_sees_that_the_record_was_written_anew(root):
    run_dir = make_run(root)
    with Watcher(run_dir, root):
        wait_until(lambda: any(run.data.metrics for run in all_runs(root)))
        make_run(root, git_commit="beef")
        wait_until(lambda: find_run(root, run_dir).data.tags["git_commit"] == "beef")
        finish(run_dir)
    assert stored_points(root, run_dir) == file_points(run_dir)


# ---- points ----


def test_an_incomplete_last_line_waits_until_it_is_complete(root):
    run_dir = make_run(root, lines=3)
    with open(run_dir / "metrics.jsonl", "a") as file:
        file.write('{"step": 400, "time": 1790000400.0, "lo')
    assert sync([run_dir], root) == {}
    assert {step for _, step, _ in stored_points(root, run_dir)} == {100, 200, 300}
    with open(run_dir / "metrics.jsonl", "a") as file:
        file.write('ss": 1.5}\n')
    assert sync([run_dir], root) == {}
    assert stored_points(root, run_dir) == file_points(run_dir)


def test_numbers_that_are_none_do_not_break_the_mirror(root):
    run_dir = make_run(root, lines=0)
    append(run_dir, {"step": 1, "time": NOW, "loss": math.nan, "kl": math.inf, "nll": -math.inf, "ms": 3})
    assert sync([run_dir], root) == {}
    largest = sys.float_info.max  # what MLflow keeps of infinity
    assert stored_points(root, run_dir) == Counter(
        [("train/emorl/loss", 1, "nan"), ("train/kl", 1, largest), ("train/nll", 1, -largest), ("train/emorl/ms", 1, 3)]
    )


def test_a_step_is_never_split_and_a_batch_never_too_large():
    lines = [[Metric(key, 0.5, 0, step) for key in "abcdefg"] for step in range(101, 400)]
    batches = list(batched(lines))
    sizes = [len(batch) for batch in batches]
    assert sizes == [994, 994, 105]
    steps = [{metric.step for metric in batch} for batch in batches]
    assert steps == [set(range(101, 243)), set(range(243, 385)), set(range(385, 400))]


def test_a_batch_that_was_taken_after_all_is_not_doubled(root, monkeypatch):
    """The answer is lost, and the server takes the batch again."""
    run_dir = make_run(root, lines=20)
    log_batch = MlflowClient.log_batch

    def interrupted(client, run_id, metrics=(), **other):
        log_batch(client, run_id, metrics, **other)
        if metrics:
            log_batch(client, run_id, metrics, **other)
            raise ConnectionError("reset by peer")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", interrupted)
        assert list(sync([run_dir], root)) == [run_dir]
    append(run_dir, *lines_from(21, 5))
    assert sync([run_dir], root) == {}
    assert stored_points(root, run_dir) == file_points(run_dir)


def test_a_mirror_killed_at_any_moment_loses_and_doubles_nothing(root, processes):
    run_dir, rng = make_run(root, lines=400), random.Random(0)
    for part in range(6):
        append(run_dir, *lines_from(401 + 300 * part, 300))
        before = sum(stored_points(root, run_dir).values())
        mirror = processes.Process(target=watch, args=(root, [run_dir], os.getpid(), 0.01))
        mirror.start()
        wait_until(lambda before=before: sum(stored_points(root, run_dir).values()) > before)
        time.sleep(rng.uniform(0, 0.2))
        mirror.kill()
        mirror.join()
        assert sum(stored_points(root, run_dir).values()) % 5 == 0  # whole steps only
    finish(run_dir)
    assert sync([run_dir], root) == {}
    assert stored_points(root, run_dir) == file_points(run_dir)
    assert find_run(root, run_dir).info.status == "FINISHED"


def test_a_killed_training_is_killed_then_resumes_then_finishes(root):
    run_dir = make_run(root, lines=3)
    with Training(run_dir) as killed, Watcher(run_dir, root):
        wait_until(lambda: stored_points(root, run_dir) == file_points(run_dir))
        wait_until(lambda: find_run(root, run_dir).info.status == "RUNNING")
        append(run_dir, *lines_from(4, 2))
        killed.kill()
    run = find_run(root, run_dir)
    assert (run.info.status, run.data.tags["status"]) == ("KILLED", "killed")
    assert run.info.end_time == 1000 * (NOW + 5)
    assert stored_points(root, run_dir) == file_points(run_dir)

    with Watcher(run_dir, root), training(run_dir):
        append(run_dir, *lines_from(6, 2))
        wait_until(lambda: stored_points(root, run_dir) == file_points(run_dir))
        wait_until(lambda: find_run(root, run_dir).info.status == "RUNNING")
        finish(run_dir)
    assert find_run(root, run_dir).info.status == "FINISHED"
    assert find_run(root, run_dir).data.tags["status"] == "finished"
    assert stored_points(root, run_dir) == file_points(run_dir)


def test_a_training_killed_before_its_first_word_leaves_nothing(root):
    run_dir = root / "runs" / "nothing"
    with Training(run_dir), Watcher(run_dir, root):
        pass
    assert all_runs(root) == []


def test_without_locks_a_run_is_trained_while_its_files_change(root, monkeypatch):
    def flock(file, operation):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)
    run_dir = make_run(root)
    with training(run_dir):
        assert sync([run_dir], root) == {}
    assert find_run(root, run_dir).info.status == "RUNNING"
    for path in run_dir.iterdir():
        os.utime(path, (time.time() - 700, time.time() - 700))
    assert sync([run_dir], root) == {}
    assert find_run(root, run_dir).info.status == "KILLED"


# ---- what is watched ----


def test_a_workflows_watcher_ends_with_it_and_imports_no_mlflow_if_no_run_changes(tmp_path):
    finish(make_run(tmp_path))
    code = (
        "import sys; from pathlib import Path; from emorl.tracking.watch import watch; "
        "watch(Path(sys.argv[1]), pid=int(sys.argv[2]), poll_seconds=0.1); assert 'mlflow' not in sys.modules"
    )
    workflow = subprocess.Popen(["sleep", "600"])
    watcher = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(workflow.pid)])
    time.sleep(1)
    assert watcher.poll() is None
    workflow.kill()
    workflow.wait()
    assert watcher.wait(timeout=60) == 0


def test_when_the_workflow_is_gone_what_is_still_trained_is_waited_for_a_while(root, capsys):
    run_dir = make_run(root)
    ended = subprocess.Popen(["true"])
    ended.wait()
    with training(run_dir):
        begun = time.monotonic()
        watch(root, pid=ended.pid, poll_seconds=0.1, deadline_seconds=1)
        assert 0.9 < time.monotonic() - begun < 10
        assert find_run(root, run_dir).info.status == "RUNNING"
        assert "run `emorl track sync` later" in capsys.readouterr().err
        watcher = threading.Thread(target=watch, args=(root, (), ended.pid, 0.1, 60))
        watcher.start()
        time.sleep(0.5)
        finish(run_dir)
    watcher.join(timeout=30)
    assert not watcher.is_alive()
    assert find_run(root, run_dir).info.status == "FINISHED"
    assert capsys.readouterr().err == ""


# ---- two mirrors ----


def test_a_second_mirror_waits_for_the_first_and_says_who_that_is(root, monkeypatch):
    run_dir = make_run(root)
    finish(run_dir)
    with locked(root / store.STORE_LOCK, seconds=0):
        monkeypatch.setattr(store, "STORE_LOCK_SECONDS", 0.3)
        troubles = sync([run_dir], root)
        assert list(troubles) == [root]
        assert f"process {os.getpid()} on {socket.gethostname()} holds {root}/mlflow.db.lock" in troubles[root].sentence
        assert all_runs(root) == []
        monkeypatch.setattr(store, "STORE_LOCK_SECONDS", 60)
        second = threading.Thread(target=sync, args=([run_dir], root))
        second.start()
        time.sleep(0.3)
        assert all_runs(root) == []
    second.join()
    assert find_run(root, run_dir).info.status == "FINISHED"


def test_what_two_mirrors_send_in_turn_is_there_once(root):
    run_dir = make_run(root)
    with Watcher(run_dir, root), training(run_dir):
        for part in range(5):
            append(run_dir, *lines_from(4 + 2 * part, 2))
            evaluate(run_dir, fg_ari=part / 10)
            assert sync([run_dir], root) == {}
        finish(run_dir)
    assert stored_points(root, run_dir) == file_points(run_dir)
    scores = stored_points(root, run_dir, "test/")
    assert set(scores.values()) == {1}
    assert len(scores) <= 5
    assert find_run(root, run_dir).data.metrics["test/fg_ari"] == 0.4


# ---- a store that is locked or away ----


def test_a_locked_store_delays_the_points_and_is_told_once(root, monkeypatch):
    monkeypatch.setattr(store, "SQLITE_BUSY_SECONDS", 0.1)
    sentences = []
    monkeypatch.setattr(watching, "say", sentences.append)
    run_dir = make_run(root, lines=2)
    with Watcher(run_dir, root):
        wait_until(lambda: stored_points(root, run_dir) == file_points(run_dir))
        locker = sqlite3.connect(root / "mlflow.db", isolation_level=None)
        locker.execute("BEGIN EXCLUSIVE")
        append(run_dir, *lines_from(3, 2))
        wait_until(lambda: sentences)
        time.sleep(0.5)  # some more looks in vain
        assert list(sync([make_run(root, seed=9)], root)) == [root]
        locker.execute("ROLLBACK")
        wait_until(lambda: stored_points(root, run_dir) == file_points(run_dir))
        finish(run_dir)
    assert len(sentences) == 2, sentences
    assert "not mirrored for now" in sentences[0]
    assert "database is locked" in sentences[0]
    assert sentences[1].endswith("is mirrored again")
    assert find_run(root, run_dir).info.status == "FINISHED"


@pytest.mark.parametrize("kind", ["server", "sqlite"])
def test_a_store_that_is_away_is_given_up_in_time(root, kind, monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        uri = f"http://me:secret@127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri if kind == "server" else "sqlite:////proc/mlflow.db")
    run_dirs = [make_run(root, seed=seed) for seed in (0, 1)]
    ended = subprocess.Popen(["true"])
    ended.wait()
    begun = time.monotonic()
    watch(root, pid=ended.pid, poll_seconds=0.2, deadline_seconds=1)
    assert 0.9 < time.monotonic() - begun < 5
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2, told
    assert "run `emorl track sync` later" in told[1]

    troubles = sync(run_dirs, root)
    assert list(troubles) == [root]
    troubles |= sync_report("demo", root)
    assert list(troubles) == [root, root / "reports/demo"]
    assert "secret" not in " ".join([*told, *(trouble.sentence for trouble in troubles.values())])


def test_the_deadline_holds_for_a_backlog_too(root, capsys):
    run_dir = make_run(root)
    ended = subprocess.Popen(["true"])
    ended.wait()
    watch(root, pid=ended.pid, deadline_seconds=0)
    assert not stored_points(root, run_dir)
    assert "run `emorl track sync` later" in capsys.readouterr().err


def test_a_folder_that_cannot_be_read_does_not_hold_up_the_others(root, monkeypatch):
    sentences = []
    monkeypatch.setattr(watching, "say", sentences.append)
    bad, good = make_run(root, seed=0), make_run(root, seed=1)
    whole = (bad / "run.json").read_text()
    (bad / "run.json").write_text("{")
    assert list(sync([bad, good], root)) == [bad]
    assert stored_points(root, good) == file_points(good)
    with Watcher(bad, root):
        wait_until(lambda: sentences)
        time.sleep(0.3)
        (bad / "run.json").write_text(whole)
    (told, again) = sentences
    assert str(bad) in told
    assert again.endswith("is mirrored again")
    assert stored_points(root, bad) == file_points(bad)


# ---- what a training uses ----


def test_samples_are_mirrored_once_and_those_of_an_earlier_start_not_at_all(root):
    run_dir = make_run(root, started=0.0)
    with Watcher(run_dir, root), training(run_dir):
        for part in range(3):
            sample(run_dir)
            append(run_dir, *lines_from(4 + part, 1))
            wait_until(lambda: stored_points(root, run_dir) == file_points(run_dir))
        sample(run_dir)
        finish(run_dir)
    samples = [json.loads(line) for line in (run_dir / "usage.jsonl").read_text().splitlines()]
    expected = {line["step"]: line["memory_usage_megabytes"] for line in samples}
    stored = stored_points(root, run_dir, "system/memory")
    assert len(samples) == 4
    assert {step: value for _, step, value in stored} == expected
    assert set(stored.values()) == {1}

    run_dir = make_run(root, started=samples[-1]["time"] - 0.001)
    assert sync([run_dir], root) == {}
    assert {step for _, step, _ in stored_points(root, run_dir, "system/memory")} == {max(expected)}
    assert find_run(root, run_dir).data.metrics.keys() >= {"system/cpu_utilization_percentage"}
