"""Multi-dSprites, coloured on coloured (Multi-Object Datasets, DeepMind 2019): one to four sprites, and a replica.

All colours, that of the background too, are uniform in RGB, as the publisher says. In all else the replica is drawn as
that of `multi_dsprites`.
"""

from collections.abc import Iterator

import numpy as np

from emorl.data.description import DataSet, Published, Replica
from emorl.data.multi_dsprites import FACTORS, SHARD, draw_scenes, layout_of, paint, records, scene
from emorl.data.tfrecords import Record

FEWEST, MOST = 1, 4
LAYOUT = layout_of(MOST)


def uniform_in_rgb(generator: np.random.Generator, count: int, sprites: int) -> np.ndarray:
    return generator.random((count, sprites + 1, 3))


def draw_shard(seed: int, index: int, image_size: int) -> Iterator[Record]:
    """The records of one shard of the replica with this seed, at the published size whatever `image_size` is."""
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index,)))
    factors, labels = draw_scenes(SHARD, generator, FEWEST, MOST, uniform_in_rgb)
    return records(paint(labels, factors["color"]), labels, factors)


DATA_SET = DataSet(
    name="multi_dsprites_colored",
    title="Multi-dSprites (coloured on coloured)",
    factors=FACTORS,
    published=Published(
        url="https://storage.googleapis.com/multi-object-datasets/multi_dsprites/"
        "multi_dsprites_colored_on_colored.tfrecords",
        records=1_000_000,
        layout=LAYOUT,
        scene=scene,
    ),
    processed=None,
    replica=Replica(layout=lambda image_size: LAYOUT, scene=scene, shard_size=SHARD, shard=draw_shard),
)
