"""Collections of pictures in the forms that are read: a folder or glob, .npz, HDF5, WebDataset tars."""

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Protocol

import h5py
import numpy as np
from PIL import Image

from emorl.data.pictures import SUFFIXES, label_numbers, read_picture, rgb
from emorl.data.settings import FolderSettings
from emorl.runtime.errors import UserError
from emorl.runtime.files import ROOT, sha256_of_file, sha256_of_json, write_json
from emorl.runtime.records import read_as

HASHES = ROOT / ".cache" / "pictures"
"""Hashes of files by path, size and time of the last change, so that a folder is read once."""


class Seen(NamedTuple):
    """A picture as it was found."""

    image: Image.Image
    """RGB, upright."""
    labels: np.ndarray | None
    """(H, W) integers, 0 = background; None without masks."""


class Collection(Protocol):
    """Pictures in one of the forms that are read."""

    def hashes(self) -> dict[str, str]:
        """Hash of each picture by its name, in the order of the names."""

    def read(self, name: str, with_labels: bool) -> Seen:
        """Raises UserError where the picture or its masks cannot be read."""


def collection(settings: FolderSettings) -> Collection:
    """What the settings name. Raises UserError where there is no such thing."""
    suffix = Path(settings.images).suffix.lower()
    if suffix not in (".npz", ".h5", ".hdf5", ".tar"):
        return Pictures(settings.images, settings.masks)
    if settings.masks is not None:
        raise UserError(f"masks: {settings.masks}: {settings.images} holds its masks itself")
    files = [path for path in _found(settings.images)[1] if path.suffix.lower() == suffix]
    if not files:
        raise UserError(f"{settings.images}: there is no such file")
    if suffix == ".tar":
        return Shards(files)
    return Arrays(files)


class Pictures:
    """PNG, JPEG and WebP files; a picture's name is its path below the folder, or below what is fixed of a glob."""

    def __init__(self, images: str, masks: str | None) -> None:
        self.root, _ = _found(images)
        self.masks = None if masks is None else absolute(masks)
        if self.masks is not None and not self.masks.is_dir():
            raise UserError(f"masks: {self.masks}: there is no such folder")
        self.files = {
            name: file
            for name, file in pictures_in(images).items()
            if self.masks is None or not file.is_relative_to(self.masks)
        }

    def hashes(self) -> dict[str, str]:
        every = [file for files in self._mask_files.values() for file in files]
        hashes = _hashes(self.root, [*self.files.values(), *every])
        return {
            name: sha256_of_json([hashes[file] for file in [self.files[name], *self._mask_files[name]]])
            for name in sorted(self.files)
        }

    def read(self, name: str, with_labels: bool) -> Seen:
        image = rgb(read_picture(self.files[name]))
        return Seen(image, self._labels(name) if with_labels and self.masks is not None else None)

    def _labels(self, name: str) -> np.ndarray:
        files = self._mask_files[name]
        if not files:
            assert self.masks is not None
            place = self.masks / PurePosixPath(name).with_suffix("")
            raise UserError(f"{name} has no masks: there is neither {place}.png nor {place}/*.png nor {place}_*.png")
        maps = [label_numbers(read_picture(file)) for file in files]
        if files[0].with_suffix("") == files[0].parent / PurePosixPath(name).stem:
            return maps[0]
        if len({labels.shape for labels in maps}) > 1:
            raise UserError(f"{name}: its masks are of different sizes")
        labels = np.zeros_like(maps[0])
        for number, mask in enumerate(maps, 1):  # a later file lies in front
            labels[mask > 0] = number
        return labels

    @cached_property
    def _mask_files(self) -> dict[str, list[Path]]:
        """Mask files of each picture: its label image, or one file per object in the order of their names."""
        if self.masks is None:
            return {name: [] for name in self.files}
        there = sorted(path for path in self.masks.rglob("*") if path.suffix.lower() == ".png")
        whole = {path.relative_to(self.masks).with_suffix("").as_posix(): path for path in there}
        objects: dict[str, list[Path]] = {}
        for name, path in whole.items():
            for picture in {name.rpartition("/")[0], name.rpartition("_")[0]}:
                objects.setdefault(picture, []).append(path)
        stems = {name: PurePosixPath(name).with_suffix("").as_posix() for name in self.files}
        return {name: [whole[stem]] if stem in whole else objects.get(stem, []) for name, stem in stems.items()}


class Arrays:
    """.npz files with arrays `images` (N, H, W, 3) uint8 and, if they have masks, `labels` (N, H, W); HDF5 files of
    object-centric-library with `image` and `mask` (N, H, W, 1), the label of each pixel. Names are numbers."""

    images: Any
    """An array, or what is read of an HDF5 file when it is asked for; as are the labels."""
    labels: Any

    def __init__(self, files: list[Path]) -> None:
        self.path = files[0]
        if len(files) > 1:
            raise UserError(f"{files[0]} and {files[1]} are both meant: name one file")
        with _reading(self.path):
            if self.path.suffix == ".npz":
                arrays = dict(np.load(self.path, allow_pickle=False))
                self.images, self.labels = arrays["images"], arrays.get("labels")
            else:
                file = h5py.File(self.path, "r", locking=False)
                self.images, self.labels = file["image"], file.get("mask")
            if self.images.ndim != 4 or self.images.shape[3] != 3 or self.images.dtype != np.uint8:
                shape = tuple(self.images.shape)
                raise UserError(f"{self.path}: its images are {shape} {self.images.dtype}; must be (N, H, W, 3) uint8")
            if self.labels is not None and self.labels.shape[:3] != self.images.shape[:3]:
                raise UserError(f"{self.path}: its masks are {self.labels.shape}, for images {self.images.shape}")

    def hashes(self) -> dict[str, str]:
        whole = _hashes(self.path.parent, [self.path])[self.path]
        return {f"{number:06d}": f"{whole}/{number}" for number in range(len(self.images))}

    def read(self, name: str, with_labels: bool) -> Seen:
        number = int(name)
        labels = None
        with _reading(self.path):
            if with_labels and self.labels is not None:
                labels = np.asarray(self.labels[number], np.int64).reshape(self.images.shape[1:3])
            return Seen(Image.fromarray(self.images[number]), labels)


