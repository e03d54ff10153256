"""The checkpoints behind the cells of tables, in MLflow's model registry.

A registered model is a system on a data set at a scale (`emorl-tetrominoes-demo`); a version is one seed's
checkpoint, copied to the run's artifacts with its manifest; an alias is a cell (`table1`, `table2-no_geco`). Nothing
is pickled: a checkpoint holds tensors, numbers and text.
"""

import math
from collections.abc import Iterable
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from emorl.pipeline.records import Artifact, Row, Series, Table
from emorl.runtime.errors import UserError
from emorl.runtime.files import read_json, sha256_of_file
from emorl.tracking.layout import experiment_name, find_experiment, find_runs

CHECKPOINT = "checkpoint.pt"


def register_cells(client: MlflowClient, artifacts: Iterable[Artifact], root: Path) -> None:
    """Give every cell of the tables among these the alias of its best seed: best by the table's first metric."""
    for artifact in artifacts:
        if artifact.table:
            for row, series in zip(artifact.table.rows, artifact.shows.series, strict=True):
                _register_cell(client, artifact.name, row, series, artifact.table, root)


def _register_cell(client: MlflowClient, name: str, row: Row, series: Series, table: Table, root: Path) -> None:
    cell = row.cells[0]
    values = {seed: value for seed, value in cell.seeds.items() if math.isfinite(value)}
    if not values:
        return  # every seed failed
    best = max(values, key=lambda seed: values[seed])
    folder = next(run.folder for run in series.runs if run.seed == best)
    title = table.columns[cell.metric].title
    model = f"{row.model}-{row.dataset}-{table.scale}"
    alias = name if row.variant == "base" else f"{name}-{row.variant}"
    version = _find_or_create_version(client, model, root / folder, root)
    score = f"{title} {values[best]:.4g}, best of {len(values)} seeds"
    if version.tags.get(alias) != score:
        client.set_model_version_tag(model, version.version, alias, score)
    if alias not in version.aliases:
        client.set_registered_model_alias(model, alias, version.version)


def _find_or_create_version(client: MlflowClient, model: str, folder: Path, root: Path) -> ModelVersion:
    """The version of this run's checkpoint, as it is now."""
    manifest = read_json(folder / "manifest.json")
    experiment = find_experiment(client, experiment_name(manifest["dataset"], manifest["scale"]))
    identity = str(folder.relative_to(root / "runs"))
    runs = find_runs(client, experiment.experiment_id, identity) if experiment else []
    if not runs:
        raise UserError(f"the run {folder} is not mirrored")
    run = runs[0]
    tags = {key: str(manifest[key]) for key in ("seed", "variant", "digest")}
    tags["checkpoint_sha256"] = sha256_of_file(folder / CHECKPOINT)
    try:
        client.get_registered_model(model)
    except MlflowException:
        about = "{model} trained on {dataset} at scale {scale}; an alias names the cell of a table."
        client.create_registered_model(model, description=about.format(**manifest))
    for version in client.search_model_versions(f"name = '{model}' and run_id = '{run.info.run_id}'"):
        if version.tags.get("checkpoint_sha256") == tags["checkpoint_sha256"]:
            return client.get_model_version(model, version.version)  # which knows its aliases
    for file in (CHECKPOINT, "manifest.json"):
        client.log_artifact(run.info.run_id, str(folder / file), "checkpoint")
    about = f"Seed {tags['seed']}, variant {tags['variant']}: load_checkpoint(FILE, '{tags['digest']}') reads it."
    source = f"{run.info.artifact_uri}/checkpoint"
    return client.create_model_version(model, source, run.info.run_id, tags, description=about, await_creation_for=0)
