"""The held-out images of a replica, drawn alone: the training images before them, most of it, are not."""

from collections.abc import Iterator
from itertools import islice

import numpy as np

from emorl.data.description import DataSet, split_counts
from emorl.data.prepare import resize
from emorl.data.settings import DataSettings
from emorl.data.store import Split
from emorl.data.tfrecords import Record
from emorl.runtime.progress import progress


def draw_split(description: DataSet, settings: DataSettings, split: str) -> Split:
    """Images and labels of a split of the replica as `emorl.data.prepare` would prepare them, without factors."""
    counts = split_counts(settings)
    before = sum(list(counts.values())[: list(counts).index(split)])
    records = progress(_records(description, settings, before, counts[split]), "draw", "scenes", counts[split])
    scenes = [description.as_replica.scene(record) for record in records]
    return Split(
        images=np.stack([resize(scene.image, settings.image_size) for scene in scenes]),
        labels=np.stack([scene.labels for scene in scenes]),
        factors={},
        attributes={},
    )


def _records(description: DataSet, settings: DataSettings, first: int, count: int) -> Iterator[Record]:
    """Those from number `first` on; whole shards before them are skipped."""
    replica = description.as_replica
    index, offset = divmod(first, replica.shard_size)
    while count > 0:
        shard = islice(replica.shard(settings.replica_seed, index, settings.image_size), offset, offset + count)
        for record in shard:
            yield record
            count -= 1
        index, offset = index + 1, 0