class Shards:
    """Tar files of WebDataset: KEY.png, .jpg or .webp is a picture, KEY.mask.png, .labels.png or .seg.png its label
    image. A picture is named by the file and its key."""

    MASKS = ("mask.png", "labels.png", "seg.png")

    def __init__(self, files: list[Path]) -> None:
        self.files = files
        self._places: dict[str, tuple[Path, dict[str, tuple[int, int]]]] = {}
        for file in files:
            with _reading(file), tarfile.open(file, "r:") as tar:
                for member in tar:
                    if not member.isfile():
                        continue
                    folder, _, base = member.name.rpartition("/")
                    key, _, kind = base.partition(".")
                    name = f"{file.stem}/{folder}/{key}" if folder else f"{file.stem}/{key}"
                    self._places.setdefault(name, (file, {}))[1][kind.lower()] = member.offset_data, member.size

    def hashes(self) -> dict[str, str]:
        whole = _hashes(self.files[0].parent, self.files)
        found = {name: file for name, (file, kinds) in self._places.items() if self._image_kind(kinds)}
        return {name: f"{whole[found[name]]}/{name}" for name in sorted(found)}

    def read(self, name: str, with_labels: bool) -> Seen:
        _, kinds = self._places[name]
        image_kind = self._image_kind(kinds)
        assert image_kind is not None, "others are not listed"
        mask = next((kind for kind in self.MASKS if kind in kinds), None)
        labels = label_numbers(self._picture(name, mask)) if with_labels and mask else None
        return Seen(rgb(self._picture(name, image_kind)), labels)

    def _image_kind(self, kinds: dict[str, tuple[int, int]]) -> str | None:
        return next(
            (kind for kind in kinds if f".{kind.rpartition('.')[2]}" in SUFFIXES and kind not in self.MASKS), None
        )

    def _picture(self, name: str, kind: str) -> Image.Image:
        file, kinds = self._places[name]
        start, size = kinds[kind]
        with open(file, "rb") as opened:
            opened.seek(start)
            return read_picture(file / f"{name}.{kind}", io.BytesIO(opened.read(size)))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What damaged files bring NumPy, HDF5 and tarfile to raise is of many kinds."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path} cannot be read as pictures: {error}") from error


# ---- files ----


def pictures_in(images: str) -> dict[str, Path]:
    """Picture files in a folder or glob by their path below it. Raises UserError where there is no such folder, or
    no picture."""
    root, files = _found(images)
    found = {file.relative_to(root).as_posix(): file for file in files if file.suffix.lower() in SUFFIXES}
    if not found:
        raise UserError(f"{images}: there are no PNG, JPEG or WebP pictures")
    return found


def absolute(text: str) -> Path:
    """A path as users write it: from the project, or from their home."""
    return ROOT / Path(text).expanduser()


def _found(images: str) -> tuple[Path, list[Path]]:
    """The folder that names count from, and the files below it, sorted."""
    path = absolute(images)
    if path.is_file():
        return path.parent, [path]
    if path.is_dir():
        root, pattern = path, "**/*"
    else:
        fixed = [part for part in path.parts[: next(_wild(path), len(path.parts))]]
        root = Path(*fixed)
        pattern = path.relative_to(root).as_posix()
    if pattern == "." or not root.is_dir():
        raise UserError(f"{images}: there is no such folder or file")
    hidden = (file for file in root.glob(pattern) if not any(p.startswith(".") for p in file.relative_to(root).parts))
    return root, sorted(file for file in hidden if file.is_file())


def _wild(path: Path) -> Iterator[int]:
    """Where a glob begins to be one."""
    return (number for number, part in enumerate(path.parts) if set("*?[") & set(part))


def _hashes(root: Path, files: list[Path]) -> dict[Path, str]:
    """sha256 of each file; those that have the size and time of the last change that are remembered are not read."""
    memory = HASHES / f"{sha256_of_json(str(root))[:16]}.json"
    known: dict[str, tuple[int, int, str]] = {}
    with suppress(UserError, FileNotFoundError):
        known = read_as(dict[str, tuple[int, int, str]], memory)
    found: dict[str, tuple[int, int, str]] = {}
    for file in files:
        stat = file.stat()
        state = (stat.st_size, stat.st_mtime_ns)
        old = known.get(str(file))
        found[str(file)] = old if old and old[:2] == state else (*state, sha256_of_file(file))
    if not found.items() <= known.items():
        with suppress(OSError):  # a checkout that may only be read reads them again
            write_json(memory, known | found)
    return {Path(name): entry[2] for name, entry in found.items()}
