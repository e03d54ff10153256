"""Preparation: one pass over raw records into one HDF5 file, resized and split."""

from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from emorl.data import store
from emorl.data.checksums import read_record, verified_sha256
from emorl.data.description import DataSet, split_counts
from emorl.data.progress import progress_bar
from emorl.data.settings import DataSettings
from emorl.data.tfrecords import read_examples
from emorl.errors import UserError


def prepare(description: DataSet, settings: DataSettings, raw_path: Path, out_path: Path) -> None:
    """Prepare the records of `raw_path` as `settings` ask, and write them to `out_path` (layout: see store).

    The scenes are split in the order of the records: the first `settings.train` are for training, the next
    for testing, the next for validation. Raises UserError where the records do not suffice, cannot be read,
    differ from their recorded checksum, or are of another source than `settings` say.
    """
    sha256 = verified_sha256(raw_path)
    _check_source(settings, raw_path)
    attributes = {
        "data_set": description.name,
        "source": settings.source,
        "image_size": settings.image_size,
        "raw_sha256": sha256,
    }
    if settings.source == "replica":
        attributes["replica_seed"] = settings.replica_seed
    counts = split_counts(settings)
    try:
        with progress_bar(description.name, sum(counts.values()), " scenes") as progress:
            rows = _rows(description, settings.image_size, raw_path, progress)
            store.write(out_path, rows, counts, description.factors, attributes)
    except store.TooFewScenes as error:
        raise _too_few(description, counts, raw_path, error.args[0]) from None


def _check_source(settings: DataSettings, raw_path: Path) -> None:
    """A replica must never pass for the published data in results."""
    record = read_record(raw_path)
    if record and record["source"] != settings.source:
        raise UserError(f"{raw_path} is recorded as {record['source']}, but the settings say {settings.source}")


def _rows(description: DataSet, image_size: int, raw_path: Path, progress: tqdm) -> Iterator[store.Row]:
    for record in read_examples(raw_path, description.layout):
        scene = description.scene(record)
        if scene is not None:
            progress.update()
            factors = {f"factors/{factor.name}": record[factor.name] for factor in description.factors}
            yield {"images": resize(scene.image, image_size), "labels": scene.labels, **factors}


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """`image` (H, W, 3) uint8 as (size, size, 3), by Pillow's antialiased bicubic filter.

    The authors' code names no filter; this is the default of the Pillow version they pin (7.2).
    """
    if image.shape[:2] == (size, size):
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))


def _too_few(description: DataSet, counts: dict[str, int], raw_path: Path, found: int) -> UserError:
    """The error that names the first split that the `found` scenes do not fill."""
    ends = zip(counts, accumulate(counts.values()), strict=True)
    split, end = next((split, end) for split, end in ends if end > found)
    return UserError(
        f"{raw_path} holds {found} scenes of {description.name}, but datasets.{description.name}.{split} = "
        f"{counts[split]} asks for {end} (splits are taken one after the other): lower it or an earlier one"
    )
