"""MLflow as a mirror of the run folders. They are the truth: a lost store is built again from them.

A process of its own mirrors a run, so training neither imports MLflow nor waits for it. Whatever fails, the
mirror forgets what it knew and asks the store anew, at its next look at the folder, how far it has come.
"""

import fcntl
import json
import math
import os
import re
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TextIO

# Set before MLflow is imported: it calls home unless told not to, logs at length what we say in a line, and
# retries a lost server for minutes, where our next look is the retry. The pages need no workers for jobs.
os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils import validation as limits

from emorl.errors import UserError
from emorl.files import atomic_path, read_json

MIRROR_LOCK = ".mirror.lock"  # in the run folder: held by the one process that mirrors it
STORE_LOCK = "mlflow.db.lock"  # in the project root: held while the store or a run in it is found or created
STORE_LOCK_SECONDS = 60  # a new store takes 6 to 10 s, and 16 mirrors may queue behind it
LINGER_SECONDS = 80  # a follower notices the end of its run within a poll, and then has its deadline
SQLITE_BUSY_SECONDS = 5  # a write of another mirror takes well below a second


def follow(run_dir: Path, root: Path, pid: int | None, poll_seconds: float = 10, deadline_seconds: float = 60) -> None:
    """Mirror a run folder while it is written, until its manifest appears or the process `pid` is gone.

    From then on it has `deadline_seconds` (and the store call under way) for what is left. A store that is
    locked or away never raises. If another process keeps mirroring the folder, this one returns quietly.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    # The follower of a killed run lingers for a poll and the deadline at most: a quick resume outwaits it.
    with _locked(run_dir / MIRROR_LOCK, poll_seconds + deadline_seconds) as mine:
        if mine:
            _follow(run_dir, root, pid, poll_seconds, deadline_seconds)


def sync(run_dirs: Iterable[Path], root: Path) -> list[Path]:
    """Mirror run folders as they are now, with their evaluations; return those that could not be mirrored.

    A folder that has a follower is left to it; one that has neither follower nor manifest was killed.
    """
    waiting, missed = list(run_dirs), []
    while waiting:
        run_dir = waiting.pop(0)
        ended = (run_dir / "manifest.json").exists()
        try:
            # Another mirror keeps the lock of a run in training; of one that has ended it soon lets go.
            with _locked(run_dir / MIRROR_LOCK, LINGER_SECONDS if ended else 0) as mine:
                if mine:
                    mirror = _Mirror(run_dir, root, _open_store(root))
                    mirror.send_lines()
                    mirror.send_evaluations()
                    mirror.conclude()
                elif ended:
                    raise TimeoutError("another process keeps mirroring it")
        except Exception as error:
            _say(f"{run_dir} is not mirrored: {_brief(error)}")
            missed.append(run_dir)
            if not _is_reachable(root):
                return missed + waiting
    return missed


def sync_report(report_dir: Path, root: Path) -> bool:
    """Log `reports/SCALE/` as artifacts of the run `report SCALE`; return whether that worked."""
    scale = report_dir.name
    try:
        client = _open_store(root)
        with _store_lock(root):
            experiment = _find_or_create_experiment(client, "emorl-reports", root)
            report = _find_or_create_run(client, experiment, f"report {scale}", time.time(), {"scale": scale})
        client.log_artifacts(report.info.run_id, str(report_dir))
        client.set_terminated(report.info.run_id)
    except Exception as error:
        _say(f"{report_dir} is not mirrored: {_brief(error)}")
        return False
    return True


def ui_command(root: Path, port: int) -> list[str]:
    """The command that serves the store's pages to this machine alone."""
    uri = _store_uri(root)
    if uri.startswith("http"):
        raise UserError("MLFLOW_TRACKING_URI already names a server: open that address in a browser.")
    _ensure_store(root)
    server = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    artifacts = str(root.resolve() / "mlruns")
    return [*server, "--workers", "1", "--backend-store-uri", uri, "--artifacts-destination", artifacts]


# ---- one run folder ----


def _follow(run_dir: Path, root: Path, pid: int | None, poll_seconds: float, deadline_seconds: float) -> None:
    mirror: _Mirror | None = None
    failing = False
    give_up = math.inf
    while True:
        alive = pid is None or _is_alive(pid)  # asked before the manifest, which may be the run's last act
        ended = (run_dir / "manifest.json").exists() or not alive
        if ended:
            give_up = min(give_up, time.monotonic() + deadline_seconds)
        try:
            if (run_dir / "run.json").exists():
                client = _open_store(root)  # fails early where another call would hang
                if mirror is None or mirror.record != read_json(run_dir / "run.json"):  # written anew by a resume
                    mirror = _Mirror(run_dir, root, client)
                mirror.send_lines(give_up)
                if ended:
                    mirror.conclude()
                else:
                    mirror.set_status("running")
            if failing:
                _say(f"{run_dir} is mirrored again")
            failing = False
        except Exception as error:
            mirror = None
            if not failing:
                _say(f"{run_dir} is not mirrored for now, training goes on: {_brief(error)}")
            failing = True
        if ended and not failing:
            return
        if time.monotonic() >= give_up:
            _say(f"{run_dir} has ended and is not wholly mirrored: run `emorl track sync` later")
            return
        time.sleep(max(0.0, min(poll_seconds, give_up - time.monotonic())))


