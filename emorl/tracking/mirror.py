"""One run folder and its MLflow run, as the store knew it; to be dropped at the first failure.

MLflow writes a batch of metrics in one transaction, and a step is never split over two batches: so the latest step
of any key is the last one mirrored. Should a server take a batch that we gave up, nothing doubles either: its rows
have the key, step, time and value as their primary key.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag
from mlflow.utils import validation as limits

from emorl.files import read_json, sha256_of_file
from emorl.tracking.layout import find_or_create_seed, milliseconds
from emorl.tracking.usage import USAGE

COMPARABLE = ("nll", "kl", "elbo", "mse", "learning_rate", "steps_per_second")
"""What training says of every system that has it, in the same sense and unit (nats per image, steps). All else,
`loss` first of all, is what one system makes of it, and is named after the system."""

Line = dict[str, Any]


class Mirror:
    """Brings a run's entry in the store to what its folder says."""

    def __init__(self, run_dir: Path, root: Path, client: MlflowClient) -> None:
        self.run_dir = run_dir
        self.client = client
        self.record = read_json(run_dir / "run.json")
        run = find_or_create_seed(client, self.record, root)
        self.run_id, self.experiment, self.tags = run.info.run_id, run.info.experiment_id, run.data.tags
        self.parent = run.data.tags["identity"].rpartition("/")[0]
        self.state = (run.info.status, run.info.end_time)
        latest = {metric.key: metric.step for metric in run.data.to_proto().metrics}
        self.tails = [
            _Tail(run_dir / "metrics.jsonl", latest, "train/", self._training_key),
            _Tail(run_dir / USAGE, latest, "system/", lambda key: f"system/{key}", self.record["started"]),
        ]

    def send_lines(self, give_up: float = math.inf) -> None:
        """Send what was appended to metrics.jsonl and usage.jsonl since the last call. Raises TimeoutError."""
        for tail in self.tails:
            for batch in tail.batches():
                if time.monotonic() > give_up:
                    raise TimeoutError("the deadline passed before the last points were sent")
                self.client.log_batch(self.run_id, metrics=batch, synchronous=True)

    def send_evaluations(self) -> None:
        """Send the summaries in evaluation/*.json that the store does not show; of each kind the newest file counts.

        The tag that says which file it was goes with its metrics in one transaction.
        """
        newest = {}
        for path in sorted(self.run_dir.glob("evaluation/*.json"), key=lambda path: path.stat().st_mtime):
            newest[path.name.rpartition("-")[0]] = path
        for kind, path in newest.items():
            tag = RunTag(f"evaluation.{kind}", f"{path.name} {sha256_of_file(path)[:16]}")
            if self.tags.get(tag.key) != tag.value:
                metrics = evaluation_metrics(read_json(path), kind, self.record["steps"])
                self.client.log_batch(self.run_id, metrics=metrics, tags=[tag], synchronous=True)

    def conclude(self) -> None:
        """Set the end that the manifest tells or, without one, death at the last line."""
        try:
            manifest = read_json(self.run_dir / "manifest.json")
            self.set_status(manifest["status"], manifest["ended"])
        except FileNotFoundError:
            times = [line["time"] for line, _ in _lines(self.run_dir / "metrics.jsonl", offset=0)]
            self.set_status("killed", max(times, default=self.record["started"]))

    def set_status(self, status: str, ended: float | None = None) -> None:
        name, end = status.upper(), None if ended is None else milliseconds(ended)
        if name == self.state[0] and end in (None, self.state[1]):
            return
        self.client.set_tag(self.run_id, "status", status, synchronous=True)
        if end is None:
            self.client.update_run(self.run_id, name)
        else:
            self.client.set_terminated(self.run_id, name, end)
        self.state = (name, end)

    def _training_key(self, key: str) -> str:
        return f"train/{key}" if key in COMPARABLE else f"train/{self.record['model']}/{key}"


def evaluation_metrics(evaluation: dict[str, Any], kind: str, steps: int) -> list[Metric]:
    """Scores by `split/metric`, those of evaluations other than the decomposition by `split/evaluation/metric`.

    They belong to the last training step. Where something is varied (refinement steps, layers), it takes the place
    of the training step, and `split` that of `split_curves`. A failed run has no scores.
    """
    name, _, split = kind.partition("-")
    group = "" if name == "decomposition" else f"{name}/"
    now, metrics = milliseconds(time.time()), []
    for key, value in evaluation.get("summary", {}).items():
        if isinstance(value, dict):
            curve = f"{split}_curves/{name}/{key}"
            metrics += [Metric(curve, number, now, int(float(at))) for at, number in value.items()]
        else:
            metrics.append(Metric(f"{split}/{group}{key}", value, now, steps))
    return metrics


class _Tail:
    """A file of lines, and how far it is mirrored: `latest` are the steps that the store has by key."""

    def __init__(
        self, path: Path, latest: dict[str, int], prefix: str, rename: Callable[[str], str], since: float = 0.0
    ) -> None:
        self.path, self.rename, self.since = path, rename, since
        self.last_step = max((step for key, step in latest.items() if key.startswith(prefix)), default=-1)
        self.offset = 0  # bytes that are mirrored

    def batches(self) -> Iterator[list[Metric]]:
        """What is new, in batches; one counts as mirrored when the next is asked for."""
        new = (
            (line, offset)
            for line, offset in _lines(self.path, self.offset)
            if line["step"] > self.last_step and line["time"] >= self.since
        )
        for batch, offset in batched(new, self.rename):
            yield batch
            self.offset = offset


def batched(lines: Iterable[tuple[Line, int]], rename: Callable[[str], str]) -> Iterator[tuple[list[Metric], int]]:
    """Whole lines in batches as large as MLflow takes, each with the offset of its end."""
    batch: list[Metric] = []
    end = 0
    for line, offset in lines:
        step, when = line.pop("step"), milliseconds(line.pop("time"))
        if len(batch) + len(line) > limits.MAX_METRICS_PER_BATCH:
            yield batch, end
            batch = []
        batch += [Metric(rename(key), value, when, step) for key, value in line.items()]
        end = offset
    if batch:
        yield batch, end


def _lines(path: Path, offset: int) -> Iterator[tuple[Line, int]]:
    """The complete lines behind `offset`, each with the offset of its end."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):  # still being written
                return
            offset += len(line)
            yield json.loads(line), offset
