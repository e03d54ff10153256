"""Where a run is found: experiment (data set and scale), parent (system, variant, digest), seed.

One experiment is one data set at one scale: what a plot may compare. So demo and paper runs are apart in the very
list of experiments, where the prefix keeps ours together on a server that has others. Names can be edited in the
pages; the tag `identity` is what a run is found by.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Param, Run, RunTag
from mlflow.utils import validation as limits

from emorl.tracking.locks import store_lock
from emorl.tracking.store import artifact_folder

PARENT = "mlflow.parentRunId"
DESCRIPTION = "mlflow.note.content"
MODEL_TRAINING = {"mlflow.experimentKind": "custom_model_development"}  # the kind of pages MLflow shows

ABOUT_EXPERIMENT = (
    "Scale {scale}, data set {dataset}: a run for each system and variant, its seeds below it. "
    "`test/` are scores on held-out images, `train/` what training says of itself, `system/` what it used."
)
ABOUT_PARENT = (
    "All seeds of {model}, variant {variant}: their mean scores (`_mean`) and standard deviations (`_sd`) over the "
    "`test/n` seeds that have scores; `test/failed` have none, as they diverged."
)
ABOUT_REPORTS = "Tables, figures and verdicts: the artifacts of one run for each scale."


def find_or_create_seed(client: MlflowClient, record: dict[str, Any], root: Path) -> Run:
    """The run of one seed below its parent, with all its params, and its tags as of today."""
    shared = {key: record[key] for key in ("dataset", "model", "variant", "digest", "scale")}
    own = {key: record[key] for key in ("seed", "git_commit", "git_dirty", "config_sha256", "code_digest")}
    data = {"data_source": record["data"]["source"], "data_sha256": record["data"]["sha256"]}
    source = {"mlflow.source.name": "emorl train", "mlflow.source.git.commit": record["git_commit"]}
    group, started = f"{record['model']}/{record['variant']}-{record['digest']}", record["started"]
    identity = f"{record['dataset']}/{group}"
    with store_lock(root):
        experiment = find_or_create_experiment(client, record["dataset"], record["scale"], root)
        about = {DESCRIPTION: ABOUT_PARENT.format(**record)}
        parent = find_or_create_run(client, experiment, identity, group, started, shared | about)
        if parent.info.status == "RUNNING":  # it is a heading over seeds and has no life of its own
            client.set_terminated(parent.info.run_id, end_time=milliseconds(started))
        tags = {**shared, **own, **data, **source, PARENT: parent.info.run_id}
        name, new_tags = f"seed{record['seed']} {group}", {**tags, "status": "running"}
        seed = f"{identity}/seed{record['seed']}"
        run = find_or_create_run(client, experiment, seed, name, started, new_tags)
        if run.info.start_time != milliseconds(started):  # not resumed but begun again: those points are no more
            client.delete_run(run.info.run_id)
            run = find_or_create_run(client, experiment, seed, name, started, new_tags)
    # A param can be set only once, and a mirror killed after it created the run leaves some unset.
    params = [Param(key, value) for key, value in _flatten(record["config"]) if key not in run.data.params]
    changed = [RunTag(key, str(tag)) for key, tag in tags.items() if run.data.tags.get(key) != str(tag)]
    client.log_batch(run.info.run_id, params=params, tags=changed, synchronous=True)
    if not run.inputs.dataset_inputs:
        client.log_inputs(run.info.run_id, [_dataset(record["data"])])
    return run


def find_or_create_experiment(client: MlflowClient, dataset: str, scale: str, root: Path) -> str:
    name, tags = experiment_name(dataset, scale), {"dataset": dataset, "scale": scale}
    return _find_or_create(client, name, ABOUT_EXPERIMENT.format(**tags), tags, root)


def find_or_create_reports(client: MlflowClient, root: Path) -> str:
    return _find_or_create(client, "emorl-reports", ABOUT_REPORTS, {}, root)


def experiment_name(dataset: str, scale: str) -> str:
    return f"emorl-{dataset}-{scale}"


def _find_or_create(client: MlflowClient, name: str, about: str, tags: dict[str, str], root: Path) -> str:
    if experiment := client.get_experiment_by_name(name):
        return experiment.experiment_id
    return client.create_experiment(name, artifact_folder(root, name), {**tags, **MODEL_TRAINING, DESCRIPTION: about})


def find_runs(client: MlflowClient, experiment: str, identity: str) -> list[Run]:
    """All of this identity, the one to keep first: several only if two projects created it at once."""
    return client.search_runs([experiment], f"tags.identity = '{identity}'", order_by=["attributes.start_time ASC"])


def find_or_create_run(
    client: MlflowClient, experiment: str, identity: str, name: str, started: float, tags: dict[str, Any]
) -> Run:
    if found := find_runs(client, experiment, identity):
        return found[0]
    tags = {**tags, "identity": identity}
    return client.create_run(experiment, milliseconds(started), {k: str(v) for k, v in tags.items()}, name)


def milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _dataset(data: dict[str, Any]) -> DatasetInput:
    images = json.dumps({"num_rows": data["scenes"]["train"]})
    dataset = Dataset(data["name"], data["sha256"][:12], data["source"], source=data["sha256"], profile=images)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def _flatten(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            yield f"{prefix}{key}", text[: limits.MAX_PARAM_VAL_LENGTH]
