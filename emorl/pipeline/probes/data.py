"""Probe of a data set: the first records that are drawn, or records in the layout that is read, through preparation."""

import re
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np
import torch
from PIL import Image

from emorl.data import data_set
from emorl.data.checksums import write_record
from emorl.data.description import DataSet
from emorl.data.own import note, prepare_pictures
from emorl.data.prepare import prepare
from emorl.data.processed import note_files
from emorl.data.settings import REGION, DataSettings, FolderSettings
from emorl.data.store import load_images, load_split
from emorl.data.tfrecords import Feature, Layout, Record, write_examples
from emorl.pipeline.probes.fingerprint import Values, fingerprint

SPLITS = {"train": 2, "test": 2, "validation": 1}
OBJECTS = (4, 8, 6, 2, 10, 5, 7, 3, 9, 8, 5)
"""Of the records that are made up, so that each data set's limits leave some of them out."""


def probe_data(name: str, settings: DataSettings) -> Values:
    """Images, labels and factors of a few scenes of each split."""
    description = data_set(name)
    counts = {split: min(count, getattr(settings, split)) for split, count in SPLITS.items()}
    with TemporaryDirectory() as folder:
        raw, prepared = Path(folder, "raw"), Path(folder, "prepared.h5")
        {"replica": _draw, "published": _publish, "processed": _process}[settings.source](description, settings, raw)
        prepare(description, settings.model_copy(update=counts), raw, prepared)
        values = {"train images": _numbers(load_images(prepared, "train"))} if counts["train"] else {}
        for split in [split for split in ("test", "validation") if counts[split]]:
            found = load_split(prepared, split)
            arrays = {"images": found.images, "labels": found.true_labels, **dict(sorted(found.factors.items()))}
            values |= {f"{split} {what}": _numbers(array) for what, array in arrays.items()}
    return values


def probe_pictures(settings: FolderSettings) -> Values:
    """Images and labels of made-up picture files, cropped and resized as the settings say."""
    region = re.fullmatch(REGION, settings.crop)
    height, width = (int(region[2]) + 5, int(region[4]) + 3) if region else (45, 60)
    row, column = np.mgrid[:height, :width]
    with TemporaryDirectory() as folder:
        (pictures := Path(folder, "pictures")).mkdir()
        (masks := Path(folder, "masks")).mkdir()
        for number in range(3):
            shade = [(row * (2 + channel) + column * (5 - channel) + 70 * number) % 251 for channel in range(3)]
            Image.fromarray(np.stack(shade, -1).astype(np.uint8)).save(pictures / f"{number}.png")
            Image.fromarray(((row // 7 + column // 9 + number) % 3 * 5).astype(np.uint8)).save(masks / f"{number}.png")
        made_up = settings.model_copy(
            update={"images": str(pictures), "masks": str(masks), "test": 2, "validation": 0, "train": "rest"}
        )
        raw, prepared = Path(folder, "raw.json"), Path(folder, "prepared.h5")
        note(made_up).write(raw)
        prepare_pictures("probe", made_up, raw, prepared)
        found = load_split(prepared, "test")
        values = {"train": load_images(prepared, "train"), "test": found.images, "labels": found.true_labels}
    return {what: _numbers(array) for what, array in values.items()}


def _numbers(array: np.ndarray) -> list[float]:
    return [value for row in array for value in fingerprint(torch.from_numpy(np.array(row, np.float64)))]


def _draw(description: DataSet, settings: DataSettings, path: Path) -> None:
    """The first records of a replica's first two shards."""
    replica, seed, size = description.as_replica, settings.replica_seed, settings.image_size
    records = chain(islice(replica.shard(seed, 0, size), 4), islice(replica.shard(seed, 1, size), 1))
    write_examples(path, records, replica.layout(size), "probe")
    write_record(path, path, source="replica", of=description.name, seed=seed, records=sum(SPLITS.values()))


def _publish(description: DataSet, settings: DataSettings, path: Path) -> None:
    layout = description.as_published.layout
    write_examples(path, _made_up(layout), layout, "probe")


def _process(description: DataSet, settings: DataSettings, path: Path) -> None:
    """The authors' files of made-up records, and the note of them."""
    processed = description.as_processed
    columns = processed.factor_columns
    records = list(_made_up(description.as_published.layout))
    for name in filter(None, {processed.train, processed.test}):
        with h5py.File(path.with_name(name), "w") as file:
            group = file.create_group("train")
            group["imgs"] = np.stack([record["image"] for record in records])
            group["masks"] = np.stack([np.moveaxis(record["mask"], _entities_axis(record), 0) for record in records])
            if columns:
                group["factors"] = np.stack([np.stack([_first(record, c) for c in columns], -1) for record in records])
    note_files(description, path)


def _first(record: Record, column: str) -> np.ndarray:
    """A factor of each entity; made-up values for what the records have by another name."""
    values = record.get(column, np.arange(len(record["visibility"])))
    return np.asarray(values, np.float64).reshape(len(values), -1)[:, 0]


def _entities_axis(record: Record) -> int:
    """Where a published mask counts entities: some data sets have them first, some last."""
    return record["mask"].shape.index(len(record["visibility"]))


def _made_up(layout: Layout) -> Iterator[Record]:
    """Records in a published layout: exclusive masks in patches, images of gradients, factors that differ."""
    shapes = {feature.name: feature.shape for feature in layout}
    entities = shapes["visibility" if "visibility" in shapes else "mask"][0]
    for number, objects in enumerate(OBJECTS):
        visible = min(objects, entities - 1)
        special = {"visibility": np.arange(entities) <= visible}
        for feature in layout:
            if feature.name == "mask":
                axis = feature.shape.index(entities)
                row, column = np.delete(np.indices(feature.shape), axis, 0)[:2]
                owner = (row // 7 + column // 11 + number) % (visible + 1)
                special["mask"] = 255 * (np.indices(feature.shape)[axis] == owner)
        yield {f.name: np.asarray(special.get(f.name, _gradient(f, number))).astype(f.dtype) for f in layout}


def _gradient(feature: Feature, number: int) -> np.ndarray:
    values = sum((axis + 2) * part for axis, part in enumerate(np.indices(feature.shape))) * 7 + 13 * number
    return values % 251 if feature.dtype == "uint8" else values / 100
