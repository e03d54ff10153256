"""One run folder and its MLflow run.

MLflow writes a batch of metrics in one transaction, and a step is never split over two batches: so the latest step
of any key is the last one mirrored. Should a server take a batch that we gave up, nothing doubles either: its rows
have the key, step, time and value as their primary key.
"""

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Run, RunTag
from mlflow.utils import validation as limits

from emorl.pipeline.in_progress import IN_PROGRESS
from emorl.runtime.files import read_json, sha256_of_file
from emorl.runtime.usage import USAGE
from emorl.tracking.folders import is_trained, record_of
from emorl.tracking.layout import find_or_create_seed, milliseconds
from emorl.training.manifest import RunRecord, manifest_of
from emorl.training.metrics import METRICS

COMPARABLE = ("nll", "kl", "elbo", "mse", "learning_rate", "steps_per_second")
"""What training says of every system that has it, in the same sense and unit (nats per image, steps). All else,
`loss` first of all, is what one system makes of it, and is named after the system."""


def mirror(run_dir: Path, root: Path, client: MlflowClient) -> tuple[str, str] | None:
    """Bring a run's entry in the store to what its folder says. Of a run that has ended, return the experiment and its
    parent's identity: the mean over seeds may have changed.
    """
    record = record_of(run_dir)
    status, ended = _end(run_dir, record)  # before the lines: those of a run that has ended are then all there
    run = find_or_create_seed(client, record, root)
    if recorded := _recorded(run_dir, root):
        client.set_tag(run.info.run_id, "recorded", recorded, synchronous=True)
    for batch in batched(_new_points(run_dir, record, run)):
        client.log_batch(run.info.run_id, metrics=batch, synchronous=True)
    _send_evaluations(client, run_dir, run, record.steps)
    _set_status(client, run, status, ended)
    return (run.info.experiment_id, run.data.tags["identity"].rpartition("/")[0]) if ended else None


def batched(lines: Iterable[list[Metric]]) -> Iterator[list[Metric]]:
    """Whole lines in batches as large as MLflow takes."""
    batch: list[Metric] = []
    for line in lines:
        if len(batch) + len(line) > limits.MAX_METRICS_PER_BATCH:
            yield batch
            batch = []
        batch = batch + line
    if batch:
        yield batch


def evaluation_metrics(evaluation: dict[str, Any], kind: str, steps: int) -> list[Metric]:
    """Scores by `split/metric`, those of evaluations other than the decomposition by `split/evaluation/metric`.

    They belong to the last training step. Where something is varied (refinement steps, layers), it takes the place
    of the training step, and `split` that of `split_curves`. A failed run has no scores.
    """
    name, _, split = kind.partition("-")
    group = "" if name == "decomposition" else f"{name}/"
    now, metrics = milliseconds(time.time()), []
    for key, value in evaluation["summary"].items():
        if isinstance(value, dict):
            curve = f"{split}_curves/{name}/{key}"
            metrics += [Metric(curve, number, now, int(float(at))) for at, number in value.items()]
        else:
            metrics.append(Metric(f"{split}/{group}{key}", value, now, steps))
    return metrics


def _recorded(run_dir: Path, root: Path) -> str | None:
    """Where git keeps this run, relative to the project; None of one of `runs/`."""
    run_dir, root = run_dir.resolve(), root.resolve()
    return run_dir.relative_to(root).as_posix() if run_dir.is_relative_to(root / IN_PROGRESS.parent) else None


def _new_points(run_dir: Path, record: RunRecord, run: Run) -> Iterator[list[Metric]]:
    """The lines of metrics.jsonl and usage.jsonl behind the last step that the store has of each."""
    latest = run.data.to_proto().metrics
    own = f"train/{record.model}/"
    for file, shared, other, since in (
        (METRICS, "train/", own, 0.0),
        (USAGE, "system/", "system/", record.started),  # it may begin with those of an earlier start
    ):
        last_step = max((metric.step for metric in latest if metric.key.startswith(shared)), default=-1)
        for line in _lines(run_dir / file):
            step, when = line.pop("step"), line.pop("time")
            if step > last_step and when >= since:
                names = {key: f"{shared if key in COMPARABLE else other}{key}" for key in line}
                yield [Metric(names[key], value, milliseconds(when), step) for key, value in line.items()]


def _send_evaluations(client: MlflowClient, run_dir: Path, run: Run, steps: int) -> None:
    """Send the summaries in evaluation/*.json that the store does not show; of each kind the newest file counts.

    The tag that says which file it was goes with its metrics in one transaction.
    """
    newest = {}
    for path in sorted(run_dir.glob("evaluation/*.json"), key=lambda path: path.stat().st_mtime):
        newest[path.name.rpartition("-")[0]] = path
    for kind, path in newest.items():
        tag = RunTag(f"evaluation.{kind}", f"{path.name} {sha256_of_file(path)[:16]}")
        if run.data.tags.get(tag.key) != tag.value:
            metrics = evaluation_metrics(read_json(path), kind, steps)
            client.log_batch(run.info.run_id, metrics=metrics, tags=[tag], synchronous=True)


def _end(run_dir: Path, record: RunRecord) -> tuple[str, float | None]:
    """The run's status and its end: what the manifest tells or, without one, death at the last line."""
    trained = is_trained(run_dir)  # before the manifest, which a training writes before it lets go
    if manifest := manifest_of(run_dir):
        return manifest.status, manifest.ended
    if trained:
        return "running", None
    return "killed", max((line["time"] for line in _lines(run_dir / METRICS)), default=record.started)


def _set_status(client: MlflowClient, run: Run, status: str, ended: float | None) -> None:
    name, end = status.upper(), None if ended is None else milliseconds(ended)
    if name == run.info.status and end in (None, run.info.end_time):
        return
    client.set_tag(run.info.run_id, "status", status, synchronous=True)
    if end is None:
        client.update_run(run.info.run_id, name)
    else:
        client.set_terminated(run.info.run_id, name, end)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The complete lines."""
    if path.exists():
        with open(path, "rb") as file:
            yield from (json.loads(line) for line in file if line.endswith(b"\n"))  # else still being written
