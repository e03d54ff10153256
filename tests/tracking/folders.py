"""Run folders as the engine writes them, and what a store shows of them."""

import contextlib
import json
import os
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy

from emorl.files import write_json
from emorl.tracking.follow import follow
from emorl.tracking.mirror import COMPARABLE
from emorl.tracking.store import MlflowClient  # from there: our settings come before MLflow's own

NOW = 1_790_000_000.0


def follow_all(run_dirs, root, uri, said):
    """The work of one process: a follower for each run, a thread each."""
    if uri:
        os.environ["MLFLOW_TRACKING_URI"] = uri
    with open(said, "w") as file, contextlib.redirect_stderr(file), ThreadPoolExecutor(len(run_dirs)) as threads:
        for following in [threads.submit(follow, run_dir, root, None, 2, 120) for run_dir in run_dirs]:
            following.result()


def make_run(root, dataset="tetrominoes", seed=0, lines=3, config=None, **changes):
    run_dir = root / "runs" / dataset / "emorl" / "base-0a1b" / f"seed{seed}"
    record = {"dataset": dataset, "model": "emorl", "variant": "base", "digest": "0a1b", "seed": seed}
    record |= {"scale": "test", "config": config or {"model": {"K": 7}}, "config_sha256": "cf", "steps": 5000}
    record |= {"code_digest": "cd", "git_commit": "c0ffee", "git_dirty": False, "started": NOW}
    record |= {"data": {"name": dataset, "source": "replica", "sha256": "d5", "scenes": {"train": 64}}}
    write_json(run_dir / "run.json", record | changes)
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
    record = json.loads((run_dir / "run.json").read_text())
    error = "RuntimeError: it was not to be" if status == "failed" else None
    write_json(run_dir / "manifest.json", record | {"status": status, "error": error, "ended": NOW + 999})


def evaluate(run_dir, name="decomposition-test-1f.json", **summary):
    write_json(run_dir / "evaluation" / name, {"summary": summary})


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


class Follower:
    """A training process that does nothing and the thread that follows it, both ended with the block."""

    def __init__(self, run_dir, root):
        self.training = subprocess.Popen(["sleep", "600"])
        self.thread = threading.Thread(target=follow, args=(run_dir, root, self.training.pid, 0.05, 10), daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def kill_training(self):
        self.training.kill()  # and nobody waits for it: a zombie is dead too

    def __exit__(self, *error):
        if any(error):
            self.training.kill()
        self.thread.join(timeout=60)
        self.training.kill()
        self.training.wait()
        assert not self.thread.is_alive()


def wait_until(condition, seconds=60):
    """A store that is locked between the mirror's probe and its write keeps MLflow waiting for 20 s."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)
