"""What the shared parts need to know of a data set: a `DataSet`, one in each data set's own file."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from emorl.data.settings import DataSettings
from emorl.data.tfrecords import Layout, LayoutError, Record


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
class Published:
    """The records as published: a file of DeepMind's Multi-Object Datasets, or folders that are packed into one."""

    url: str
    """Of the file; of what is packed, where its folders are to be had."""
    records: int
    """How many records are published."""
    layout: Layout
    """The features read from each record."""
    scene: Callable[[Record], Scene | None]
    """Image and labels of a record, cropped if the data set is; None for a record that is left out of it."""
    unpack: Callable[[Path], Iterator[Record]] | None = None
    """unpack(folder): the records of what is published as folders; None where a file of records is."""

    @property
    def file(self) -> Path:
        """Where its records lie below the folder of raw files."""
        return Path(*self.url.split("/")[-2:]).with_suffix(".tfrecords")


@dataclass(frozen=True)
class Processed:
    """The same data as the paper's authors processed and published them (Zenodo 4895643): HDF5 files by name."""

    train: str | None
    """File with the training scenes; None where the authors have none."""
    test: str
    """File with the test scenes."""
    scene: Callable[[Record], Scene]
    """Image and labels of a record made of `image`, `mask` and factors; the authors have filtered already."""
    factor_columns: tuple[str, ...] = ()
    """Names of the columns of the array `factors` (N, entities, columns), where a file has one."""


@dataclass(frozen=True)
class Replica:
    """Records drawn by this project where the published ones cannot be had.

    They come in shards, each drawn from its own seed sequence and always whole, so that no record depends on how
    many are asked for, and shards can be made side by side and again after an interruption.
    """

    layout: Callable[[int], Layout]
    """layout(image_size): the features written to each record."""
    scene: Callable[[Record], Scene]
    """Image and labels of a record."""
    shard_size: int
    """Records per shard. It is part of what a replica seed means: do not change it."""
    shard: Callable[[int, int, int], Iterator[Record]]
    """shard(seed, index, image_size): the records of one shard. A renderer may draw at `image_size`; records of
    another size are resized in preparation."""


@dataclass(frozen=True)
class DataSet:
    """A data set of the paper, how its published records are read, and how a replica of them is made."""

    name: str
    """Name of its module, and of its block in params/."""
    title: str
    """Name in tables and figures."""
    factors: tuple[Factor, ...]
    """Which features of the records are factors of the entities."""
    published: Published | None
    """None where nothing is published."""
    processed: Processed | None
    """None where the authors have no such file."""
    replica: Replica | None
    """None where it can only be had as published."""

    @property
    def as_published(self) -> Published:
        """For who knows that there are published records."""
        assert self.published is not None, f"nothing is published of {self.title}"
        return self.published

    @property
    def as_processed(self) -> Processed:
        """For who knows that there are processed files."""
        assert self.processed is not None, f"the authors have no files of {self.title}"
        return self.processed

    @property
    def as_replica(self) -> Replica:
        """For who knows that there is a replica."""
        assert self.replica is not None, f"there is no replica of {self.title}"
        return self.replica


def label_map(masks: np.ndarray) -> np.ndarray:
    """Labels (H, W) uint8 of exclusive masks (entities, H, W), background first; 0 = not in the entity.

    Raises LayoutError where a pixel is in several entities, or in none.
    """
    inside = masks != 0
    entities = inside.sum(0, dtype=np.uint8)
    if (entities != 1).any():
        row, column = np.argwhere(entities != 1)[0]
        count = entities[row, column]
        wrong, inside_of = ("exclusive", str(count)) if count else ("complete", "none")
        raise LayoutError(
            f"its masks are not {wrong}: pixel ({row}, {column}) is in {inside_of} of them; the published files "
            "have no such record, so take the file anew, or one without it"
        )
    labels = np.zeros(masks.shape[1:], np.uint8)
    for entity in range(1, len(masks)):
        labels[inside[entity]] = entity
    return labels


def split_counts(settings: DataSettings) -> dict[str, int]:
    """Scenes per split, in the order in which they are taken from the records."""
    return {"train": settings.train, "test": settings.test, "validation": settings.validation}
