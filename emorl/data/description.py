"""What the shared parts need to know of a data set: a `DataSet`, one in each data set's own file."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from emorl.data.settings import DataSettings
from emorl.data.tfrecords import Layout, Record


@dataclass(frozen=True)
class Factor:
    """One annotated property of every entity, kept as recorded: (entities,) or (entities, components)."""

    name: str
    type: Literal["continuous", "discrete"]
    codes: Mapping[int, str] = field(default_factory=dict)
    """What each value of a discrete factor stands for."""


class Scene(NamedTuple):
    """What is prepared of one record beside its factors."""

    image: np.ndarray
    """(H, W, 3) uint8, square."""
    labels: np.ndarray
    """(h, w) uint8: the entity each pixel shows, 0 = background, k = the k-th entity of the factor arrays."""


@dataclass(frozen=True)
class DataSet:
    """A published data set, how its records are read, and how a replica of them is made."""

    name: str
    """Name of its module, and of its block in params/."""
    title: str
    """Name in tables and figures."""
    url: str
    """Where the records are published."""
    records: int
    """How many records are published."""
    layout: Layout
    """The features read from, and written to, each record."""
    factors: tuple[Factor, ...]
    """Which features are factors of the entities."""
    scene: Callable[[Record], Scene | None]
    """Image and labels of a record, cropped if the data set is; None for a record that is left out of it."""
    generate: Callable[[int, int], Iterator[Record]]
    """generate(count, seed): the first `count` records of the replica with this seed, each with a scene."""


def split_counts(settings: DataSettings) -> dict[str, int]:
    """Scenes per split, in the order in which they are taken from the records."""
    return {"train": settings.train, "test": settings.test, "validation": settings.validation}


def label_map(masks: np.ndarray) -> np.ndarray:
    """Labels (H, W) uint8 of exclusive masks (entities, H, W, 1), background first; 255 = in the entity."""
    labels = np.zeros(masks.shape[1:3], np.uint8)
    for entity in range(1, len(masks)):
        labels[masks[entity, ..., 0] > 0] = entity
    return labels
