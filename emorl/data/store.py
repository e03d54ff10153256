"""The prepared store: one HDF5 file per data set, read whole, a split at a time.

    images          (N, H, W, 3) uint8
    labels          (N, h, w) uint8, 0 = background, k = k-th entity of the factors; h, w as published
    factors/NAME    (N, entities) or (N, entities, components), attributes `type` and `codes` (JSON)
    splits          attributes train, test, validation: first and one past the last row
    /               attributes: data_set, source, image_size, replica_seed, raw_sha256, content_sha256

Datasets are contiguous and uncompressed: they are loaded whole, and small enough for memory.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, islice, pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from emorl.data.description import Factor
from emorl.errors import UserError
from emorl.files import atomic_path, sha256_of_json

SPLITS = ("train", "test", "validation")
_BLOCK = 500  # rows written at a time

Row = Mapping[str, np.ndarray]
"""One scene: the array of each HDF5 dataset, by its path in the file."""


@dataclass(frozen=True)
class Split:
    """One split of a prepared data set, in memory."""

    images: np.ndarray
    """(N, H, W, 3) uint8."""
    labels: np.ndarray
    """(N, h, w) uint8: 0 = background, k = the k-th entity."""
    factors: dict[str, np.ndarray]
    """By name: (N, entities) or (N, entities, components), the background first; dtype as published."""
    attributes: dict[str, Any]
    """What `describe` says of the whole file."""


class TooFewScenes(ValueError):
    """The scenes ran out before the splits were full; `args[0]` is how many there were."""


def write(
    path: Path,
    rows: Iterator[Row],
    counts: Mapping[str, int],
    factors: tuple[Factor, ...],
    attributes: Mapping[str, Any],
) -> None:
    """Write the first scenes of `rows` to `path`: as many as the splits' `counts` add up to, in their order.

    Raises TooFewScenes where there are not as many; then, as on any failure, `path` is left as it was.
    """
    total = sum(counts.values())
    # From version 1.10 on, HDF5's own tables carry checksums, so that damage to them is noticed.
    with atomic_path(path) as temporary, h5py.File(temporary, "w", libver="v110") as file:
        content = _write_rows(file, rows, total)
        for factor in factors:
            file[f"factors/{factor.name}"].attrs.update(type=factor.type, codes=json.dumps(dict(factor.codes)))
        bounds = pairwise(accumulate(counts.values(), initial=0))
        file.create_group("splits").attrs.update(zip(counts, bounds, strict=True))
        file.attrs.update(attributes, content_sha256=content)


def _write_rows(file: h5py.File, rows: Iterator[Row], total: int) -> str:
    """Write `total` rows, a block at a time, and return the sha256 of the content.

    That is the hash of each array's name, type, shape and bytes, so that it does not depend on HDF5 and its
    versions.
    """
    hashes: dict[str, Any] = {}
    for start in range(0, total, _BLOCK):
        block = list(islice(rows, min(_BLOCK, total - start)))
        if len(block) < min(_BLOCK, total - start):
            raise TooFewScenes(start + len(block))
        for name in block[0]:
            values = np.stack([row[name] for row in block])
            if start == 0:
                file.create_dataset(name, (total, *values.shape[1:]), values.dtype)
                hashes[name] = hashlib.sha256()
            file[name][start : start + len(values)] = values
            hashes[name].update(values)
    return sha256_of_json({name: [file[name].dtype.str, file[name].shape, hashes[name].hexdigest()] for name in hashes})


def load_split(path: Path, split: str) -> Split:
    """Load one split ("train", "test" or "validation") of the prepared file `path` into memory.

    Raises UserError where the file is missing, damaged or not a prepared one.
    """
    with _opened(path) as file:
        start, stop = file["splits"].attrs[split]
        return Split(
            images=file["images"][start:stop],
            labels=file["labels"][start:stop],
            factors={name: file["factors"][name][start:stop] for name in file["factors"]},
            attributes=_describe(file),
        )


def describe(path: Path) -> dict[str, Any]:
    """What the prepared file `path` says of itself, without loading it; the values are fit for JSON.

    data_set, source, image_size, raw_sha256, content_sha256; replica_seed where it is a replica; counts:
    scenes per split; factors: type and codes of each. Raises UserError where the file is missing, damaged or
    not a prepared one.
    """
    with _opened(path) as file:
        return _describe(file)


def _describe(file: h5py.File) -> dict[str, Any]:
    attributes = {name: value.item() if isinstance(value, np.generic) else value for name, value in file.attrs.items()}
    counts = {split: int(np.diff(file["splits"].attrs[split])[0]) for split in SPLITS}
    factor_attributes = {name: file["factors"][name].attrs for name in file["factors"]}
    factors = {
        name: {"type": attrs["type"], "codes": json.loads(attrs["codes"])} for name, attrs in factor_attributes.items()
    }
    return attributes | {"counts": counts, "factors": factors}


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    try:
        with h5py.File(path, "r") as file:
            yield file
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such prepared data set") from None
    except (OSError, KeyError, RuntimeError, ValueError) as error:  # what h5py raises on damaged metadata
        raise UserError(f"{path} is damaged, or not a prepared data set: {error}; prepare it again") from error
