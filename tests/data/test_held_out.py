"""Held-out images drawn alone are those of the prepared data."""

from dataclasses import replace

import numpy as np
import pytest

from emorl.data import data_set
from emorl.data.description import Scene
from emorl.data.held_out import draw_split
from emorl.data.settings import DataSettings
from emorl.data.store import load_split
from emorl.pipeline import config


@pytest.mark.parametrize("split", ["test", "validation"])
def test_they_are_those_of_the_prepared_replica(split, prepared):
    settings = config.load_scale("test").datasets["tetrominoes"]
    found, expected = draw_split(data_set("tetrominoes"), settings, split), load_split(prepared, split)
    np.testing.assert_array_equal(found.images, expected.images)
    np.testing.assert_array_equal(found.labels, expected.labels)


@pytest.mark.parametrize(("train", "test"), [(0, 2), (2, 5), (3, 3), (7, 9)])
def test_they_are_found_across_shards(train, test):
    """Shards of three records that hold their numbers."""
    shards = []

    def shard(seed, index, size):
        shards.append(index)
        return ({"number": np.uint8(3 * index + i)} for i in range(3))

    def scene(record):
        return Scene(np.full((8, 8, 3), record["number"]), np.full((8, 8), record["number"]))

    described = data_set("tetrominoes")
    described = replace(described, replica=replace(described.replica, shard_size=3, shard=shard, scene=scene))
    settings = DataSettings(
        source="replica", image_size=8, train=train, test=test, validation=1, fewer_train=False, replica_seed=0
    )
    found = draw_split(described, settings, "test")
    assert found.labels[:, 0, 0].tolist() == found.images[:, 0, 0, 0].tolist() == list(range(train, train + test))
    assert min(shards) == train // 3
