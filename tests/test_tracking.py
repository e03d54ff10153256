"""The MLflow mirror: nothing lost, nothing doubled, nothing raised, whatever is killed, locked or away."""

import contextlib
import json
import math
import multiprocessing
import os
import random
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from emorl import tracking
from emorl.errors import UserError
from emorl.files import write_json

os.environ.pop("MLFLOW_TRACKING_URI", None)  # a developer's own store is no test store
NOW = 1_790_000_000.0
PROCESSES = multiprocessing.get_context("forkserver")  # children that have MLflow imported already
PROCESSES.set_forkserver_preload(["emorl.tracking"])


pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")


# ---- the crowd: it makes the one new store of the session, which the other tests copy ----


@pytest.fixture(scope="session")
def crowd(tmp_path_factory):
    root = tmp_path_factory.mktemp("crowd")
    run_dirs = [make_run(root, dataset="crowd", seed=seed) for seed in range(16)]
    processes = [PROCESSES.Process(target=sync_or_exit, args=(run_dir, root)) for run_dir in run_dirs]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    with sqlite3.connect(root / "mlflow.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # so that the one file is all of it
    return root, run_dirs, [process.exitcode for process in processes]


@pytest.fixture
def root(crowd, tmp_path):
    shutil.copy(crowd[0] / "mlflow.db", tmp_path)
    return tmp_path


def sync_or_exit(run_dir, root):
    with open(run_dir / "said", "w") as said, contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        missed = tracking.sync([run_dir], root)
    sys.exit(len(missed))


def test_sixteen_processes_at_once_on_a_fresh_store(crowd):
    root, run_dirs, exit_codes = crowd
    assert exit_codes == [0] * 16
    runs = all_runs(root, "emorl-crowd-test")
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert [parent.info.run_name for parent in parents] == ["crowd/emorl/base-0a1b"]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
    assert sorted(child.data.tags["seed"] for child in children) == sorted(str(seed) for seed in range(16))
    for run_dir in run_dirs:
        assert stored_points(root, run_dir) == file_points(run_dir)
        assert (run_dir / "said").read_text() == ""
    assert sqlite3.connect(root / "mlflow.db").execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert not list(root.glob(".mlflow.db*"))  # what the store is made as


# ---- what a run looks like ----


def test_a_seed_lies_below_its_parent_with_its_tags_and_params(root):
    config = {
        "model": {"K": 7, "lr": 1e-4, "name": "emorl", "sizes": [1, 2], "geco": None},
        "text": "x" * 9000,
    }
    config |= {f"p{i}": i for i in range(150)}  # more than MLflow takes at once
    one, two = make_run(root, seed=1, config=config), make_run(root, seed=2, config=config)
    assert tracking.sync([one, two], root) == []

    runs = {run.info.run_name: run for run in all_runs(root)}
    assert set(runs) == {f"tetrominoes/emorl/base-0a1b{seed}" for seed in ("", "/seed1", "/seed2")}
    parent, child = runs["tetrominoes/emorl/base-0a1b"], runs["tetrominoes/emorl/base-0a1b/seed1"]
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert runs["tetrominoes/emorl/base-0a1b/seed2"].data.tags["mlflow.parentRunId"] == parent.info.run_id
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


@pytest.mark.parametrize("status", ["finished", "failed"])
def test_the_manifest_ends_the_run(root, status):
    run_dir = make_run(root)
    finish(run_dir, status)
    tracking.follow(run_dir, root, pid=None)
    run = find_run(root, run_dir)
    assert (run.info.status, run.info.end_time) == (status.upper(), 1000 * (NOW + 999))
    assert run.data.tags["status"] == status


def test_a_run_that_changed_between_resumes_keeps_params_and_renews_tags(root):
    run_dir = make_run(root, config={"K": 7, "workers": 2})
    tracking.sync([run_dir], root)
    run_dir = make_run(root, config={"K": 7, "workers": 4, "new": 1}, git_commit="beef")
    assert tracking.sync([run_dir], root) == []
    run = find_run(root, run_dir)
    assert run.data.params == {"K": "7", "workers": "2", "new": "1"}
    assert run.data.tags["git_commit"] == "beef"


def test_a_run_begun_again_from_the_start_takes_the_place_of_the_old_one(root):
    run_dir = make_run(root, lines=5)
    assert tracking.sync([run_dir], root) == []
    old = find_run(root, run_dir).info.run_id
    run_dir = make_run(root, lines=3, started=NOW + 0.5)
    assert tracking.sync([run_dir], root) == []
    run = find_run(root, run_dir)
    assert run.info.run_id != old
    assert run.data.metrics["loss"] == 3


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
    assert tracking.sync([run_dir], root) == []
    assert {step for _, step, _ in stored_points(root, run_dir)} == {100, 200, 300}
    with open(run_dir / "metrics.jsonl", "a") as file:
        file.write('ss": 1.5}\n')
    assert tracking.sync([run_dir], root) == []
    assert stored_points(root, run_dir) == file_points(run_dir)


def test_numbers_that_are_none_do_not_break_the_mirror(root):
    run_dir = make_run(root, lines=0)
    append(run_dir, {"step": 1, "time": NOW, "loss": math.nan, "kl": math.inf, "nll": -math.inf, "step_ms": 3})
    assert tracking.sync([run_dir], root) == []
    largest = sys.float_info.max  # what MLflow keeps of infinity
    assert stored_points(root, run_dir) == Counter(
        [("loss", 1, "nan"), ("kl", 1, largest), ("nll", 1, -largest), ("step_ms", 1, 3.0)]
    )


def test_a_step_is_never_split_and_a_batch_never_too_large():
    lines = [({"step": step, "time": NOW, **dict.fromkeys("abcdefg", 0.5)}, step) for step in range(1, 400)]
    batches = list(tracking._batches(lines, last_step=100))
    sizes = [len(batch) for batch, _ in batches]
    assert sizes == [994, 994, 105]
    steps = [{metric.step for metric in batch} for batch, _ in batches]
    assert steps == [set(range(101, 243)), set(range(243, 385)), set(range(385, 400))]
    assert [end for _, end in batches] == [242, 384, 399]


def test_a_batch_that_was_taken_after_all_is_not_doubled(root):
    run_dir = make_run(root, lines=20)
    mirror = tracking._Mirror(run_dir, root, tracking._open_store(root))
    mirror.send_lines()
    mirror.offset, mirror.last_step = 0, -1  # as if the answer had been lost
    append(run_dir, *lines_from(21, 5))
    mirror.send_lines()
    assert stored_points(root, run_dir) == file_points(run_dir)


def test_a_mirror_killed_at_any_moment_loses_and_doubles_nothing(root):
    run_dir, rng = make_run(root, lines=400), random.Random(0)
    for part in range(6):
        append(run_dir, *lines_from(401 + 300 * part, 300))
        before = sum(stored_points(root, run_dir).values())
        mirror = PROCESSES.Process(target=tracking.follow, args=(run_dir, root, os.getpid(), 0.01))
        mirror.start()
        wait_until(lambda before=before: sum(stored_points(root, run_dir).values()) > before)
        time.sleep(rng.uniform(0, 0.2))
        mirror.kill()
        mirror.join()
        assert sum(stored_points(root, run_dir).values()) % 5 == 0  # whole steps only
    finish(run_dir)
    tracking.follow(run_dir, root, pid=None)
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
    with tracking._locked(run_dir / ".mirror.lock", seconds=0) as held:
        assert held
        assert tracking.sync([run_dir], root) == []
        finish(run_dir)
        tracking.follow(run_dir, root, pid=None, poll_seconds=0.1, deadline_seconds=0.1)
    assert all_runs(root) == []
    assert capsys.readouterr().err == ""


def test_sync_waits_for_the_follower_of_an_ended_run(root, monkeypatch):
    """A run that has ended but is still held by another mirror is not passed over in silence."""
    run_dir = make_run(root)
    finish(run_dir)
    monkeypatch.setattr(tracking, "LINGER_SECONDS", 0.3)
    with tracking._locked(run_dir / ".mirror.lock", seconds=0):
        assert tracking.sync([run_dir], root) == [run_dir]
    assert tracking.sync([run_dir], root) == []
    assert find_run(root, run_dir).info.status == "FINISHED"


def test_a_quick_resume_outwaits_the_follower_of_the_killed_run(root):
    run_dir = make_run(root)
    with contextlib.ExitStack() as old_follower:
        old_follower.enter_context(tracking._locked(run_dir / ".mirror.lock", seconds=0))
        with Follower(run_dir, root):
            time.sleep(0.2)
            assert all_runs(root) == []
            old_follower.close()
            finish(run_dir)
    assert find_run(root, run_dir).info.status == "FINISHED"


# ---- a store that is locked or away ----


def test_a_locked_store_delays_the_points_and_is_told_once(root, monkeypatch):
    monkeypatch.setattr(tracking, "SQLITE_BUSY_SECONDS", 0.1)
    sentences = []
    monkeypatch.setattr(tracking, "_say", sentences.append)
    run_dir = make_run(root, lines=2)
    with Follower(run_dir, root):
        wait_until(lambda: stored_points(root, run_dir) == file_points(run_dir))
        locker = sqlite3.connect(root / "mlflow.db", isolation_level=None)
        locker.execute("BEGIN EXCLUSIVE")
        append(run_dir, *lines_from(3, 2))
        wait_until(lambda: sentences)
        time.sleep(0.5)  # some more looks in vain
        assert tracking.sync([make_run(root, seed=9)], root) == [root / "runs/tetrominoes/emorl/base-0a1b/seed9"]
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
    tracking.follow(run_dirs[0], root, pid=None, poll_seconds=0.2, deadline_seconds=1)
    assert 0.9 < time.monotonic() - begun < 5
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2, told
    assert "run `emorl track sync` later" in told[1]

    assert tracking.sync(run_dirs, root) == run_dirs
    assert not tracking.sync_report(make_report(root), root)
    assert "secret" not in capsys.readouterr().err


def test_the_deadline_holds_for_a_backlog_too(root, capsys):
    run_dir = make_run(root)
    finish(run_dir)
    tracking.follow(run_dir, root, pid=None, deadline_seconds=0)
    assert not stored_points(root, run_dir)
    assert "run `emorl track sync` later" in capsys.readouterr().err


def test_a_folder_that_cannot_be_read_does_not_hold_up_the_others(root):
    bad, good = make_run(root, seed=0), make_run(root, seed=1)
    (bad / "run.json").write_text("{")
    assert tracking.sync([bad, good], root) == [bad]
    assert stored_points(root, good) == file_points(good)


# ---- sync, reports, pages ----


def test_sync_builds_a_lost_store_again_and_changes_nothing_twice(root, crowd):
    run_dirs = [make_run(root, seed=seed) for seed in range(3)]
    finish(run_dirs[0])
    finish(run_dirs[1], "failed")
    write_json(run_dirs[0] / "evaluation/test-1f.json", {"summary": {"ari": 0.9, "miou": math.nan}})
    write_json(run_dirs[1] / "evaluation/test-1f.json", {"failed": "diverged"})
    for run_dir in run_dirs[:2]:
        tracking.follow(run_dir, root, pid=None)
    assert tracking.sync(run_dirs, root) == []
    first = contents(root)
    assert first["tetrominoes/emorl/base-0a1b/seed0"][3][("test/ari", 5000, 0.9)] == 1
    assert [first[f"tetrominoes/emorl/base-0a1b/seed{seed}"][0] for seed in range(3)] == [
        "FINISHED",
        "FAILED",
        "KILLED",
    ]
    assert tracking.sync(run_dirs, root) == []
    assert contents(root) == first

    other_root = root / "other"
    other_root.mkdir()
    shutil.copy(crowd[0] / "mlflow.db", other_root)
    assert tracking.sync(run_dirs, other_root) == []
    assert contents(other_root) == first


def test_a_new_evaluation_is_the_one_shown(root):
    run_dir = make_run(root)
    for name, ari in (("test-2e.json", 0.9), ("test-1f.json", 0.5)):
        write_json(run_dir / "evaluation" / name, {"summary": {"ari": ari}})
        assert tracking.sync([run_dir], root) == []
        assert find_run(root, run_dir).data.metrics["test/ari"] == ari
        time.sleep(0.02)
    append(run_dir, *lines_from(4, 2))  # the evaluation's step must not hide the steps of training
    tracking.sync([run_dir], root)
    assert file_points(run_dir) <= stored_points(root, run_dir)


def test_a_report_is_one_run_per_scale_with_its_files(root):
    report_dir = make_report(root)
    assert tracking.sync_report(report_dir, root)
    (report_dir / "table1.csv").write_text("ari\n0.99\n")
    assert tracking.sync_report(report_dir, root)
    (report,) = all_runs(root, "emorl-reports")
    assert (report.info.run_name, report.info.status) == ("report demo", "FINISHED")
    artifacts = Path(report.info.artifact_uri.removeprefix("file://"))
    assert artifacts.is_relative_to(root / "mlruns")
    assert (artifacts / "table1.csv").read_text() == "ari\n0.99\n"
    assert (artifacts / "figures/fig1.png").read_bytes() == b"png"


def test_the_pages_are_served_to_this_machine_alone(root, monkeypatch):
    command = tracking.ui_command(root, 5123)
    assert command[:4] == [sys.executable, "-m", "mlflow", "server"]
    options = dict(zip(command[4::2], command[5::2], strict=True))
    assert (options["--host"], options["--port"]) == ("127.0.0.1", "5123")
    assert options["--backend-store-uri"] == f"sqlite:///{root}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    with pytest.raises(UserError):
        tracking.ui_command(root, 5123)


def test_nothing_else_imports_mlflow_and_nothing_calls_home():
    package = Path(tracking.__file__).parent
    importing = {
        path.name
        for path in package.rglob("*.py")
        if re.search(r"^\s*(import|from) mlflow", path.read_text(), re.MULTILINE)
    }
    assert importing == {"tracking.py"}
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == os.environ["DO_NOT_TRACK"] == "true"


# ---- helpers ----


def make_run(root, dataset="tetrominoes", seed=0, lines=3, config=None, **changes):
    run_dir = root / "runs" / dataset / "emorl" / "base-0a1b" / f"seed{seed}"
    record = {"dataset": dataset, "model": "emorl", "variant": "base", "digest": "0a1b", "seed": seed}
    record |= {"scale": "test", "config": config or {"model": {"K": 7}}, "config_sha256": "cf", "steps": 5000}
    record |= {"code_digest": "cd", "git_commit": "c0ffee", "git_dirty": False, "started": NOW}
    record |= {"data": {"name": dataset, "source": "replica", "sha256": "d5"}}
    write_json(run_dir / "run.json", record | changes)
    (run_dir / "metrics.jsonl").unlink(missing_ok=True)
    append(run_dir, *lines_from(1, lines))
    return run_dir


def make_report(root):
    report_dir = root / "reports" / "demo"
    (report_dir / "figures").mkdir(parents=True, exist_ok=True)
    (report_dir / "table1.csv").write_text("ari\n0.9\n")
    (report_dir / "figures/fig1.png").write_bytes(b"png")
    return report_dir


def lines_from(first, count):
    keys = ("loss", "nll", "kl", "geco", "lr")
    return [
        {"step": 100 * i, "time": NOW + i} | {key: i + place / 7 for place, key in enumerate(keys)}
        for i in range(first, first + count)
    ]


def append(run_dir, *lines):
    with open(run_dir / "metrics.jsonl", "a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def finish(run_dir, status="finished"):
    record = json.loads((run_dir / "run.json").read_text())
    error = "RuntimeError: it was not to be" if status == "failed" else None
    write_json(run_dir / "manifest.json", record | {"status": status, "error": error, "ended": NOW + 999})


def file_points(run_dir):
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return Counter((k, line["step"], v) for line in lines for k, v in line.items() if k not in ("step", "time"))


def stored_points(root, run_dir):
    """Each row of the store's own table, so that doubles show."""
    query = """SELECT m.key, m.step, CASE WHEN m.is_nan THEN 'nan' ELSE m.value END FROM metrics m
               JOIN tags t ON t.run_uuid = m.run_uuid WHERE t.key = 'identity' AND t.value = ?"""
    with sqlite3.connect(f"file:{root}/mlflow.db?mode=ro", uri=True) as connection:
        return Counter(connection.execute(query, (str(run_dir.relative_to(root / "runs")),)).fetchall())


def all_runs(root, experiment="emorl-tetrominoes-test"):
    client = tracking.MlflowClient(f"sqlite:///{root}/mlflow.db")
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id])) if found else []


def find_run(root, run_dir):
    (run,) = [run for run in all_runs(root) if run.info.run_name == str(run_dir.relative_to(root / "runs"))]
    return run


def contents(root):
    """All that the folders say, without what the store makes up (ids, times of logging)."""
    return {
        run.info.run_name: (
            run.info.status,
            run.info.end_time,
            run.data.params,
            stored_points(root, root / "runs" / run.info.run_name),
            {key: value for key, value in run.data.tags.items() if key != "mlflow.parentRunId"},
        )
        for run in all_runs(root)
    }


class Follower:
    """A training process that does nothing and the thread that follows it, both ended with the block."""

    def __init__(self, run_dir, root):
        self.training = subprocess.Popen(["sleep", "60"])
        self.thread = threading.Thread(
            target=tracking.follow, args=(run_dir, root, self.training.pid, 0.05, 10), daemon=True
        )

    def __enter__(self):
        self.thread.start()
        return self

    def kill_training(self):
        self.training.kill()  # and nobody waits for it: a zombie is dead too

    def __exit__(self, *error):
        if any(error):
            self.training.kill()
        self.thread.join(timeout=20)
        self.training.kill()
        self.training.wait()
        assert not self.thread.is_alive()


def wait_until(condition, seconds=20):
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)
