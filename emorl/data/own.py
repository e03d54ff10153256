"""Data sets of one's own: pictures found in a folder or in files of one of the usual forms, split and prepared.

A picture is known by its name and the hash of its bytes. Which picture is in which split is noted in the raw file, a
JSON `PictureNote` named by a hash of it all: a picture that changes, comes or goes leads to another prepared file.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from emorl.data import store
from emorl.data.collections import absolute, collection
from emorl.data.prepare import counted, in_threads
from emorl.data.settings import MIDDLE, REGION, WHOLE, FolderSettings
from emorl.runtime.errors import UserError
from emorl.runtime.files import sha256_of_file, sha256_of_json
from emorl.runtime.progress import progress_bar
from emorl.runtime.records import Record

SPLITS = ("train", "test", "validation")
FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "nearest": Image.Resampling.NEAREST,
}
MOST_ENTITIES = 255
"""That a label map can number, beside the background."""


class PictureNote(Record):
    """The raw file of a data set of one's own."""

    images: dict[str, str]
    """Hash of each picture, with its masks, by its name; a picture's record number is its place here."""
    splits: dict[str, list[str]]
    """Names in each split."""

    @property
    def digest(self) -> str:
        """Of all names, bytes and splits."""
        return sha256_of_json(self.model_dump())

    def digest_of(self, split: str) -> str:
        return sha256_of_json([self.images[name] for name in self.splits[split]])


def note(settings: FolderSettings) -> PictureNote:
    """What is there now. Raises UserError where there are no pictures, or fewer than the splits ask for."""
    images = collection(settings).hashes()
    return PictureNote(images=images, splits=_split(list(images), settings))


def prepare_pictures(name: str, settings: FolderSettings, raw: Path, out: Path, threads: int = 1) -> None:
    """Write the pictures of the note `raw` to the prepared file `out`, cropped and resized as `settings` say.

    Labels are numbered anew, 1 to n in the order of their numbers, 0 staying the background. Raises UserError for what
    cannot be read, and where the pictures are not the noted ones.
    """
    noted = PictureNote.read(raw)
    if note(settings) != noted:
        raise UserError(f"{settings.images}: pictures have changed since {raw} was written: start again")
    numbers = {picture: number for number, picture in enumerate(noted.images)}
    pictures = collection(settings)

    def row(item: tuple[str, str]) -> store.Row:
        split, picture = item
        seen = pictures.read(picture, with_labels=split != "train")
        kept = {"images": squared(seen.image, settings)}
        if seen.labels is not None:
            _check_shape(seen.labels, seen.image, settings, picture)
            kept["labels"] = _squared_labels(seen.labels, settings, picture)
        return kept | {store.RECORDS: np.array(numbers[picture])}

    items = [(split, picture) for split in SPLITS for picture in noted.splits[split]]
    attributes = {"data_set": name, "source": settings.source, "image_size": settings.image_size}
    attributes["raw_sha256"] = sha256_of_file(raw)
    rows = zip((split for split, _ in items), in_threads(row, items, raw, threads), strict=True)
    with progress_bar(name, len(items), " pictures") as progress:
        store.write(out, counted(rows, progress), (), attributes)


def squared(image: Image.Image, settings: FolderSettings) -> np.ndarray:
    """(size, size, 3) uint8, cropped and resized as the settings say. Raises UserError where the crop lies outside."""
    return np.asarray(_resized(image, settings, FILTERS[settings.resize]))


def _squared_labels(labels: np.ndarray, settings: FolderSettings, name: str) -> np.ndarray:
    found = [number for number in np.unique(labels) if number != 0]
    if len(found) > MOST_ENTITIES:
        raise UserError(f"{name}: its masks have {len(found)} objects; at most {MOST_ENTITIES} can be told apart")
    numbered = np.where(labels == 0, 0, np.searchsorted(found, labels) + 1).astype(np.uint8)
    return np.asarray(_resized(Image.fromarray(numbered), settings, Image.Resampling.NEAREST))


def _resized(image: Image.Image, settings: FolderSettings, how: Image.Resampling) -> Image.Image:
    size = (settings.image_size, settings.image_size)
    cropped = image.crop(_box(image, settings.crop))
    return cropped if cropped.size == size else cropped.resize(size, how)


def _box(image: Image.Image, crop: str) -> tuple[int, int, int, int]:
    """Left, upper, right and lower edge of what is seen."""
    if crop == WHOLE:
        return 0, 0, image.width, image.height
    if crop == MIDDLE:
        side = min(image.size)
        left, upper = (image.width - side) // 2, (image.height - side) // 2
        return left, upper, left + side, upper + side
    region = re.fullmatch(REGION, crop)
    assert region, "the settings have checked it"
    top, bottom, left, right = map(int, region.groups())
    if not (top <= bottom < image.height and left <= right < image.width):
        raise UserError(f"crop: {crop} is not within a picture of {image.width} x {image.height} pixels")
    return left, top, right + 1, bottom + 1


def _check_shape(labels: np.ndarray, image: Image.Image, settings: FolderSettings, name: str) -> None:
    """Masks may be larger or smaller than the picture, but for a crop that counts its pixels."""
    height, width = labels.shape
    of_the_shape = width * image.height == height * image.width
    if not of_the_shape or (settings.crop not in (MIDDLE, WHOLE) and height != image.height):
        raise UserError(f"{name}: its masks have {width} x {height} pixels, the picture {image.width} x {image.height}")


# ---- splits ----


def _split(names: Sequence[str], settings: FolderSettings) -> dict[str, list[str]]:
    """Names of each split: first what lists and sub-folders name; then numbers and shares of what is left, in an order
    that hashes of the names give, so that pictures that are added move few others; then the rest."""
    parts = {"test": settings.test, "validation": settings.validation, "train": settings.train}
    chosen = {split: _named(part, names) for split, part in parts.items() if isinstance(part, str) and part != "rest"}
    owner: dict[str, str] = {}
    for split, its in chosen.items():
        for name in its:
            if name in owner:
                raise UserError(f"{name} is in two splits, {owner[name]} and {split}")
            owner[name] = split
    left = sorted(set(names) - owner.keys(), key=lambda name: hashlib.sha256(name.encode()).digest())
    whole = len(left)
    for split, part in parts.items():
        if isinstance(part, str):
            continue
        count = part if isinstance(part, int) else max(1, round(part * whole))
        if count > len(left):
            raise UserError(
                f"{settings.images}: {split} asks for {count} pictures, but only {len(left)} are left for it"
            )
        chosen[split], left = left[:count], left[count:]
    for split, part in parts.items():
        if part == "rest":
            chosen[split], left = left, []
    if not chosen["test"]:
        raise UserError(f"{settings.images}: there is no picture for test")
    return {split: sorted(chosen[split]) for split in SPLITS}


def _named(part: str, names: Sequence[str]) -> list[str]:
    """The names in a list file, or in a sub-folder."""
    if part.endswith(".txt"):
        path = absolute(part)
        if not path.is_file():
            raise UserError(f"{path}: there is no such list of pictures")
        listed = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        if unknown := sorted(set(listed) - set(names)):
            raise UserError(f"{path} lists {unknown[0]}, but there is no such picture; names are such as {names[0]}")
        return list(dict.fromkeys(listed))
    found = [name for name in names if name.startswith(f"{part.rstrip('/')}/")]
    if not found:
        raise UserError(f"there are no pictures in a sub-folder {part}; names are such as {names[0]}")
    return found
