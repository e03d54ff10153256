"""The prepared store: one HDF5 file per data set, read whole, a split at a time.

    SPLIT/images          (N, H, W, 3) uint8
    SPLIT/labels          (N, h, w) uint8, 0 = background, k = k-th entity of the factors; h, w as recorded (CLEVR: as
                          cropped); of the test and the validation split only, and none of pictures without masks
    SPLIT/factors/NAME    (N, entities) or (N, entities, components)
    /                     attributes: data_set, source, image_size, replica_seed, raw_sha256, content_sha256,
                          train_sha256 (of the training images alone); and in JSON counts, scenes per split,
                          and factors, type and codes of each
    SPLIT/records         (N,) int64, the place of each scene in the raw file (of the authors' files: in that of its
                          split; of pictures: in the list of the note); not part of any hash

A split without scenes has no group. Datasets are contiguous and
uncompressed: they are loaded whole, and small enough for memory.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

import h5py
import numpy as np

from emorl.data.description import Factor
from emorl.runtime.errors import UserError
from emorl.runtime.files import atomic_path, sha256_of_json

SPLITS = ("train", "test", "validation")
RECORDS = "records"
_BLOCK = 500  # rows written at a time
_TABLES_SIZE = 1 << 20  # room for what HDF5 adds to the arrays

Row = Mapping[str, np.ndarray]
"""One scene: the array of each HDF5 dataset, by its path in the file."""


@dataclass(frozen=True)
class Split:
    """One split of a prepared data set, in memory."""

    images: np.ndarray
    """(N, H, W, 3) uint8."""
    labels: np.ndarray | None
    """(N, h, w) uint8: 0 = background, k = the k-th entity; None of pictures without masks."""
    factors: dict[str, np.ndarray]
    """By name: (N, entities) or (N, entities, components), the background first; dtype as published."""
    attributes: dict[str, Any]
    """What `describe` says of the whole file."""

    @property
    def true_labels(self) -> np.ndarray:
        """For what cannot be measured without masks. Raises UserError where there are none."""
        if self.labels is None:
            raise UserError(f"{self.attributes['data_set']} has no masks, which this evaluation needs")
        return self.labels


def write(
    path: Path, rows: Iterator[tuple[str, Row]], factors: tuple[Factor, ...], attributes: Mapping[str, Any]
) -> None:
    """Write scenes, each with the name of its split, to `path`; on any failure `path` is left as it was.

    How many there are is known at the end, and HDF5 crashes on a full disk: so rows wait in plain files, nameless ones
    that vanish with this process, and HDF5 starts when there is room for all. Raises OSError where there is none.
    """
    with atomic_path(path) as temporary, ExitStack() as stack:
        columns: dict[str, _Column] = {}
        for split, row in rows:
            for name, values in row.items():
                if split == "train" and name == "labels":
                    continue  # nothing in training may see them
                array = f"{split}/{name}"
                if array not in columns:
                    columns[array] = _Column(stack.enter_context(TemporaryFile(dir=path.parent)), values)
                columns[array].append(values)
        for column in columns.values():
            column.flush()
        if shutil.disk_usage(path.parent).free < sum(column.size for column in columns.values()) + _TABLES_SIZE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        # From version 1.10 on, HDF5's own tables carry checksums, so that damage to them is noticed.
        with h5py.File(temporary, "w", libver="v110", locking=False) as file:
            for name, column in columns.items():
                column.write(file, name)
            types = {factor.name: {"type": factor.type, "codes": dict(factor.codes)} for factor in factors}
            identities = {name: column.identity() for name, column in columns.items() if not name.endswith(RECORDS)}
            hashes = {
                "content_sha256": sha256_of_json(identities),
                "train_sha256": sha256_of_json(identities.get("train/images")),
            }
            counts = {split: columns[f"{split}/images"].rows for split in SPLITS if f"{split}/images" in columns}
            file.attrs.update(attributes, factors=json.dumps(types), counts=json.dumps(counts), **hashes)


class _Column:
    """The rows of one array on their way into the store."""

    def __init__(self, file: BinaryIO, first: np.ndarray) -> None:
        self._file, self._dtype, self._row_shape = file, first.dtype, first.shape
        self._hash = hashlib.sha256()
        self.rows, self.size = 0, 0
        """Rows and bytes so far."""

    def append(self, values: np.ndarray) -> None:
        content = values.tobytes()
        self._file.write(content)
        self._hash.update(content)
        self.rows += 1
        self.size += len(content)

    def flush(self) -> None:
        self._file.flush()

    def write(self, file: h5py.File, name: str) -> None:
        dataset = file.create_dataset(name, (self.rows, *self._row_shape), self._dtype)
        self._file.seek(0)
        for start in range(0, self.rows, _BLOCK):
            rows = min(_BLOCK, self.rows - start)
            content = self._file.read(rows * prod(self._row_shape) * self._dtype.itemsize)
            dataset[start : start + rows] = np.frombuffer(content, self._dtype).reshape(rows, *self._row_shape)

    def identity(self) -> list[Any]:
        """Type, shape and hash of the bytes: what the content is, whatever HDF5 and its versions make of it."""
        return [self._dtype.str, [self.rows, *self._row_shape], self._hash.hexdigest()]


def load_images(path: Path, split: str) -> np.ndarray:
    """The images of one split alone, (N, H, W, 3) uint8: all that training sees. Errors as for `load_split`."""
    with _opened(path) as file:
        return _group(file, split)["images"][:]


def load_arrays(path: Path, split: str) -> dict[str, np.ndarray]:
    """All arrays of one split by their path in its group: images, labels, records, factors/NAME. Errors as for
    `load_split`."""
    with _opened(path) as file:
        names: list[str] = []
        group = _group(file, split)
        group.visit(names.append)
        return {name: group[name][:] for name in names if isinstance(group[name], h5py.Dataset)}


def load_records(path: Path, split: str) -> np.ndarray:
    """The place (N,) of each scene of a split in the raw file. Errors as for `load_split`, and for files of before."""
    with _opened(path) as file:
        group = _group(file, split)
        if RECORDS not in group:
            raise UserError(f"{path} was prepared before records were noted: delete it and prepare it again")
        return group[RECORDS][:]


def load_split(path: Path, split: str) -> Split:
    """Load a held-out split ("test" or "validation") of the prepared file `path` into memory.

    Raises UserError where the file is missing, damaged or not a prepared one, or the split has no scenes.
    """
    with _opened(path) as file:
        group = _group(file, split)
        return Split(
            images=group["images"][:],
            labels=group["labels"][:] if "labels" in group else None,
            factors={name: values[:] for name, values in group.get("factors", {}).items()},
            attributes=_describe(file),
        )


def describe(path: Path) -> dict[str, Any]:
    """What the prepared file `path` says of itself, without loading it; the values are fit for JSON.

    data_set, source, image_size, raw_sha256, content_sha256, train_sha256; replica_seed where it is a replica;
    counts: scenes per split; factors: type and codes of each. Raises UserError where the file is missing, damaged or
    not a prepared one.
    """
    with _opened(path) as file:
        return _describe(file)


def _group(file: h5py.File, split: str) -> h5py.Group:
    if split not in file:
        raise UserError(f"{file.filename} holds no scenes for {split}: it was prepared with {split}: 0")
    return file[split]


def _describe(file: h5py.File) -> dict[str, Any]:
    attributes = {name: value.item() if isinstance(value, np.generic) else value for name, value in file.attrs.items()}
    counts = {split: len(file[split]["images"]) if split in file else 0 for split in SPLITS}
    return attributes | {"counts": counts, "factors": json.loads(attributes["factors"])}


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    try:
        path.open("rb").close()  # what the system has to say of it is no damage
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such prepared data set: 'emorl prepare' makes it") from None
    try:
        with h5py.File(path, "r", locking=False) as file:  # it is moved into place whole, and never written again
            file.attrs["data_set"]  # other HDF5 files have none
            yield file
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:  # what h5py raises on damaged metadata
        if "already open for write" in str(error):
            raise UserError(
                f"{path} is open for writing in another program: close it there; if none has it, one that had it was "
                f"killed, and `h5clear --status {path}` (of HDF5's tools) takes its mark away"
            ) from None
        raise UserError(
            f"{path} is damaged, or not a prepared data set: {error}; delete it and prepare it again"
        ) from error
