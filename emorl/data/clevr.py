"""CLEVR with masks (Multi-Object Datasets, DeepMind 2019): what its parts CLEVR6 and CLEVR10 share.

Published images are cropped to the square that models see. The replica is drawn by the rules of CLEVR's generator
(`clevr_scenes`) and rendered on that square by this project's own ray tracer (`clevr_renderer`), which comes near to
the published images and does not equal them.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np

from emorl.data.clevr_renderer import (
    CROP_LEFT,
    CROP_SIZE,
    CROP_TOP,
    FOCAL_LENGTH,
    HEIGHT,
    WIDTH,
    Window,
    World,
    render,
)
from emorl.data.clevr_scenes import RADII, draw_worlds
from emorl.data.description import DataSet, Factor, Processed, Published, Replica, Scene, label_map
from emorl.data.tfrecords import Feature, Layout, Record

URL = "https://storage.googleapis.com/multi-object-datasets/clevr_with_masks/clevr_with_masks_train.tfrecords"
RECORDS = 100_000
ENTITIES = 11
"""Entries of each factor: the background, then up to ten objects, then zeros."""

FACTOR_FEATURES = (
    Feature("x", "float32", (ENTITIES,)),
    Feature("y", "float32", (ENTITIES,)),
    Feature("z", "float32", (ENTITIES,)),
    Feature("pixel_coords", "float32", (ENTITIES, 3)),
    Feature("rotation", "float32", (ENTITIES,)),
    Feature("size", "uint8", (ENTITIES,)),
    Feature("material", "uint8", (ENTITIES,)),
    Feature("shape", "uint8", (ENTITIES,)),
    Feature("color", "uint8", (ENTITIES,)),
    Feature("visibility", "float32", (ENTITIES,)),
)
LAYOUT = (
    Feature("image", "uint8", (HEIGHT, WIDTH, 3)),
    Feature("mask", "uint8", (ENTITIES, HEIGHT, WIDTH, 1)),
    *FACTOR_FEATURES,
)

# z is the radius, as objects stand on the floor; pixel_coords are column and row of the middle in the whole image,
# in whole pixels, and its distance from the camera along the view.
FACTORS = (
    Factor("x", "continuous"),
    Factor("y", "continuous"),
    Factor("z", "continuous"),
    Factor("pixel_coords", "continuous"),
    Factor("rotation", "continuous"),
    Factor("size", "discrete", {0: "none", 1: "large", 2: "small"}),
    Factor("material", "discrete", {0: "none", 1: "rubber", 2: "metal"}),
    Factor("shape", "discrete", {0: "none", 1: "sphere", 2: "cylinder", 3: "cube"}),
    Factor(
        "color",
        "discrete",
        dict(enumerate(("none", "red", "cyan", "green", "blue", "brown", "gray", "purple", "yellow"))),
    ),
    Factor("visibility", "discrete", {0: "absent", 1: "present"}),
)

PROCESSED_COLUMNS = ("x", "y", "z", "rotation", "size", "material", "shape", "color", "visibility")
"""Columns of the factors in the authors' processed files."""

SHARD = 100
"""Records of a replica's shard. It is part of what a replica seed means: do not change it."""

_ROWS, _COLUMNS = slice(CROP_TOP, CROP_TOP + CROP_SIZE), slice(CROP_LEFT, CROP_LEFT + CROP_SIZE)


def data_set(
    name: str, title: str, fewest: int, most: int, processed_train: str | None, processed_test: str
) -> DataSet:
    """The part of CLEVR with `fewest` to `most` objects; the authors' files of it by their names."""
    return DataSet(
        name=name,
        title=title,
        factors=FACTORS,
        published=Published(URL, RECORDS, LAYOUT, partial(published_scene, fewest, most)),
        processed=Processed(processed_train, processed_test, crop, PROCESSED_COLUMNS),
        replica=Replica(replica_layout, replica_scene, SHARD, partial(replica_shard, fewest, most)),
    )


def number_of_objects(record: Record) -> int:
    """Objects of a scene, whether or not they show in the crop."""
    return int(record["visibility"][1:].sum())


# ---- published records ----


def published_scene(fewest: int, most: int, record: Record) -> Scene | None:
    """Image (192, 192, 3) and labels (192, 192) of the crop, or None where there are fewer or more objects."""
    count = number_of_objects(record)
    if not fewest <= count <= most:  # before image and masks, which are decoded when they are asked for
        return None
    return crop(record, count + 1)


def crop(record: Record, entities: int = ENTITIES) -> Scene:
    """Image (192, 192, 3) and labels (192, 192) of the square that models see; only the first `entities` are in it."""
    masks = record["mask"][:entities, _ROWS, _COLUMNS, 0]
    return Scene(record["image"][_ROWS, _COLUMNS], label_map(masks))


# ---- replica ----


def replica_layout(image_size: int) -> Layout:
    """An image of the crop at the size asked for, and a label map in place of masks."""
    image = Feature("image", "uint8", (image_size, image_size, 3))
    return (image, Feature("labels", "uint8", (CROP_SIZE, CROP_SIZE, 1)), *FACTOR_FEATURES)


def replica_scene(record: Record) -> Scene:
    """Image (image_size, image_size, 3) and labels (192, 192) of a record."""
    return Scene(record["image"], record["labels"][..., 0])


def replica_shard(fewest: int, most: int, seed: int, index: int, image_size: int) -> Iterator[Record]:
    """The records of a shard.

    All that is random in record i comes from SeedSequence(seed, spawn_key=(most, index, i)): with `most`, as CLEVR6
    and CLEVR10 of the same seed would otherwise share cameras, lamps and their first objects. Drawn on the CPU, one by
    one, as that suits its cache: shards are drawn by a process per core, too many for a GPU.
    """
    for i in range(SHARD):
        generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(most, index, i)))
        (world,), (label,) = draw_worlds([generator], fewest, most)
        (image,) = render([world], [generator], Window.crop(image_size))
        yield {"image": image, "labels": label[_ROWS, _COLUMNS, None], **factors(world)}


def factors(world: World) -> dict[str, np.ndarray]:
    """The factors of a scene, coded and padded as published."""
    x, y, radius, rotation, shape, material, color = (np.array(values) for values in zip(*world.solids, strict=True))
    objects = {
        "x": x,
        "y": y,
        "z": radius,
        "pixel_coords": pixel_coords(world, np.stack([x, y, radius])),
        "rotation": rotation,
        "size": np.where(radius == RADII[0], 1, 2),
        "material": material,
        "shape": shape,
        "color": color,
        "visibility": np.ones(len(x)),
    }
    padded = {feature.name: np.zeros(feature.shape, feature.dtype) for feature in FACTOR_FEATURES}
    for name, values in objects.items():
        padded[name][1 : len(x) + 1] = values
    padded["visibility"][0] = 1
    return padded


def pixel_coords(world: World, points: np.ndarray) -> np.ndarray:
    """(n, 3) column and row in whole published pixels, and depth, of points (3, n)."""
    right, up, depth = world.camera_axes @ (points - world.camera[:, None])
    column = np.rint(WIDTH / 2 + FOCAL_LENGTH * right / depth)
    row = np.rint(HEIGHT / 2 - FOCAL_LENGTH * up / depth)
    return np.stack([column, row, depth], axis=-1)
