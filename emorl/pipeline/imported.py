"""Weights that others have trained, as runs of their own kind.

A checkpoint of the authors' code is read as plain data, its weights go into a model of the scale's settings, corrected
by what names and shapes tell, and a run folder is made of it: `runs/DATASET/MODEL/imported-HASH/seedN`, with the hash
of the file. What takes a run takes this one.
"""

import json
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, ValidationError
from torch import Tensor

from emorl.data.store import describe
from emorl.models import model_class
from emorl.models.parts import released
from emorl.pipeline import config
from emorl.pipeline.provenance import environment, repository_state
from emorl.pipeline.runs import IMPORTED, PreparedData, Run
from emorl.pipeline.steps import origin_of
from emorl.runtime.errors import UserError
from emorl.runtime.files import ROOT, sha256_of_file
from emorl.runtime.settings import Settings
from emorl.training.checkpoints import CHECKPOINT, save_checkpoint
from emorl.training.engine import build_model
from emorl.training.manifest import DataOrigin, Manifest, RunRecord, Start, manifest_of

RELEASED = "released.yaml"
FOLDER = Path("data/raw/released")
"""Where published checkpoints are expected, relative to the project."""


class ReleasedCheckpoint(Settings):
    """An entry of params/released.yaml."""

    url: str
    model: config.ModelName
    dataset: config.DataSetName
    seed: int = Field(ge=0)
    printed: dict[str, float]
    """What its README says, by metric, in the metric's printed unit."""


def released_checkpoints() -> dict[str, ReleasedCheckpoint]:
    """By the name of the file. Raises UserError as `config.load_scale` does."""
    path = config.PARAMS / RELEASED
    entries = config.load_yaml(path)
    return {name: config.validate(ReleasedCheckpoint, entry, path, f"{name}: ") for name, entry in entries.items()}


def import_checkpoint(file: Path, scale: str, dataset: str, model: str, seed: int) -> tuple[Run, dict[str, Any]]:
    """Make the run folder of a checkpoint of the authors' code; returns the run, and the settings that its shapes tell
    otherwise than the scale.

    Raises UserError where the file holds anything but plain data, or parameters that do not fit, and names the first.
    """
    if model not in released.MODELS:
        raise UserError(f"--model {model}: the authors have checkpoints of {' and '.join(released.MODELS)} alone")
    weights, step = _read(file)
    settings = config.load_scale(scale)
    block = config.block(settings, model, dataset, "base")
    try:
        told = released.settings_by_shapes(model, weights)
        changed = {key: value for key, value in told.items() if getattr(block.model, key) != value}
        run = _run(settings, dataset, model, seed, sha256_of_file(file), block.model.model_dump(mode="json") | told)
        network = build_model(model, run.settings.model, run.data.settings.image_size, torch.float32, seed=0)
        released.load(model, network, weights)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    except ValueError as error:  # of settings that go with no such images
        raise UserError(f"{file}: {error}") from None
    _write(run, network, step)
    return run, changed


def imported_run(scale: str, dataset: str, model: str, variant: str, seed: int, split: str | None) -> Run:
    """The run of a folder that `import_checkpoint` made; `variant` is its name, imported-HASH. Raises UserError."""
    folder = Path("runs") / dataset / model / variant / f"seed{seed}"
    manifest = manifest_of(ROOT / folder)
    if manifest is None or manifest.imported is None:
        raise UserError(f"{folder}: nothing has been imported there; 'emorl import FILE' does")
    return _run(config.load_scale(scale), dataset, model, seed, manifest.imported, manifest.config["model"], split)


def _run(
    scale: config.ScaleSettings,
    dataset: str,
    model: str,
    seed: int,
    sha256: str,
    settings: dict[str, Any],
    split: str | None = None,
) -> Run:
    """Test-time settings are those of the scale."""
    block = config.block(scale, model, dataset, "base")
    try:
        validated = model_class(model).Settings.model_validate_json(json.dumps(settings))
    except ValidationError as error:
        raise UserError(f"its settings are none of {model}: {error.errors()[0]['msg']}") from None
    evaluation = scale.evaluation.model_copy(update={"split": split} if split else {})
    data = PreparedData(dataset, scale.datasets[dataset])
    chosen = block.model_copy(update={"model": validated})
    return Run(scale, dataset, model, IMPORTED, seed, data, chosen, evaluation, imported=sha256)


def _read(file: Path) -> tuple[dict[str, Tensor], int]:
    """Weights under today's names, and the step at which they were saved."""
    if not file.is_file():
        raise UserError(f"{file}: there is no such file")
    try:
        with warnings.catch_warnings(action="ignore"):  # of pickles, before it refuses them
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # whatever a file that is no checkpoint brings torch to raise
        raise UserError(
            f"{file} cannot be read safely: it is damaged, or holds more than weights and plain data"
        ) from None
    weights = content.get("model") if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(weight, Tensor) for weight in weights.values()):
        raise UserError(f"{file} is no checkpoint of the authors' code: it has no 'model' with weights")
    return released.todays_names(weights), int(content.get("step", 0))


def _write(run: Run, network: torch.nn.Module, step: int) -> None:
    """The run's folder as training leaves one, the manifest last."""
    folder, now = ROOT / run.folder, time.time()
    commit, dirty = repository_state()
    machine = {"code_digest": run.probe.code, "processes": 1, "environment": environment()}
    start = Start(step=0, time=now, git_commit=commit, git_dirty=dirty, **machine)
    origin = origin_of(run, _data(run.data))
    folder.mkdir(parents=True, exist_ok=True)
    save_checkpoint(folder / CHECKPOINT, {"digest": run.digest, "step": step, "model": network.state_dict()})
    RunRecord(**vars(origin), started=now, steps=step, starts=[start]).write(folder / RunRecord.FILE)
    Manifest(
        **vars(origin),
        status="finished",
        error=None,
        steps=step,
        started=now,
        ended=now,
        wall_seconds=0.0,
        starts=[start],
        precision="float32",
        compiled=False,
        parameters=sum(weight.numel() for weight in network.parameters()),
    ).write(folder / Manifest.FILE)


def _data(data: PreparedData) -> DataOrigin:
    """What the scale takes such data to be; which bytes others have trained on is not known."""
    there = describe(ROOT / data.path)["counts"] if (ROOT / data.path).exists() else {}
    return DataOrigin(name=data.name, source=data.settings.source, sha256="", train_sha256="", scenes=there)
