"""Preparation: one pass over raw records into one HDF5 file, cropped, filtered, resized and split at once."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image
from tqdm import tqdm

from emorl.data import processed, store
from emorl.data.checksums import read_record, refuse_replica, verified_sha256
from emorl.data.description import DataSet, Scene, split_counts
from emorl.data.settings import DataSettings
from emorl.data.tfrecords import FrameError, LayoutError, Record, checked, decode, read_frames
from emorl.runtime.errors import UserError
from emorl.runtime.progress import progress_bar

Item = TypeVar("Item")
SplitRow = tuple[str, store.Row]

_BATCH = 16  # records handed to a thread at once: 50 MB of CLEVR


def prepare(description: DataSet, settings: DataSettings, raw_path: Path, out_path: Path, threads: int = 1) -> None:
    """Prepare the records of `raw_path` as `settings` ask, and write them to `out_path` (layout: see store).

    Scenes are split in the order of the records: the first `settings.train` are for training, the next for testing,
    the next for validation. One thread reads; with more `threads`, the others decode, crop and resize. Raises
    UserError where the records do not suffice, cannot be read, differ from their recorded checksum, or are of
    another source than `settings` say.
    """
    attributes = {"data_set": description.name, "source": settings.source, "image_size": settings.image_size}
    attributes["raw_sha256"] = verified_sha256(raw_path)
    _check_source(settings, raw_path)
    rows_of = _processed_rows if settings.source == "processed" else _recorded_rows
    rows = rows_of(description, settings, raw_path, threads)
    if settings.source == "replica":
        attributes["replica_seed"] = settings.replica_seed
    with progress_bar(description.name, sum(split_counts(settings).values()), " scenes") as progress:
        store.write(out_path, counted(rows, progress), description.factors, attributes)


def _check_source(settings: DataSettings, raw_path: Path) -> None:
    """A replica must never pass for the published data in results."""
    record = read_record(raw_path)
    if record and record.source != settings.source:
        raise UserError(
            f"{raw_path} is recorded as {record.source}, but the settings say {settings.source}: delete both"
        )
    if settings.source == "published":
        refuse_replica(raw_path)


def _recorded_rows(description: DataSet, settings: DataSettings, path: Path, threads: int) -> Iterator[SplitRow]:
    """From the published file, or from a replica."""
    if settings.source == "published":
        layout, scene = description.as_published.layout, description.as_published.scene
    else:
        layout, scene = description.as_replica.layout(settings.image_size), description.as_replica.scene
    row = _row_maker(description, settings, scene)
    rows = in_threads(lambda frame: row(decode(checked(frame), layout)), read_frames(path), path, threads)
    reserved = {"test": settings.test, "validation": settings.validation}
    return _split(rows, settings.train, reserved, settings.fewer_train, path)


def _processed_rows(description: DataSet, settings: DataSettings, note: Path, threads: int) -> Iterator[SplitRow]:
    """From the authors' files, one for training and one for testing; validation scenes follow the training scenes."""
    row = _row_maker(description, settings, description.as_processed.scene)

    def rows(split: str) -> Iterator[store.Row]:
        path = processed.path_of(description, note, split)
        return in_threads(row, processed.read_split(description, note, split), path, threads)

    test, validation = {"test": settings.test}, {"validation": settings.validation}
    if description.as_processed.train is None:
        if settings.train:
            raise UserError(f"the authors have no training scenes of {description.title}: set train to 0 under params/")
        return _split(rows("test"), 0, test | validation, False, note)
    return chain(
        _split(rows("train"), settings.train, validation, settings.fewer_train, note),
        _split(rows("test"), 0, test, False, note),
    )


# ---- rows ----


def _row_maker(
    description: DataSet, settings: DataSettings, scene_of: Callable[[Record], Scene | None]
) -> Callable[[Record], store.Row | None]:
    def row(record: Record) -> store.Row | None:
        scene = scene_of(record)
        if scene is None:
            return None
        kept = {"images": resize(scene.image, settings.image_size), "labels": scene.labels}
        kept |= {f"factors/{f.name}": record[f.name] for f in description.factors if f.name in record}
        return {name: np.array(values) for name, values in kept.items()}  # views would hold the whole record in memory

    return row


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """`image` (H, W, 3) uint8 as (size, size, 3), by Pillow's antialiased bicubic filter.

    The authors' code names no filter; this is the default of the Pillow version they pin (7.2).
    """
    if image.shape[:2] == (size, size):
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))


def in_threads(
    row: Callable[[Item], store.Row | None], items: Iterable[Item], path: Path, threads: int
) -> Iterator[store.Row]:
    """row(item) of each item with its number, in order, without those that are None; reading goes on in this thread.

    No more than a few items are held at a time. Raises UserError naming `path` and the item's number (from 0) where an
    item is not of the expected layout.
    """

    def rows(batch: list[tuple[int, Item]]) -> list[store.Row | None]:
        made = ((number, _named(row, item, f"{path}: record {number}")) for number, item in batch)
        return [found and {store.RECORDS: np.array(number), **found} for number, found in made]

    waiting: deque[Future] = deque()
    numbered = enumerate(items)
    with ThreadPoolExecutor(max(1, threads - 1)) as pool:
        while batch := list(islice(numbered, _BATCH)):
            waiting.append(pool.submit(rows, batch))
            if len(waiting) > threads:
                yield from filter(None, waiting.popleft().result())
        for future in waiting:
            yield from filter(None, future.result())


def _named(row: Callable[[Item], store.Row | None], item: Item, name: str) -> store.Row | None:
    """row(item), with the item's `name` in the error where it is damaged or not of the expected layout."""
    try:
        return row(item)
    except (FrameError, LayoutError) as error:
        raise UserError(f"{name}: {error}") from error


# ---- splits ----


def _split(
    rows: Iterator[store.Row], train: int, reserved: Mapping[str, int], fewer_train: bool, path: Path
) -> Iterator[SplitRow]:
    """Assign the first `train` scenes to training and those after them to the `reserved` splits, in their order.

    No more scenes are taken than are needed. The last ones so far wait in a line as long as the reserved splits, so
    that where the records end early it is the training split that is shorter. Raises UserError where it may not be.
    """
    waiting: deque[store.Row] = deque()
    line, trained = sum(reserved.values()), 0
    while trained < train or len(waiting) < line:
        row = next(rows, None)
        if row is None:
            break
        waiting.append(row)
        if len(waiting) > line:
            yield "train", waiting.popleft()
            trained += 1
    if len(waiting) < line or trained < (min(train, 1) if fewer_train else train):
        asked = ", ".join(f"{split} {count}" for split, count in {"train": train, **reserved}.items() if count)
        raise UserError(
            f"{path} holds {trained + len(waiting)} scenes of this data set, but the splits ask for {asked}: lower one "
            "of them in the file under params/"
        )
    for split, count in reserved.items():
        for _ in range(count):
            yield split, waiting.popleft()


def counted(rows: Iterator[SplitRow], progress: tqdm) -> Iterator[SplitRow]:
    for row in rows:
        progress.update()
        yield row
