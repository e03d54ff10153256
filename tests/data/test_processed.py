"""The authors' processed HDF5 files as a source: the same scenes prepare to the same data."""

import gzip
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from emorl.data import data_set
from emorl.data.prepare import prepare
from emorl.data.raw import fetch, link
from emorl.data.store import describe, load_images, load_split
from emorl.data.tetrominoes import LAYOUT, draw_shard
from emorl.data.tfrecords import write_examples
from emorl.runtime.errors import UserError

TETROMINOES = data_set("tetrominoes")
RECORDS = [record for record, _ in zip(draw_shard(3, 0, 35), range(14), strict=False)]


def wanted(**changed):
    values = dict(source="processed", image_size=20, train=8, test=3, validation=2, fewer_train=False, replica_seed=0)
    return SimpleNamespace(**(values | changed))


def write(path, group, records):
    with h5py.File(path, "w") as file:
        file[f"{group}/imgs"] = np.stack([record["image"] for record in records])
        file[f"{group}/masks"] = np.stack([record["mask"] for record in records])


@pytest.fixture
def note(tmp_path):
    """As data/raw/processed: training and validation scenes in one file, test scenes in the other."""
    folder = tmp_path / "processed"
    folder.mkdir()
    write(folder / "tetrominoes.h5", "train", RECORDS[:8] + RECORDS[11:])
    write(folder / "tetrominoes_test.h5", "test", RECORDS[8:11])
    fetch(TETROMINOES, wanted(), folder / "tetrominoes.json")
    return folder / "tetrominoes.json"


def test_prepared_data_are_those_of_the_published_records(note, tmp_path):
    write_examples(tmp_path / "published.tfrecords", RECORDS, LAYOUT, "published")
    prepare(TETROMINOES, wanted(source="published"), tmp_path / "published.tfrecords", tmp_path / "published.h5")
    prepare(TETROMINOES, wanted(), note, tmp_path / "processed.h5")
    for split in ("train", "test", "validation"):
        ours, theirs = (load_images(tmp_path / f"{source}.h5", split) for source in ("published", "processed"))
        np.testing.assert_array_equal(ours, theirs)
    for split in ("test", "validation"):
        ours, theirs = (load_split(tmp_path / f"{source}.h5", split) for source in ("published", "processed"))
        np.testing.assert_array_equal(ours.labels, theirs.labels)
    assert theirs.factors == {}
    assert describe(tmp_path / "processed.h5")["source"] == "processed"


def test_factor_columns_are_taken_by_name(tmp_path):
    described = data_set("clevr6")
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(2, 11, len(described.processed.factor_columns))).astype(np.float32)
    for name, group in ((described.processed.train, "train"), (described.processed.test, "test")):
        with h5py.File(tmp_path / name, "w") as file:
            file[f"{group}/imgs"] = rng.integers(0, 256, (2, 240, 320, 3), np.uint8)
            masks = np.zeros((2, 11, 240, 320, 1), np.uint8)
            masks[:, 1] = 255
            file[f"{group}/masks"] = masks
            if group == "test":
                file[f"{group}/factors"] = factors
    fetch(described, wanted(), tmp_path / "clevr6.json")
    prepare(described, wanted(train=1, test=2, validation=1), tmp_path / "clevr6.json", tmp_path / "clevr6.h5")
    test = load_split(tmp_path / "clevr6.h5", "test")
    assert test.labels.shape == (2, 192, 192)
    for column, name in enumerate(described.processed.factor_columns):
        np.testing.assert_array_equal(test.factors[name], factors[..., column])


def test_missing_file_is_an_error_that_says_where_to_get_it(tmp_path):
    with pytest.raises(UserError, match=r"tetrominoes\.h5: there is no such file; unzip .*zenodo"):
        fetch(TETROMINOES, wanted(), tmp_path / "tetrominoes.json")
    assert not (tmp_path / "tetrominoes.json").exists()


def test_files_changed_since_they_were_noted_are_not_prepared(note, tmp_path):
    write(note.parent / "tetrominoes_test.h5", "test", RECORDS[:3])
    with pytest.raises(UserError, match=r"tetrominoes_test\.h5 has sha256 .*, but .*tetrominoes\.json says"):
        prepare(TETROMINOES, wanted(), note, tmp_path / "out.h5")
    assert not (tmp_path / "out.h5").exists()


def test_the_file_of_another_data_set_is_an_error(note, tmp_path):
    small = [record | {"mask": record["mask"][:3]} for record in RECORDS]
    write(note.parent / "tetrominoes.h5", "train", small)
    fetch(TETROMINOES, wanted(), note)
    with pytest.raises(UserError, match=r"masks has entries of shape \(3, 35, 35, 1\), those of Tetrominoes have \(4"):
        prepare(TETROMINOES, wanted(), note, tmp_path / "out.h5")


