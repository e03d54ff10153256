"""A prepared data set as files that other programs read: PNGs and CSV, or .npz."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from emorl.data.store import RECORDS, SPLITS, describe, load_arrays
from emorl.runtime.files import atomic_path, write_json
from emorl.runtime.progress import progress

PALETTE = np.random.default_rng(0).integers(64, 256, (256, 3), dtype=np.uint8) * (np.arange(256) > 0)[:, None]
"""Colours that label images are shown in; background black."""


def export_folder(prepared: Path, out: Path) -> None:
    """Write images/SPLIT/NUMBER.png, labels/SPLIT/NUMBER.png (palette images: the number of the entity), SPLIT.csv (a
    row per scene and entity: record, and each factor) and description.json."""
    for split, arrays in _splits(prepared):
        images, labels = arrays["images"], arrays.get("labels")
        for number in progress(range(len(images)), split, "images", total=len(images)):
            _write_png(out / "images" / split / f"{number:06d}.png", Image.fromarray(images[number]))
            if labels is not None:
                indexed = Image.fromarray(labels[number]).convert("P")
                indexed.putpalette(PALETTE.tobytes())
                _write_png(out / "labels" / split / f"{number:06d}.png", indexed)
        with atomic_path(out / f"{split}.csv") as temporary, open(temporary, "w", newline="") as file:
            csv.writer(file).writerows(_rows(arrays))
    write_json(out / "description.json", describe(prepared))


def export_npz(prepared: Path, out: Path) -> None:
    """Write SPLIT.npz: images (N, H, W, 3), labels (N, h, w), records (N,), and each factor as `factor_NAME`; and
    description.json."""
    for split, arrays in _splits(prepared):
        named = {name.replace("factors/", "factor_"): array for name, array in arrays.items()}
        with atomic_path(out / f"{split}.npz") as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, **named)
    write_json(out / "description.json", describe(prepared))


def _splits(prepared: Path) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    counts = describe(prepared)["counts"]
    for split in SPLITS:
        if counts[split]:
            yield split, load_arrays(prepared, split)


def _rows(arrays: dict[str, np.ndarray]) -> Iterator[list[Any]]:
    """The heading, and a row per scene and entity; a factor of several components is a list in JSON."""
    factors = {name.removeprefix("factors/"): array for name, array in arrays.items() if name.startswith("factors/")}
    yield ["image", "record", "entity", *factors]
    records = arrays.get(RECORDS)
    entities = next(iter(factors.values())).shape[1] if factors else 1
    for number in range(len(arrays["images"])):
        record = "" if records is None else int(records[number])
        for entity in range(entities):
            values = (array[number, entity].tolist() for array in factors.values())
            cells = [json.dumps(value) if isinstance(value, list) else value for value in values]
            yield [f"{number:06d}", record, entity, *cells]


def _write_png(path: Path, image: Image.Image) -> None:
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG")
