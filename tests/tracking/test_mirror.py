"""The MLflow mirror: nothing lost, nothing doubled, nothing raised, whatever is killed, locked or away."""

import contextlib
import math
import os
import random
import socket
import sqlite3
import sys
import time
from collections import Counter

import pytest
from folders import (
    NOW,
    Follower,
    all_runs,
    append,
    file_points,
    find_parent,
    find_run,
    finish,
    lines_from,
    make_run,
    stored_points,
    wait_until,
)

from emorl.tracking import follow as following
from emorl.tracking import store
from emorl.tracking import sync as syncing
from emorl.tracking.follow import follow
from emorl.tracking.locks import locked
from emorl.tracking.mirror import Mirror, batched
from emorl.tracking.store import open_store
from emorl.tracking.sync import sync, sync_report

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")


# ---- what a run looks like ----


def test_a_seed_lies_below_its_parent_with_its_tags_and_params(root):
    config = {
        "model": {"K": 7, "lr": 1e-4, "name": "emorl", "sizes": [1, 2], "geco": None},
        "text": "x" * 9000,
    }
    config |= {f"p{i}": i for i in range(150)}  # more than MLflow takes at once
    one, two = make_run(root, seed=1, config=config), make_run(root, seed=2, config=config)
    assert sync([one, two], root) == []

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
    follow(run_dir, root, pid=None)
    run = find_run(root, run_dir)
    assert (run.info.status, run.info.end_time) == (status.upper(), 1000 * (NOW + 999))
    assert run.data.tags["status"] == status


def test_a_run_that_changed_between_resumes_keeps_params_and_renews_tags(root):
    run_dir = make_run(root, config={"K": 7, "workers": 2})
    sync([run_dir], root)
    run_dir = make_run(root, config={"K": 7, "workers": 4, "new": 1}, git_commit="beef")
    assert sync([run_dir], root) == []
    run = find_run(root, run_dir)
    assert run.data.params == {"K": "7", "workers": "2", "new": "1"}
    assert run.data.tags["git_commit"] == "beef"


def test_a_run_begun_again_from_the_start_takes_the_place_of_the_old_one(root):
    run_dir = make_run(root, lines=5)
    assert sync([run_dir], root) == []
    old = find_run(root, run_dir).info.run_id
    run_dir = make_run(root, lines=3, started=NOW + 0.5)
    assert sync([run_dir], root) == []
    run = find_run(root, run_dir)
    assert run.info.run_id != old
    assert run.data.metrics["train/emorl/loss"] == 3


def test_a_follower_sees_that_the_record_was_written_anew(root):
    run_dir = make_run(root)
    with Follower(run_dir, root):
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
    assert sync([run_dir], root) == []
    assert {step for _, step, _ in stored_points(root, run_dir)} == {100, 200, 300}
    with open(run_dir / "metrics.jsonl", "a") as file:
        file.write('ss": 1.5}\n')
    assert sync([run_dir], root) == []
    assert stored_points(root, run_dir) == file_points(run_dir)


def test_numbers_that_are_none_do_not_break_the_mirror(root):
    run_dir = make_run(root, lines=0)
    append(run_dir, {"step": 1, "time": NOW, "loss": math.nan, "kl": math.inf, "nll": -math.inf, "ms": 3})
    assert sync([run_dir], root) == []
    largest = sys.float_info.max  # what MLflow keeps of infinity
    assert stored_points(root, run_dir) == Counter(
        [("train/emorl/loss", 1, "nan"), ("train/kl", 1, largest), ("train/nll", 1, -largest), ("train/emorl/ms", 1, 3)]
    )


def test_a_step_is_never_split_and_a_batch_never_too_large():
    lines = [({"step": step, "time": NOW, **dict.fromkeys("abcdefg", 0.5)}, step) for step in range(101, 400)]
    batches = list(batched(lines, str))
    sizes = [len(batch) for batch, _ in batches]
    assert sizes == [994, 994, 105]
    steps = [{metric.step for metric in batch} for batch, _ in batches]
    assert steps == [set(range(101, 243)), set(range(243, 385)), set(range(385, 400))]
    assert [end for _, end in batches] == [242, 384, 399]


def test_a_batch_that_was_taken_after_all_is_not_doubled(root):
    run_dir = make_run(root, lines=20)
    mirror = Mirror(run_dir, root, open_store(root))
    mirror.send_lines()
    mirror.tails[0].offset, mirror.tails[0].last_step = 0, -1  # as if the answer had been lost
    append(run_dir, *lines_from(21, 5))
    mirror.send_lines()
    assert stored_points(root, run_dir) == file_points(run_dir)


def test_a_mirror_killed_at_any_moment_loses_and_doubles_nothing(root, processes):
    run_dir, rng = make_run(root, lines=400), random.Random(0)
    for part in range(6):
        append(run_dir, *lines_from(401 + 300 * part, 300))
        before = sum(stored_points(root, run_dir).values())
        mirror = processes.Process(target=follow, args=(run_dir, root, os.getpid(), 0.01))
        mirror.start()
        wait_until(lambda before=before: sum(stored_points(root, run_dir).values()) > before)
        time.sleep(rng.uniform(0, 0.2))
        mirror.kill()
        mirror.join()
        assert sum(stored_points(root, run_dir).values()) % 5 == 0  # whole steps only
    finish(run_dir)
    follow(run_dir, root, pid=None)
    assert stored_points(root, run_dir) == file_points(run_dir)
    assert find_run(root, run_dir).info.status == "FINISHED"


