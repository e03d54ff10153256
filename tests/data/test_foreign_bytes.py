"""Whatever bytes a picture, a file of records, a prepared file or one of arrays holds: it is read, or refused in one
sentence."""

import contextlib
import io
import itertools
import struct
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from damage import MANY, damaged
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from emorl.data import data_set, store
from emorl.data.checksums import read_record
from emorl.data.collections import Arrays, Shards
from emorl.data.pictures import read_picture, rgb
from emorl.data.prepare import prepare
from emorl.data.raw import fetch
from emorl.data.tfrecords import read_payloads, write_payloads
from emorl.pipeline import config
from emorl.runtime.errors import UserError

SCENE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8))
ORIENTATION, DATE = 0x112, 0x132


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def read(content):
    return rgb(read_picture(Path("picture"), io.BytesIO(content)))


# ---- pictures ----


def exif(*entries):
    """A directory of tags, each (tag, type, count, value or place of it), as cameras and programs put it into files."""
    directory = b"".join(struct.pack("<HHLL", *entry) for entry in entries)
    return b"Exif\0\0II*\0" + struct.pack("<LH", 8, len(entries)) + directory + bytes(4)


def test_a_turned_picture_whose_date_is_a_fraction_is_turned():
    """Pillow reads such EXIF and cannot write it."""
    assert read(saved(SCENE, "JPEG", exif=exif((ORIENTATION, 3, 1, 6), (DATE, 5, 1, 8)))).size == (30, 40)


def test_every_orientation_is_pillows():
    from PIL import ImageOps

    for orientation in range(1, 9):
        turned = Image.open(io.BytesIO(saved(SCENE, "PNG", exif=exif((ORIENTATION, 3, 1, orientation)))))
        np.testing.assert_array_equal(np.asarray(rgb(turned)), np.asarray(ImageOps.exif_transpose(turned)))


TAGS = st.sampled_from([ORIENTATION, DATE, 0x10F, 0x11A, 0x8769, 0x8825]) | st.integers(0, 2**16 - 1)
VALUES = st.sampled_from([0, 8]) | st.integers(0, 2**32 - 1)
ENTRIES = st.tuples(TAGS, st.integers(0, 14), st.sampled_from([0, 1, 2, 5, 1000]), VALUES)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@MANY
@given(entries=st.lists(ENTRIES, max_size=3))
def test_odd_exif_keeps_no_picture_from_being_read(kind, entries):
    assert set(read(saved(SCENE, kind, exif=exif((ORIENTATION, 3, 1, 8), *entries))).size) == {30, 40}


@pytest.mark.parametrize(
    ("kind", "mode"), [("PNG", "RGB"), ("PNG", "P"), ("PNG", "I;16"), ("JPEG", "RGB"), ("JPEG", "L"), ("WEBP", "RGBA")]
)
def test_damaged_pictures(kind, mode):
    image = Image.fromarray(np.asarray(SCENE)[..., 0].astype(np.uint16)) if mode == "I;16" else SCENE.convert(mode)

    @MANY
    @given(damaged(saved(image, kind, exif=exif((ORIENTATION, 3, 1, 6)))))
    def check(content):
        with contextlib.suppress(UserError):
            assert read(content).mode == "RGB"

    check()


