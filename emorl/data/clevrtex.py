"""ClevrTex (Karazija et al. 2021), its main part: three to ten textured objects on a textured ground.

Published as folders: of each scene a picture, its label image and a JSON file, under numbers that run through. They
are packed into one file of records, cropped as the benchmark's own reader crops; models see 128 x 128 pixels, as it
resizes them. The order of the records is that of its splits: training, test, validation. There is no replica: the
textures may not be passed on. Materials are no factors here, and one has a wrong name in the published files.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from emorl.data.description import DataSet, Factor, Published, Scene
from emorl.data.pictures import label_numbers, read_picture, rgb
from emorl.data.tfrecords import Feature, Record
from emorl.runtime.errors import UserError

WIDTH, HEIGHT, CROP = 320, 240, 192
"""Pixels of a picture, and of the square in its middle that is kept."""
SIZE = 128
"""Pixels that the benchmark resizes it to: pictures bilinearly, label images by the nearest pixel."""
OBJECTS = 10
PREFIX = "CLEVRTEX_full_"
SHAPES = {"cube": 1, "sphere": 2, "cylinder": 3, "monkey": 4}
SIZES = {"large": 1, "medium": 2, "small": 3}
PUBLISHED_SPLITS = ((0.2, 1.0), (0.0, 0.1), (0.1, 0.2))
"""Of all numbers those for training, test and validation, by the benchmark's reader."""

LAYOUT = (
    Feature("image", "uint8", (CROP, CROP, 3)),
    Feature("labels", "uint8", (CROP, CROP)),
    Feature("x", "float32", (OBJECTS + 1,)),
    Feature("y", "float32", (OBJECTS + 1,)),
    Feature("z", "float32", (OBJECTS + 1,)),
    Feature("rotation", "float32", (OBJECTS + 1,)),
    Feature("size", "uint8", (OBJECTS + 1,)),
    Feature("shape", "uint8", (OBJECTS + 1,)),
    Feature("visibility", "float32", (OBJECTS + 1,)),
)

FACTORS = (
    Factor("x", "continuous"),
    Factor("y", "continuous"),
    Factor("z", "continuous"),
    Factor("rotation", "continuous"),  # degrees
    Factor("size", "discrete", {0: "none"} | {code: name for name, code in SIZES.items()}),
    Factor("shape", "discrete", {0: "none"} | {code: name for name, code in SHAPES.items()}),
    Factor("visibility", "discrete", {0: "absent", 1: "present"}),
)


def scene(record: Record) -> Scene:
    """Image (128, 128, 3) and labels (128, 128): the k-th object of the JSON file has label k."""
    image = Image.fromarray(record["image"]).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    labels = Image.fromarray(np.ascontiguousarray(record["labels"])).resize((SIZE, SIZE), Image.Resampling.NEAREST)
    return Scene(np.asarray(image), np.asarray(labels))


def unpack(folder: Path) -> Iterator[Record]:
    """The records of the published files below a folder. Raises UserError where there are none, one of a scene is
    missing, or one is not of the published form."""
    pictures = {int(path.stem.removeprefix(PREFIX)): path for path in folder.rglob(f"{PREFIX}{'[0-9]' * 6}.png")}
    count = len(pictures)
    if not pictures:
        raise UserError(f"{folder}: there are no pictures {PREFIX}NUMBER.png in it or below")
    if missing := next((number for number in range(count) if number not in pictures), None):
        raise UserError(f"{folder}: of {count} pictures, {PREFIX}{missing:06d}.png is missing")
    for first, last in PUBLISHED_SPLITS:
        for number in range(int(first * count), int(last * count)):
            yield _record(pictures[number])


def _record(picture: Path) -> Record:
    description, label_image = picture.with_suffix(".json"), picture.with_name(f"{picture.stem}_flat.png")
    image, labels = rgb(read_picture(picture)), label_numbers(read_picture(label_image))
    if image.size != (WIDTH, HEIGHT) or labels.shape != (HEIGHT, WIDTH):
        raise UserError(f"{picture} and its label image are not {WIDTH} x {HEIGHT} pixels, as published")
    try:
        factors = _factors(json.loads(description.read_text(encoding="utf-8"))["objects"])
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(f"{description} is missing, or not as published: {error!r}") from None
    if labels.max() > factors["visibility"][1:].sum():
        raise UserError(f"{label_image} shows object {labels.max()}, which {description.name} does not describe")
    left, top = (WIDTH - CROP) // 2, (HEIGHT - CROP) // 2
    cropped = np.asarray(image)[top : top + CROP, left : left + CROP]
    return {"image": cropped, "labels": labels[top : top + CROP, left : left + CROP].astype(np.uint8), **factors}


def _factors(objects: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    factors = {feature.name: np.zeros(feature.shape, feature.dtype) for feature in LAYOUT[2:]}
    factors["visibility"][: len(objects) + 1] = 1
    for place, found in enumerate(objects, 1):
        values = dict(zip(("x", "y", "z"), found["3d_coords"], strict=True)) | {"rotation": found["rotation"]}
        values |= {"size": SIZES[found["size"]], "shape": SHAPES[found["shape"]]}
        for name, value in values.items():
            factors[name][place] = value
    return factors


DATA_SET = DataSet(
    name="clevrtex",
    title="ClevrTex",
    factors=FACTORS,
    published=Published(
        url="https://www.robots.ox.ac.uk/~vgg/data/clevrtex/clevrtex_full",
        records=50_000,
        layout=LAYOUT,
        scene=scene,
        unpack=unpack,
    ),
    processed=None,
    replica=None,
)
