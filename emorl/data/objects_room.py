"""Objects Room (Multi-Object Datasets, DeepMind 2019): a room with up to three objects, rendered by MuJoCo.

Nothing but image and masks is published of a scene. The first four masks are the sky, the floor and two halves of the
wall: together they are the background here, as in scores of other systems. There is no replica: neither the law of the
scenes nor the renderer's settings are published.
"""

import numpy as np

from emorl.data.description import DataSet, Published, Scene, label_map
from emorl.data.tfrecords import Feature, Record

SIZE = 64
"""Height and width of an image in pixels."""
BACKGROUND = 4
"""Masks of the room itself, which come first."""
OBJECTS = 3
"""The most objects in a scene."""

LAYOUT = (
    Feature("image", "uint8", (SIZE, SIZE, 3)),
    Feature("mask", "uint8", (BACKGROUND + OBJECTS, SIZE, SIZE, 1)),
)


def scene(record: Record) -> Scene:
    """Image (64, 64, 3) and labels (64, 64): 0 for the room, k for the k-th object."""
    entities = label_map(record["mask"][..., 0])
    return Scene(record["image"], np.where(entities < BACKGROUND, 0, entities - (BACKGROUND - 1)).astype(np.uint8))


DATA_SET = DataSet(
    name="objects_room",
    title="Objects Room",
    factors=(),
    published=Published(
        url="https://storage.googleapis.com/multi-object-datasets/objects_room/objects_room_train.tfrecords",
        records=1_000_000,
        layout=LAYOUT,
        scene=scene,
    ),
    processed=None,
    replica=None,
)
