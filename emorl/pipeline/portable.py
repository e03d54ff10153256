"""What is needed to build a trained model, from a run's folder or from one portable file made of it.

A run's `checkpoint.pt` holds the weights, the `run.json` beside it says what they are the weights of. A portable
checkpoint holds both in one small file, without the optimiser's state. Neither is ever unpickled.
"""

import json
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from pydantic import ConfigDict, Field, ValidationError
from torch import Tensor

from emorl.models import Model, model_class
from emorl.models.parts.precision import precision_of_evaluation
from emorl.pipeline import config
from emorl.pipeline.identity import identify
from emorl.pipeline.runs import training_probe
from emorl.runtime.errors import UserError
from emorl.runtime.files import sha256_of_json
from emorl.runtime.settings import Settings
from emorl.training.checkpoints import CHECKPOINT, read_plain_data, save_checkpoint
from emorl.training.engine import build_model
from emorl.training.manifest import DataOrigin, RunRecord
from emorl.training.settings import TrainingSettings

FORMAT = "emorl portable checkpoint 1"


class Origin(Settings):
    """The run that weights come from: what run.json says, and how far it had come."""

    scale: str
    dataset: str
    variant: str
    seed: int
    digest: str
    config_sha256: str
    computes: str
    """Digest of what the code computed that trained it (`emorl.pipeline.identity`)."""
    git_commit: str | None
    data: DataOrigin
    step: int
    steps: int
    """Of the whole run."""


class Checkpoint(Settings):
    """A trained model's weights and all that is needed to build it."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    name: str
    """Of the model, in the registry."""
    settings: dict[str, Any]
    """The model's settings, as JSON has them."""
    training: dict[str, Any]
    """Those of its training."""
    inference: dict[str, Any]
    """Its test-time settings, those of the run's evaluation; empty where they are not to be found."""
    image_size: int = Field(ge=1, le=2048)
    weights: dict[str, Tensor]
    origin: Origin

    def __str__(self) -> str:
        origin, size = self.origin, self.image_size
        return (
            f"{model_class(self.name).title}, {size} x {size} pixels, trained on {origin.dataset} "
            f"({origin.data.source}), scale {origin.scale}, seed {origin.seed}, step {origin.step} of {origin.steps}"
        )

    def computes_otherwise(self) -> bool:
        """Whether the code that is here computes something else than that which trained this model."""
        try:
            settings = model_class(self.name).Settings.model_validate_json(json.dumps(self.settings))
            training = TrainingSettings.model_validate_json(json.dumps(self.training))
        except ValidationError:  # it knows other settings
            return True
        return identify(training_probe(self.name, settings, training, self.image_size)).digest != self.origin.computes


def read_checkpoint(checkpoint: str | PathLike[str]) -> Checkpoint:
    """A portable checkpoint, or a run's `checkpoint.pt` (or its folder) with the `run.json` beside it.

    Raises UserError where there is none, the file holds anything but plain data, or the two do not belong together.
    """
    path = Path(checkpoint)
    if path.is_dir():
        path = path / CHECKPOINT
    if not path.is_file():
        raise UserError(f"{path}: there is no such checkpoint")
    content = read_plain_data(path)
    if isinstance(content, dict) and content.get("format") == FORMAT:
        return _validated(path, {key: value for key, value in content.items() if key != "format"})
    if isinstance(content, dict) and {"digest", "step", "model"} <= content.keys():
        return _validated(path, _with_record(path, content))
    raise UserError(f"{path} is neither a run's {CHECKPOINT} nor a file that 'emorl export' wrote")


def build(
    content: Checkpoint, name: str, inference: dict[str, Any] | None = None, device: str | None = None
) -> tuple[Model, Settings]:
    """The trained model in float32, exact as in evaluations, and its test-time settings, changed by `inference`.

    `name` is what errors call the checkpoint. `device`: by default a GPU if there is one. Raises UserError where
    settings or weights are not those of a model that this version of the code has.
    """
    cls = model_class(content.name)
    settings = _settings(cls.Settings, content.settings, f"{name}: settings of {content.name}")
    test_time = content.inference | (inference or {})
    chosen = _settings(cls.Inference, test_time, f"{name}: test-time settings (inference) of {content.name}")
    model = build_model(content.name, settings, content.image_size, precision_of_evaluation(), seed=0)
    try:
        model.load_state_dict(content.weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split("\n\t")[1].split())
        raise UserError(f"{name}: the weights are not those of {content.name}: {reason}") from None
    if odd := next((key for key, weight in content.weights.items() if not weight.isfinite().all()), None):
        raise UserError(f"{name}: the weights are no finite numbers, in {odd}: the training had diverged")
    return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")), chosen


def export(run_folder: Path, out: Path) -> Checkpoint:
    """Write the portable checkpoint of a run to `out`; returns what it holds. Raises UserError as `read_checkpoint`."""
    if not run_folder.is_dir():
        raise UserError(f"{run_folder}: there is no such run folder")
    checkpoint = read_checkpoint(run_folder)
    save_checkpoint(out, {"format": FORMAT, **checkpoint.model_dump()})
    return checkpoint


def _with_record(path: Path, state: dict[str, Any]) -> dict[str, Any]:
    """The fields of a Checkpoint, from the content of a run's `checkpoint.pt` and the run.json beside it."""
    record_path = path.with_name(RunRecord.FILE)
    if not record_path.is_file():
        raise UserError(
            f"{path} has no {RunRecord.FILE} beside it, which says what model it is of: leave it in its run's folder, "
            "or make one file of both with 'emorl export RUN_FOLDER -o FILE.pt'"
        )
    record = RunRecord.read(record_path)
    if state["digest"] != record.digest or sha256_of_json(record.config) != record.config_sha256:
        raise UserError(
            f"{path} and the {RunRecord.FILE} beside it are not of the same run, or were changed afterwards"
        )
    said = vars(record) | {"step": state["step"], "git_commit": record.starts[-1].git_commit}
    return {
        "name": record.model,
        "settings": record.config["model"],
        "training": record.config["training"],
        "inference": _inference_of(record),
        "image_size": record.config["data"]["image_size"],
        "weights": dict(state["model"]),
        "origin": {key: value for key, value in said.items() if key in Origin.model_fields},
    }


def _inference_of(record: RunRecord) -> dict[str, Any]:
    """Test-time settings are no part of a run: they are what params/ say of its model, data set and variant."""
    try:
        variant = "base" if record.imported else record.variant
        block = config.block(config.load_scale(record.scale), record.model, record.dataset, variant)
    except UserError:
        return {}
    return block.inference.model_dump(mode="json")


def _validated(path: Path, content: dict[str, Any]) -> Checkpoint:
    try:
        return Checkpoint.model_validate(content)
    except ValidationError as error:
        mistakes = [f"{'.'.join(map(str, mistake['loc']))}: {mistake['msg']}" for mistake in error.errors()]
        raise UserError(f"{path} is not a whole checkpoint: {'; '.join(mistakes)}") from None


def _settings(cls: type[Settings], content: dict[str, Any], what: str) -> Settings:
    """Settings from what JSON has of them."""
    try:
        return cls.model_validate_json(json.dumps(content))
    except ValidationError as error:
        mistakes = [f"{'.'.join(map(str, mistake['loc']))}: {mistake['msg']}" for mistake in error.errors()]
        known = ", ".join(cls.model_fields) or "none"
        raise UserError(f"{what}: {'; '.join(mistakes)} (known keys: {known})") from None