class _Mirror:
    """A run folder and its MLflow run as the store knew it; to be dropped at the first failure.

    MLflow writes a batch of metrics in one transaction, and a step is never split over two batches: so the
    latest step of any key is the last one mirrored. Should a server take a batch that we gave up, nothing
    doubles either: its rows have the key, step, time and value as their primary key.
    """

    def __init__(self, run_dir: Path, root: Path, client: MlflowClient) -> None:
        self.run_dir = run_dir
        self.client = client
        self.record = read_json(run_dir / "run.json")
        run = _find_or_create_seed(client, self.record, root)
        self.run_id = run.info.run_id
        self.state = (run.info.status, run.info.end_time)
        self.latest = {metric.key: metric for metric in run.data.to_proto().metrics}
        trained = [metric.step for key, metric in self.latest.items() if not key.startswith("test/")]
        self.last_step = max(trained, default=-1)
        self.offset = 0  # bytes of metrics.jsonl that are mirrored

    def send_lines(self, give_up: float = math.inf) -> None:
        """Send what was appended to metrics.jsonl since the last call."""
        for batch, offset in _batches(_lines(self.run_dir, self.offset), self.last_step):
            if time.monotonic() > give_up:
                raise TimeoutError("the deadline passed before the last points were sent")
            self.client.log_batch(self.run_id, metrics=batch, synchronous=True)
            self.offset = offset

    def send_evaluations(self) -> None:
        """Send the summaries in evaluation/*.json where they are not what the store shows; the newest file counts."""
        summary = {}
        for path in sorted(self.run_dir.glob("evaluation/*.json"), key=lambda path: path.stat().st_mtime):
            summary |= read_json(path).get("summary", {})  # a failed run has none
        now, step = _milliseconds(time.time()), self.record["steps"]
        metrics = [Metric(f"test/{name}", value, now, step) for name, value in summary.items()]
        shown = {key: str(metric.value) for key, metric in self.latest.items()}  # as text, NaN is NaN
        changed = [metric for metric in metrics if shown.get(metric.key) != str(metric.value)]
        self.client.log_batch(self.run_id, metrics=changed, synchronous=True)

    def conclude(self) -> None:
        """Set the end that the manifest tells or, without one, death at the last line."""
        try:
            manifest = read_json(self.run_dir / "manifest.json")
            self.set_status(manifest["status"], manifest["ended"])
        except FileNotFoundError:
            times = [line["time"] for line, _ in _lines(self.run_dir, offset=0)]
            self.set_status("killed", max(times, default=self.record["started"]))

    def set_status(self, status: str, ended: float | None = None) -> None:
        name, end = status.upper(), None if ended is None else _milliseconds(ended)
        if name == self.state[0] and end in (None, self.state[1]):
            return
        self.client.set_tag(self.run_id, "status", status, synchronous=True)
        if end is None:
            self.client.update_run(self.run_id, name)
        else:
            self.client.set_terminated(self.run_id, name, end)
        self.state = (name, end)


