"""Run folders as the engine writes them, and what a store shows of them."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter

import sqlalchemy

from emorl.runtime.files import write_json
from emorl.runtime.locks import TRAINING_LOCK, locked
from emorl.runtime.usage import USAGE, UsageLog
from emorl.tracking.mirror import COMPARABLE
from emorl.tracking.store import MlflowClient  # from there: our settings come before MLflow's own
from emorl.tracking.sync import sync
from emorl.tracking.watch import watch
from emorl.training.manifest import Manifest, RunRecord

NOW = 1_790_000_000.0


def watch_all(root, uri, said, pid):
    """The work of one process: mirror the runs of a project until the process `pid` is gone."""
    with _saying(uri, said):
        watch(root, pid=pid, poll_seconds=2, deadline_seconds=120)


def sync_often(root, uri, said, run_dirs):
    """The work of another one."""
    with _saying(uri, said):
        for _ in range(2):
            print(*(trouble.sentence for trouble in sync(run_dirs, root).values()), sep="\n", end="", file=sys.stderr)


@contextlib.contextmanager
def _saying(uri, said):
    if uri:
        os.environ["MLFLOW_TRACKING_URI"] = uri
    with open(said, "w") as file, contextlib.redirect_stderr(file):
        yield


def training(run_dir):
    """Be the process that trains this run."""
    return locked(run_dir / TRAINING_LOCK, seconds=1)


def make_run(root, dataset="tetrominoes", seed=0, lines=3, config=None, started=NOW, git_commit="c0ffee"):
    run_dir = root / "runs" / dataset / "emorl" / "base-0a1b" / f"seed{seed}"
    data = {"name": dataset, "source": "replica", "sha256": "d5", "train_sha256": "d5", "scenes": {"train": 64}}
    machine = {"python": "3.11", "torch": "2", "numpy": "2", "lock_sha256": "10", "platform": "", "threads": 1}
    start = {"time": started, "git_commit": git_commit, "git_dirty": False, "code_digest": "cd", "processes": 1}
    start |= {"step": 0, "environment": machine | {"cpu": None, "cpu_count": 2, "gpu": None}}
    record = {"dataset": dataset, "model": "emorl", "variant": "base", "digest": "0a1b", "seed": seed}
    record |= {"scale": "test", "config": config or {"model": {"K": 7}}, "config_sha256": "cf", "data": data}
    record |= {"data_digest": "dd", "computes": "c0", "started": started, "steps": 5000, "starts": [start]}
    RunRecord(**record).write(run_dir / RunRecord.FILE)
    (run_dir / "metrics.jsonl").unlink(missing_ok=True)
    append(run_dir, *lines_from(1, lines))
    return run_dir


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
    record = RunRecord.read(run_dir / RunRecord.FILE)
    error = "RuntimeError: it was not to be" if status == "failed" else None
    end = {"status": status, "error": error, "ended": NOW + 999, "wall_seconds": 999.0}
    manifest = Manifest(**vars(record), **end, precision="float32", compiled=False, parameters=7)
    manifest.write(run_dir / Manifest.FILE)


def evaluate(run_dir, name="decomposition-test-1f.json", **summary):
    write_json(run_dir / "evaluation" / name, {"summary": summary})


def sample(run_dir):
    """A sample of what this process uses, as of a training."""
    UsageLog(run_dir / USAGE, seconds=0).update()


def file_points(run_dir):
    """What metrics.jsonl says, by the names it has in the store."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return Counter(
        (f"train/{key}" if key in COMPARABLE else f"train/emorl/{key}", line["step"], value)
        for line in lines
        for key, value in line.items()
        if key not in ("step", "time")
    )


def uri_of(root):
    return f"sqlite:///{root}/mlflow.db"


def stored_points(root, run_dir, prefix="train/", uri=None):
    """Each row of the store's own table, so that doubles show."""
    query = """SELECT m.key, m.step, m.value, m.is_nan FROM metrics m JOIN tags t ON t.run_uuid = m.run_uuid
               JOIN runs r ON r.run_uuid = m.run_uuid
               WHERE t.key = 'identity' AND t.value = :name AND m.key LIKE :prefix AND r.lifecycle_stage = 'active'"""
    engine = sqlalchemy.create_engine(uri or uri_of(root), poolclass=sqlalchemy.NullPool)
    parameters = {"name": str(run_dir.relative_to(root / "runs")), "prefix": f"{prefix}%"}
    with engine.connect() as connection:
        rows = connection.execute(sqlalchemy.text(query), parameters).fetchall()
    return Counter((key, step, "nan" if is_nan else value) for key, step, value, is_nan in rows)


def all_runs(root, experiment="emorl-tetrominoes-test", uri=None):
    client = MlflowClient(uri or uri_of(root))
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id])) if found else []


def find_run(root, run_dir):
    return find_identity(root, str(run_dir.relative_to(root / "runs")))


def find_parent(root, run_dir):
    return find_identity(root, str(run_dir.parent.relative_to(root / "runs")))


def find_identity(root, identity):
    (run,) = [run for run in all_runs(root) if run.data.tags["identity"] == identity]
    return run


def contents(root):
    """All that the folders say, without what the store makes up (ids, times of logging)."""
    return {
        run.data.tags["identity"]: (
            run.info.run_name,
            run.info.status,
            run.info.end_time,
            run.data.params,
            stored_points(root, root / "runs" / run.data.tags["identity"], prefix=""),
            {key: value for key, value in run.data.tags.items() if key != "mlflow.parentRunId"},
            [entry.dataset.digest for entry in run.inputs.dataset_inputs],
        )
        for run in all_runs(root)
    }


class Training:
    """A process that does nothing but hold the run's lock, killed with the block at the latest."""

    def __init__(self, run_dir):
        run_dir.mkdir(parents=True, exist_ok=True)
        code = """if True:
            import sys, time
            from pathlib import Path
            from emorl.runtime.locks import locked
            with locked(Path(sys.argv[1]), seconds=1):
                print("begun", flush=True)
                time.sleep(600)"""
        command = [sys.executable, "-c", code, str(run_dir / TRAINING_LOCK)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"begun\n"

    def __enter__(self):
        return self

    def kill(self):
        self.process.kill()  # and nobody waits for it: a zombie holds nothing

    def __exit__(self, *error):
        self.kill()
        self.process.communicate()


class Watcher:
    """A workflow that does nothing and the thread that mirrors its runs, both ended with the block."""

    def __init__(self, run_dir, root):
        self.workflow = subprocess.Popen(["sleep", "600"])
        arguments = (root, [run_dir], self.workflow.pid, 0.05, 10)
        self.thread = threading.Thread(target=watch, args=arguments, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.workflow.kill()  # and nobody waits for it: a zombie is gone too
        self.thread.join(timeout=60)
        self.workflow.wait()
        assert not self.thread.is_alive()


def wait_until(condition, seconds=60):
    """A store that is locked between the mirror's probe and its write keeps MLflow waiting for 20 s."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)
