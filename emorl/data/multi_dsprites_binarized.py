"""Multi-dSprites, binarized (Multi-Object Datasets, DeepMind 2019): two or three white sprites on black, and a replica.

Images are published with one channel, which models see three times. But for colours and numbers the replica is drawn
as that of `multi_dsprites`.
"""

from collections.abc import Iterator

import numpy as np

from emorl.data.description import DataSet, Published, Replica, Scene
from emorl.data.multi_dsprites import FACTORS, SHARD, draw_scenes, layout_of, paint, records
from emorl.data.multi_dsprites import scene as scene_of_one_channel
from emorl.data.tfrecords import Record

FEWEST, MOST = 2, 3
LAYOUT = layout_of(MOST, channels=1)


def scene(record: Record) -> Scene:
    """Image (64, 64, 3) and labels (64, 64) of a record with image (64, 64, 1)."""
    image, labels = scene_of_one_channel(record)
    return Scene(image.repeat(3, axis=-1), labels)


def white_on_black(generator: np.random.Generator, count: int, sprites: int) -> np.ndarray:
    return np.insert(np.ones((count, sprites, 1)), 0, 0, axis=1)


def draw_shard(seed: int, index: int, image_size: int) -> Iterator[Record]:
    """The records of one shard of the replica with this seed, at the published size whatever `image_size` is."""
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index,)))
    factors, labels = draw_scenes(SHARD, generator, FEWEST, MOST, white_on_black)
    return records(paint(labels, factors["color"]), labels, factors)


DATA_SET = DataSet(
    name="multi_dsprites_binarized",
    title="Multi-dSprites (binarized)",
    factors=FACTORS,
    published=Published(
        url="https://storage.googleapis.com/multi-object-datasets/multi_dsprites/multi_dsprites_binarized.tfrecords",
        records=1_000_000,
        layout=LAYOUT,
        scene=scene,
    ),
    processed=None,
    replica=Replica(layout=lambda image_size: LAYOUT, scene=scene, shard_size=SHARD, shard=draw_shard),
)
