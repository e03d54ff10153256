"""Where a run is found: experiment (data set and scale), parent (system, variant, digest), seed.

One experiment is one data set at one scale: what a plot may compare. So demo and paper runs are apart in the very
list of experiments, where the prefix keeps ours together on a server that has others. Names can be edited in the
pages; the tag `identity` is what a run is found by.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    Experiment,
    InputTag,
    LifecycleStage,
    Param,
    Run,
    RunTag,
    ViewType,
)
from mlflow.utils import validation as limits

from emorl.tracking.store import artifact_folder, client_of_store
from emorl.tracking.ui import pages
from emorl.training.manifest import DataOrigin, RunRecord

PARENT = "mlflow.parentRunId"
DESCRIPTION = "mlflow.note.content"
CREATED_AS = "emorl.experiment"
"""Tag of an experiment: its name, which can be edited in the pages."""
MODEL_TRAINING = {"mlflow.experimentKind": "custom_model_development"}  # the kind of pages MLflow shows

ABOUT_EXPERIMENT = (
    "Scale {scale}, data set {dataset}: a run for each system and variant, its seeds below it. "
    "`test/` are scores on held-out images, `train/` what training says of itself, `system/` what it used."
)
ABOUT_PARENT = (
    "[**Curves of all seeds, side by side**]({curves})\n\n"
    "All seeds of {model}, variant {variant}: their mean scores (`_mean`) and standard deviations (`_sd`) over the "
    "`test/n` seeds that have scores; `test/failed` have none, as they diverged."
)
ABOUT_REPORTS = "Tables, figures and verdicts: the artifacts of one run for each scale."
CURVES = (
    "#/experiments/{experiment}/runs?compareRunsMode=CHART&searchFilter={filter}"
    "&orderByKey=tags.%60seed%60&orderByAsc=true"  # by date, MLflow would show their parent in their place
)
"""The page with all curves of the runs of an experiment that match."""


def find_or_create_seed(client: MlflowClient, record: RunRecord, root: Path) -> Run:
    """The run of one seed below its parent, with all its params, and its tags as of today."""
    where = {"dataset": record.dataset, "scale": record.scale}
    shared = {**where, "model": record.model, "variant": record.variant, "digest": record.digest}
    group = f"{record.model}/{record.variant}-{record.digest}"
    identity = f"{record.dataset}/{group}"
    about = ABOUT_EXPERIMENT.format(**where)
    experiment = find_or_create_experiment(client, root, experiment_name(**where), about, **where)
    curves = CURVES.format(experiment=experiment, filter=quote(f"tags.identity LIKE '{identity}/%'", safe=""))
    heading = shared | {DESCRIPTION: ABOUT_PARENT.format(**shared, curves=curves)}
    parent = find_or_create_run(client, experiment, identity, group, record.started, heading)
    if parent.info.status == "RUNNING":  # it is a heading over seeds and has no life of its own
        client.set_terminated(parent.info.run_id, end_time=milliseconds(record.started))
    tags = shared | _tags(record) | {PARENT: parent.info.run_id}
    name = f"seed{record.seed}"
    new = (f"{identity}/{name}", f"{name} {group}", record.started, tags | {"status": "running"})
    run = find_or_create_run(client, experiment, *new)
    if run.info.start_time != milliseconds(record.started):  # not resumed but begun again: those points are no more
        client.delete_run(run.info.run_id)
        run = find_or_create_run(client, experiment, *new)
    # A param can be set only once, and a mirror killed after it created the run leaves some unset.
    params = [Param(key, value) for key, value in _flatten(record.config) if key not in run.data.params]
    changed = [RunTag(key, tag) for key, tag in tags.items() if run.data.tags.get(key) != tag]
    if params or changed:
        client.log_batch(run.info.run_id, params=params, tags=changed, synchronous=True)
    if run.inputs is None or not run.inputs.dataset_inputs:
        client.log_inputs(run.info.run_id, [_dataset(record.data)])
    return run


def _tags(record: RunRecord) -> dict[str, str]:
    """A seed's own, with commit and code of its last start."""
    start = record.starts[-1]
    tags = {
        "seed": record.seed,
        "config_sha256": record.config_sha256,
        "code_digest": start.code_digest,
        "git_commit": start.git_commit,
        "git_dirty": start.git_dirty,
        "data_source": record.data.source,
        "data_sha256": record.data.sha256,
        "mlflow.source.name": "emorl train",
        "mlflow.source.git.commit": start.git_commit,
    }
    return {key: str(value) for key, value in tags.items() if value is not None}


def experiment_name(dataset: str, scale: str) -> str:
    return f"emorl-{dataset}-{scale}"


def find_experiment(client: MlflowClient, name: str) -> Experiment | None:
    """The one that was created under this name, however it is called now, and also if it has been deleted."""
    named = client.search_experiments(ViewType.ALL, 1, f"tags.`{CREATED_AS}` = '{name}'")
    return next(iter(named), None) or client.get_experiment_by_name(name)


def find_or_create_experiment(client: MlflowClient, root: Path, name: str, about: str, **tags: str) -> str:
    """One that has been deleted in the pages is restored: a mirror shows what is there."""
    tags |= {**MODEL_TRAINING, DESCRIPTION: about, CREATED_AS: name}
    experiment = find_experiment(client, name)
    if experiment is None:
        return client.create_experiment(name, artifact_folder(root, name), tags)
    if experiment.lifecycle_stage == LifecycleStage.DELETED:
        client.restore_experiment(experiment.experiment_id)
    return experiment.experiment_id


def find_runs(client: MlflowClient, experiment: str, identity: str) -> list[Run]:
    """All of this identity, the one to keep first: several only if two projects created it at once."""
    return client.search_runs([experiment], f"tags.identity = '{identity}'", order_by=["attributes.start_time ASC"])


def find_or_create_run(
    client: MlflowClient, experiment: str, identity: str, name: str, started: float, tags: dict[str, str]
) -> Run:
    if found := find_runs(client, experiment, identity):
        return found[0]
    return client.create_run(experiment, milliseconds(started), {**tags, "identity": identity}, name)


def run_pages(root: Path) -> dict[str, str]:
    """Address of each mirrored run's page, by its folder relative to the project; none where the store is away."""
    try:
        client = client_of_store(root)
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        runs = client.search_runs(experiments, max_results=50_000)
    except Exception:  # whatever is wrong with a store, the report is made
        return {}
    address = pages(root)
    return {
        f"runs/{run.data.tags['identity']}": f"{address}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
        for run in runs
        if "identity" in run.data.tags
    }


def milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _dataset(data: DataOrigin) -> DatasetInput:
    images = json.dumps({"num_rows": data.scenes["train"]})
    dataset = Dataset(data.name, data.sha256[:12], data.source, source=data.sha256, profile=images)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def _flatten(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            yield f"{prefix}{key}", text[: limits.MAX_PARAM_VAL_LENGTH]
