"""What is needed to use a trained model, from a run's folder or from one portable file made of it.

A run's `checkpoint.pt` holds the weights, the `run.json` beside it says what they are the weights of. A portable
checkpoint holds both in one small file, without the optimiser's state. Neither is ever unpickled.
"""

import hashlib
import io
import warnings
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from pydantic import ConfigDict, Field, ValidationError
from torch import Tensor

from emorl import config
from emorl.errors import UserError
from emorl.files import read_json, sha256_of_json
from emorl.models import model_class
from emorl.provenance import code_digest
from emorl.settings import Settings
from emorl.training.checkpoints import CHECKPOINT, save_checkpoint
from emorl.training.engine import RECORD

FORMAT = "emorl portable checkpoint 1"


class DataOrigin(Settings):
    """The data that a model was trained on, as run.json has it."""

    name: str
    source: str
    sha256: str
    scenes: dict[str, int]


class Origin(Settings):
    """The run that weights come from: what run.json says, and how far it had come."""

    scale: str
    dataset: str
    variant: str
    seed: int
    digest: str
    config_sha256: str
    code_digest: str
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

    def code_has_changed(self) -> bool:
        """Whether the code that would train this model now is another than the one that did."""
        return code_digest("emorl.training.engine", f"emorl.models.{self.name}") != self.origin.code_digest


def read_checkpoint(checkpoint: str | PathLike[str]) -> Checkpoint:
    """A portable checkpoint, or a run's `checkpoint.pt` (or its folder) with the `run.json` beside it.

    Raises UserError where there is none, the file holds anything but plain data, or the two do not belong together.
    """
    path = Path(checkpoint)
    if path.is_dir():
        path = path / CHECKPOINT
    if not path.is_file():
        raise UserError(f"{path}: there is no such checkpoint")
    content = _plain_data(path)
    if isinstance(content, dict) and content.get("format") == FORMAT:
        return _validated(path, {key: value for key, value in content.items() if key != "format"})
    if isinstance(content, dict) and {"digest", "step", "model"} <= content.keys():
        return _validated(path, _with_record(path, content))
    raise UserError(f"{path} is neither a run's {CHECKPOINT} nor a file that 'emorl export' wrote")


def export(run_folder: Path, out: Path) -> Checkpoint:
    """Write the portable checkpoint of a run to `out`; returns what it holds. Raises UserError as `read_checkpoint`."""
    if not run_folder.is_dir():
        raise UserError(f"{run_folder}: there is no such run folder")
    checkpoint = read_checkpoint(run_folder)
    save_checkpoint(out, {"format": FORMAT, **checkpoint.model_dump()})
    return checkpoint


def _plain_data(path: Path) -> Any:
    content = path.read_bytes()
    archive, checksum = content[:-32], content[-32:]  # as `emorl.training.checkpoints` writes them
    if hashlib.sha256(archive).digest() != checksum:
        raise UserError(f"{path} is damaged or no checkpoint: its checksum does not match")
    try:
        with warnings.catch_warnings(action="ignore"):  # of pickles, before it refuses them
            return torch.load(io.BytesIO(archive), map_location="cpu", weights_only=True)
    except Exception:  # whatever a file that is no checkpoint brings torch to raise
        raise UserError(
            f"{path} is not read: it holds more than weights and plain data, which could run code"
        ) from None


def _with_record(path: Path, state: dict[str, Any]) -> dict[str, Any]:
    """The fields of a Checkpoint, from the content of a run's `checkpoint.pt` and the run.json beside it."""
    record_path = path.with_name(RECORD)
    if not record_path.is_file():
        raise UserError(
            f"{path} has no {RECORD} beside it, which says what model it is of: leave it in its run's folder, or make "
            "one file of both with 'emorl export RUN_FOLDER -o FILE.pt'"
        )
    record = read_json(record_path)
    if state["digest"] != record["digest"] or sha256_of_json(record["config"]) != record["config_sha256"]:
        raise UserError(f"{path} and the {RECORD} beside it are not of the same run, or were changed afterwards")
    return {
        "name": record["model"],
        "settings": record["config"]["model"],
        "inference": _inference_of(record),
        "image_size": record["config"]["data"]["image_size"],
        "weights": dict(state["model"]),
        "origin": {key: record[key] for key in Origin.model_fields if key != "step"} | {"step": state["step"]},
    }


def _inference_of(record: dict[str, Any]) -> dict[str, Any]:
    """Test-time settings are no part of a run: they are what params/ say of its model, data set and variant."""
    scale, model = record["scale"], record["model"]
    try:
        block = config.block(config.load_scale(scale), scale, model, record["dataset"], record["variant"])
    except UserError:
        return {}
    return block.inference.model_dump(mode="json")


def _validated(path: Path, content: dict[str, Any]) -> Checkpoint:
    try:
        return Checkpoint.model_validate(content)
    except ValidationError as error:
        mistakes = [f"{'.'.join(map(str, mistake['loc']))}: {mistake['msg']}" for mistake in error.errors()]
        raise UserError(f"{path} is not a whole checkpoint: {'; '.join(mistakes)}") from None
