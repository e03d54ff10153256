"""A scale of one's own: the file params/NAME.yaml for pictures in a folder, with values that another scale has."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from emorl.data import data_sets, own
from emorl.data.settings import FolderSettings
from emorl.models import model_class
from emorl.pipeline import config
from emorl.runtime.errors import UserError
from emorl.runtime.files import write_text

TEMPLATE = "multi_dsprites"
"""Data set whose blocks are taken: of Table 1's, that which is most like any pictures."""
MODELS = ("emorl", "slot_attention")
HELD_OUT = 320
"""As many as the paper's sets have, or a tenth of the pictures, if that is less."""
SUB_FOLDERS = {"train": ("train", "training"), "test": ("test",), "validation": ("validation", "val", "valid")}


def name_of(folder: Path) -> str:
    """The folder's name as the name of a data set."""
    return re.sub("[^a-z0-9]+", "_", folder.resolve().stem.lower()).strip("_") or "pictures"


def new_scale(
    name: str, images: str, masks: str | None, like: str, image_size: int | None, slots: int, crop: str
) -> tuple[Path, FolderSettings]:
    """Write params/NAME.yaml; returns its path and the block of the data. Raises UserError where there is one already,
    or the pictures cannot be taken."""
    path = config.PARAMS / f"{name}.yaml"
    if path.exists():
        raise UserError(f"params/{name}.yaml is there already: delete it first, or choose another --name")
    if not re.fullmatch("[a-z0-9_]+", name) or name in (*config.NOT_SCALES, *data_sets()):
        raise UserError(f"--name {name}: must be small letters, digits and _, and no name that is taken")
    scale = config.load_scale(like)
    if any(TEMPLATE not in scale.blocks(model) for model in MODELS):
        raise UserError(f"--like {like}: params/{like}.yaml has no models of {TEMPLATE} to take values from")
    size = image_size or scale.datasets[TEMPLATE].image_size
    data = {"source": "folder", "images": images, "masks": masks, "image_size": size, "crop": crop}
    found = own.note(config.validate(FolderSettings, data | {"test": 1}, path))
    settings = config.validate(FolderSettings, data | _splits(list(found.images)), path)
    blocks = {model: {name: _block(scale, model, size, slots, path)} for model in MODELS}
    content = {
        "purpose": "demonstration",
        "seeds": [0],
        "evaluation": scale.evaluation.model_dump(),
        "benchmark": scale.benchmark.model_dump(),
        "datasets": {name: settings.model_dump(exclude_none=True)},
        "models": blocks,
    }
    head = f"# {len(found.images)} pictures: docs/own-data.md. Models and evaluation as in params/{like}.yaml\n"
    head += f"# ({TEMPLATE}), with K = {slots} slots: one for each object, and one for the background.\n\n"
    write_text(path, head + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120))
    return path, settings


def _splits(names: Sequence[str]) -> dict[str, Any]:
    """By the sub-folders that are called as splits are; else a tenth for testing and for validation each."""
    folders = {name.partition("/")[0] for name in names if "/" in name}
    called = {split: next((f for f in folders if f.lower() in its), None) for split, its in SUB_FOLDERS.items()}
    if called["train"] and called["test"]:
        return {split: folder or 0 for split, folder in called.items()}
    held_out: int | float = HELD_OUT if len(names) > 10 * HELD_OUT else 0.1
    return {"test": held_out, "validation": held_out}


def _block(scale: config.ScaleSettings, model: str, size: int, slots: int, path: Path) -> dict[str, Any]:
    block = scale.blocks(model)[TEMPLATE]
    try:
        model_class(model).check(block.model, size)
    except ValueError as error:
        raise UserError(f"--image-size {size}: {error}") from None
    content = block.model_dump(exclude_none=False, exclude={"seeds"})
    content["model"]["K"] = slots
    return content