def _lines(run_dir: Path, offset: int) -> Iterator[tuple[dict[str, Any], int]]:
    """The complete lines of metrics.jsonl behind `offset`, each with the offset of its end."""
    path = run_dir / "metrics.jsonl"
    if not path.exists():
        return
    with open(path, "rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):  # still being written
                return
            offset += len(line)
            yield json.loads(line), offset


def _batches(lines: Iterable[tuple[dict, int]], last_step: int) -> Iterator[tuple[list[Metric], int]]:
    """Whole lines behind `last_step`, in batches as large as MLflow takes, each with its end's offset."""
    batch: list[Metric] = []
    end = 0
    for line, offset in lines:
        step, when = line.pop("step"), _milliseconds(line.pop("time"))
        if step <= last_step:
            continue
        if len(batch) + len(line) > limits.MAX_METRICS_PER_BATCH:
            yield batch, end
            batch = []
        batch += [Metric(key, value, when, step) for key, value in line.items()]
        end = offset
    if batch:
        yield batch, end


# ---- runs in the store ----


def _find_or_create_seed(client: MlflowClient, record: dict[str, Any], root: Path) -> Run:
    """The run of one seed below its parent, with all its params, and its tags as of today.

    One experiment is one data set at one scale: what a plot may compare. So demo and paper runs are apart in
    the very list of experiments, where the prefix keeps ours together on a server that has others.
    """
    shared = {key: record[key] for key in ("dataset", "model", "variant", "digest", "scale")}
    own = {key: record[key] for key in ("seed", "git_commit", "git_dirty", "config_sha256", "code_digest")}
    data = {"data_source": record["data"]["source"], "data_sha256": record["data"]["sha256"]}
    name = f"{record['dataset']}/{record['model']}/{record['variant']}-{record['digest']}"
    started = record["started"]
    with _store_lock(root):
        experiment = _find_or_create_experiment(client, f"emorl-{record['dataset']}-{record['scale']}", root)
        parent = _find_or_create_run(client, experiment, name, started, shared)
        if parent.info.status == "RUNNING":  # it is a heading over seeds and has no end of its own
            client.set_terminated(parent.info.run_id, end_time=_milliseconds(started))
        tags = {**shared, **own, **data, "mlflow.parentRunId": parent.info.run_id}
        seed_name, new_tags = f"{name}/seed{record['seed']}", {**tags, "status": "running"}
        run = _find_or_create_run(client, experiment, seed_name, started, new_tags)
        if run.info.start_time != _milliseconds(started):  # not resumed but begun again: those points are no more
            client.delete_run(run.info.run_id)
            run = _find_or_create_run(client, experiment, seed_name, started, new_tags)
    # A param can be set only once, and a mirror killed after it created the run leaves some unset.
    params = [Param(key, value) for key, value in _flatten(record["config"]) if key not in run.data.params]
    for first in range(0, len(params), limits.MAX_PARAMS_TAGS_PER_BATCH):
        chunk = params[first : first + limits.MAX_PARAMS_TAGS_PER_BATCH]
        client.log_batch(run.info.run_id, params=chunk, synchronous=True)
    changed = [RunTag(key, str(tag)) for key, tag in tags.items() if run.data.tags.get(key) != str(tag)]
    client.log_batch(run.info.run_id, tags=changed, synchronous=True)
    return run


def _find_or_create_experiment(client: MlflowClient, name: str, root: Path) -> str:
    if experiment := client.get_experiment_by_name(name):
        return experiment.experiment_id
    local = _sqlite_file(_store_uri(root)) is not None  # a server has its own place for artifacts
    return client.create_experiment(name, str(root.resolve() / "mlruns" / name) if local else None)


def _find_or_create_run(client: MlflowClient, experiment: str, name: str, started: float, tags: dict[str, Any]) -> Run:
    if found := client.search_runs([experiment], f"tags.identity = '{name}'", max_results=1):
        return found[0]
    tags = {**tags, "identity": name}  # the name itself can be edited in the pages
    return client.create_run(experiment, _milliseconds(started), {k: str(v) for k, v in tags.items()}, name)


def _flatten(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            yield f"{prefix}{key}", text[: limits.MAX_PARAM_VAL_LENGTH]


# ---- the store ----


def _store_uri(root: Path) -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root.resolve() / 'mlflow.db'}"


def _sqlite_file(uri: str) -> Path | None:
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def _open_store(root: Path) -> MlflowClient:
    """A client of a store that answers now; MLflow alone would wait on a sick one for up to 100 s."""
    _ensure_store(root)
    uri = _store_uri(root)
    if database := _sqlite_file(uri):
        with closing(sqlite3.connect(database, timeout=SQLITE_BUSY_SECONDS)) as connection:
            connection.execute("BEGIN IMMEDIATE")
    client = MlflowClient(uri)
    client.search_experiments(max_results=1)
    return client


def _ensure_store(root: Path) -> None:
    """Create the sqlite store if there is none, whole or not at all; MLflow's own creation is a race."""
    database = _sqlite_file(_store_uri(root))
    if database is None or database.exists():
        return
    with _store_lock(root):
        if not database.exists():
            with atomic_path(database) as new:
                with closing(sqlite3.connect(new)) as connection:
                    connection.execute("PRAGMA journal_mode=WAL")  # the file remembers it
                SqlAlchemyStore(f"sqlite:///{new}", str(root.resolve() / "mlruns")).engine.dispose()


def _is_reachable(root: Path) -> bool:
    try:
        _open_store(root)
    except Exception:
        return False
    return True


@contextmanager
def _store_lock(root: Path) -> Iterator[None]:
    with _locked(root / STORE_LOCK, STORE_LOCK_SECONDS) as held:
        if not held:
            raise TimeoutError(f"others held {root / STORE_LOCK} for {STORE_LOCK_SECONDS} s")
        yield


@contextmanager
def _locked(path: Path, seconds: float) -> Iterator[bool]:
    """Hold a lock file, which the system frees if we die; yield whether it was to be had in time."""
    give_up = time.monotonic() + seconds
    with open(path, "a") as file:
        while not (held := _try_lock(file)) and time.monotonic() < give_up:
            time.sleep(0.1)
        yield held


def _try_lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# ---- small things ----


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"  # killed, and its parent has not asked how it ended


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _say(sentence: str) -> None:
    print("emorl track:", re.sub(r"://[^/@\s]*@", "://", sentence), file=sys.stderr, flush=True)  # no passwords