# ---- records and prepared files ----


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Ten replica scenes: settings, raw file, prepared file."""
    folder = tmp_path_factory.mktemp("scenes")
    counts = {"train": 6, "test": 2, "validation": 2}
    wanted = config.load_scale("test").datasets["tetrominoes"].model_copy(update=counts)
    fetch(data_set("tetrominoes"), wanted, folder / "raw.tfrecords")
    prepare(data_set("tetrominoes"), wanted, folder / "raw.tfrecords", folder / "prepared.h5")
    return wanted, folder / "raw.tfrecords", folder / "prepared.h5"


@pytest.fixture
def prepared_anew(scenes, tmp_path):
    """Prepare a raw file of these bytes, which leaves either a whole file or none."""

    def attempt(content):
        (tmp_path / "raw.tfrecords").write_bytes(content)
        (tmp_path / "out.h5").unlink(missing_ok=True)
        try:
            prepare(data_set("tetrominoes"), scenes[0], tmp_path / "raw.tfrecords", tmp_path / "out.h5")
        except UserError:
            assert [path.name for path in tmp_path.iterdir()] == ["raw.tfrecords"]
        else:
            assert store.describe(tmp_path / "out.h5")["counts"] == {"train": 6, "test": 2, "validation": 2}

    return attempt


def test_damaged_files_of_records(scenes, prepared_anew):
    @settings(parent=MANY, max_examples=30)
    @given(damaged(scenes[1].read_bytes()))
    def check(content):
        prepared_anew(content)

    check()


def test_damaged_records_whose_checksums_are_right(scenes, prepared_anew, tmp_path):
    first, *others = read_payloads(scenes[1])

    @settings(parent=MANY, max_examples=30)
    @given(damaged(first))
    def check(payload):
        write_payloads(tmp_path / "raw.tfrecords", [payload, *others], "tetrominoes")
        prepared_anew((tmp_path / "raw.tfrecords").read_bytes())

    check()


def test_damaged_prepared_files(scenes, tmp_path):
    path = tmp_path / "damaged.h5"
    reads = (
        store.describe,
        *(lambda path, split=split: store.load_split(path, split) for split in ("test", "validation")),
        lambda path: store.load_images(path, "train"),
        lambda path: store.load_arrays(path, "test"),
        lambda path: store.load_records(path, "test"),
    )

    @MANY
    @given(damaged(scenes[2].read_bytes()))
    def check(content):
        path.write_bytes(content)
        for attempt in reads:
            with contextlib.suppress(UserError):
                attempt(path)
        assert path.read_bytes() == content

    check()


def test_a_damaged_note_of_a_files_checksum(scenes, tmp_path):
    @MANY
    @given(damaged(scenes[1].with_name("raw.tfrecords.sha256.json").read_bytes()))
    def check(content):
        (tmp_path / "raw.tfrecords.sha256.json").write_bytes(content)
        with contextlib.suppress(UserError):
            read_record(tmp_path / "raw.tfrecords")

    check()


# ---- pictures of one's own, in files of arrays ----


def npz():
    file = io.BytesIO()
    np.savez_compressed(file, images=np.zeros((3, 8, 8, 3), np.uint8), labels=np.zeros((3, 8, 8), np.uint8))
    return file.getvalue()


def hdf5():
    file = io.BytesIO()
    with h5py.File(file, "w") as opened:
        opened.create_dataset("image", data=np.zeros((3, 8, 8, 3), np.uint8), compression="gzip")
        opened["mask"] = np.zeros((3, 8, 8, 1), np.uint8)
    return file.getvalue()


def tar():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as opened:
        for number, kind in itertools.product(range(3), ("png", "mask.png")):
            content = saved(SCENE.convert("L"), "PNG")
            member = tarfile.TarInfo(f"{number}.{kind}")
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
    return file.getvalue()


@pytest.mark.parametrize(("name", "whole", "form"), [
    ("own.npz", npz, Arrays), ("own.h5", hdf5, Arrays), ("own.tar", tar, Shards),
])  # fmt: skip
def test_damaged_files_of_ones_own_pictures(name, whole, form, tmp_path, monkeypatch):
    monkeypatch.setattr("emorl.data.collections.HASHES", tmp_path / "hashes")

    @MANY
    @given(damaged(whole()))
    def check(content):
        (tmp_path / name).write_bytes(content)
        with contextlib.suppress(UserError):
            collection = form([tmp_path / name])
            for picture in collection.hashes():
                collection.read(picture, with_labels=True)

    check()