def test_a_killed_training_is_killed_then_resumes_then_finishes(root):
    run_dir = make_run(root, lines=3)
    with Follower(run_dir, root) as follower:
        wait_until(lambda: stored_points(root, run_dir) == file_points(run_dir))
        append(run_dir, *lines_from(4, 2))
        follower.kill_training()
    run = find_run(root, run_dir)
    assert (run.info.status, run.data.tags["status"]) == ("KILLED", "killed")
    assert run.info.end_time == 1000 * (NOW + 5)
    assert stored_points(root, run_dir) == file_points(run_dir)

    with Follower(run_dir, root):
        append(run_dir, *lines_from(6, 2))
        wait_until(lambda: stored_points(root, run_dir) == file_points(run_dir))
        wait_until(lambda: find_run(root, run_dir).info.status == "RUNNING")
        finish(run_dir)
    assert find_run(root, run_dir).info.status == "FINISHED"
    assert find_run(root, run_dir).data.tags["status"] == "finished"
    assert stored_points(root, run_dir) == file_points(run_dir)


def test_a_training_killed_before_its_first_word_leaves_nothing(root):
    with Follower(root / "runs" / "nothing", root) as follower:
        follower.kill_training()
    assert all_runs(root) == []


# ---- two mirrors ----


def test_a_second_mirror_does_nothing(root, capsys):
    run_dir = make_run(root)
    with locked(run_dir / ".mirror.lock", seconds=0) as held:
        assert held
        assert sync([run_dir], root) == []
        finish(run_dir)
        follow(run_dir, root, pid=None, poll_seconds=0.1, deadline_seconds=0.1)
    assert all_runs(root) == []
    assert capsys.readouterr().err == ""


def test_sync_waits_for_the_follower_of_an_ended_run(root, monkeypatch):
    """A run that has ended but is still held by another mirror is not passed over in silence."""
    run_dir = make_run(root)
    finish(run_dir)
    monkeypatch.setattr(syncing, "LINGER_SECONDS", 0.3)
    with locked(run_dir / ".mirror.lock", seconds=0):
        assert sync([run_dir], root) == [run_dir]
    assert sync([run_dir], root) == []
    assert find_run(root, run_dir).info.status == "FINISHED"


def test_a_quick_resume_outwaits_the_follower_of_the_killed_run(root):
    run_dir = make_run(root)
    with contextlib.ExitStack() as old_follower:
        old_follower.enter_context(locked(run_dir / ".mirror.lock", seconds=0))
        with Follower(run_dir, root):
            time.sleep(0.2)
            assert all_runs(root) == []
            old_follower.close()
            finish(run_dir)
    assert find_run(root, run_dir).info.status == "FINISHED"


# ---- a store that is locked or away ----


def test_a_locked_store_delays_the_points_and_is_told_once(root, monkeypatch):
    monkeypatch.setattr(store, "SQLITE_BUSY_SECONDS", 0.1)
    sentences = []
    monkeypatch.setattr(following, "say", sentences.append)
    run_dir = make_run(root, lines=2)
    with Follower(run_dir, root):
        wait_until(lambda: stored_points(root, run_dir) == file_points(run_dir))
        locker = sqlite3.connect(root / "mlflow.db", isolation_level=None)
        locker.execute("BEGIN EXCLUSIVE")
        append(run_dir, *lines_from(3, 2))
        wait_until(lambda: sentences)
        time.sleep(0.5)  # some more looks in vain
        assert sync([make_run(root, seed=9)], root) == [root / "runs/tetrominoes/emorl/base-0a1b/seed9"]
        locker.execute("ROLLBACK")
        wait_until(lambda: stored_points(root, run_dir) == file_points(run_dir))
        finish(run_dir)
    told = [sentence for sentence in sentences if "seed0" in sentence]
    assert len(told) == 2, told
    assert "not mirrored for now" in told[0]
    assert "database is locked" in told[0]
    assert told[1].endswith("is mirrored again")
    assert find_run(root, run_dir).info.status == "FINISHED"


@pytest.mark.parametrize("kind", ["server", "sqlite"])
def test_a_store_that_is_away_is_given_up_in_time(root, kind, monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        uri = f"http://me:secret@127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri if kind == "server" else "sqlite:////proc/mlflow.db")
    run_dirs = [make_run(root, seed=seed) for seed in (0, 1)]
    finish(run_dirs[0])
    begun = time.monotonic()
    follow(run_dirs[0], root, pid=None, poll_seconds=0.2, deadline_seconds=1)
    assert 0.9 < time.monotonic() - begun < 5
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2, told
    assert "run `emorl track sync` later" in told[1]

    assert sync(run_dirs, root) == run_dirs
    assert not sync_report(root / "plan.json", root)
    assert "secret" not in capsys.readouterr().err


def test_the_deadline_holds_for_a_backlog_too(root, capsys):
    run_dir = make_run(root)
    finish(run_dir)
    follow(run_dir, root, pid=None, deadline_seconds=0)
    assert not stored_points(root, run_dir)
    assert "run `emorl track sync` later" in capsys.readouterr().err


def test_a_folder_that_cannot_be_read_does_not_hold_up_the_others(root):
    bad, good = make_run(root, seed=0), make_run(root, seed=1)
    (bad / "run.json").write_text("{")
    assert sync([bad, good], root) == [bad]
    assert stored_points(root, good) == file_points(good)