@pytest.mark.parametrize("content", [b"", b"no HDF5 at all"])
def test_damaged_file_is_an_error(note, tmp_path, content):
    (note.parent / "tetrominoes.h5").write_bytes(content)
    fetch(TETROMINOES, wanted(), note)
    with pytest.raises(UserError, match="damaged, or not one of the authors' files"):
        prepare(TETROMINOES, wanted(), note, tmp_path / "out.h5")


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("masks", np.zeros((5, 4, 35, 35, 1), np.uint8), "masks has 5 entries for 11 images"),
        ("imgs", np.zeros((11, 35, 35, 3), np.float32), "imgs holds float32 values; they must be uint8"),
    ],
)
def test_arrays_of_another_length_or_type_are_an_error(note, tmp_path, name, values, message):
    with h5py.File(note.parent / "tetrominoes.h5", "a") as file:
        del file["train"][name]
        file["train"][name] = values
    fetch(TETROMINOES, wanted(), note)
    with pytest.raises(UserError, match=message):
        prepare(TETROMINOES, wanted(), note, tmp_path / "out.h5")


def test_a_replica_is_not_linked_as_published(tmp_path):
    write_examples(tmp_path / "r.tfrecords", RECORDS, LAYOUT, "tetrominoes_replica_seed0_00000.tfrecords")
    place = tmp_path / "place.tfrecords"
    link(TETROMINOES, wanted(source="published"), tmp_path / "r.tfrecords", place)
    with pytest.raises(UserError, match="is a replica"):
        fetch(TETROMINOES, wanted(source="published"), place)


def test_a_link_to_nothing_is_replaced_and_a_file_without_records_is_not_linked(note, tmp_path):
    place, good = tmp_path / "place.tfrecords", tmp_path / "good.tfrecords"
    place.symlink_to(tmp_path / "gone")
    with pytest.raises(UserError, match="cannot be read"):
        link(TETROMINOES, wanted(source="published"), note, place)
    assert not place.exists()
    write_examples(good, RECORDS, LAYOUT, "good")
    link(TETROMINOES, wanted(source="published"), good, place)
    assert place.samefile(good)


def test_what_is_not_this_data_set_as_published_is_not_linked(tmp_path):
    place, other = tmp_path / "place.tfrecords", tmp_path / "other.tfrecords"
    write_examples(other, [{name: RECORDS[0][name] for name in ("image", "mask")}], LAYOUT[:2], "other")
    with pytest.raises(UserError, match=r"other\.tfrecords is not Tetrominoes as published: there is no feature"):
        link(TETROMINOES, wanted(source="published"), other, place)
    with pytest.raises(UserError, match=r"is a folder; Tetrominoes as published is one GZIP TFRecord file"):
        link(TETROMINOES, wanted(source="published"), tmp_path, place)
    other.write_bytes(gzip.compress(other.read_bytes()))
    with pytest.raises(UserError, match=r"a GZIP TFRecord file is needed: .* compressed twice\?"):
        link(TETROMINOES, wanted(source="published"), other, place)
    other.write_bytes(gzip.decompress(gzip.decompress(other.read_bytes())))
    with pytest.raises(UserError, match=r"Not a gzipped file.*; a GZIP TFRecord file is needed, such as gzip makes"):
        link(TETROMINOES, wanted(source="published"), other, place)
    assert not place.exists()


def test_files_elsewhere_are_linked(note, tmp_path):
    place = tmp_path / "data/raw/processed/tetrominoes.json"
    link(TETROMINOES, wanted(), note.parent, place)
    link(TETROMINOES, wanted(), note.parent, place)  # again: the same links
    fetch(TETROMINOES, wanted(), place)
    prepare(TETROMINOES, wanted(), place, tmp_path / "linked.h5")
    prepare(TETROMINOES, wanted(), note, tmp_path / "direct.h5")
    first, second = (describe(tmp_path / f"{name}.h5")["content_sha256"] for name in ("linked", "direct"))
    assert first == second


def test_links_never_replace_another_file(note, tmp_path):
    place = tmp_path / "raw.tfrecords"
    place.write_text("mine")
    with pytest.raises(UserError, match="is there already, and another file"):
        link(TETROMINOES, wanted(source="published"), note, place)
    assert place.read_text() == "mine"
    with pytest.raises(UserError, match="no such file"):
        link(TETROMINOES, wanted(source="published"), tmp_path / "none", tmp_path / "other")
    with pytest.raises(UserError, match="a replica is drawn"):
        link(TETROMINOES, wanted(source="replica"), note, tmp_path / "other")
