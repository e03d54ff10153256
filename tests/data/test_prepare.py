"""From raw records to the prepared store and back, with a toy data set: the shared parts know no other."""

import os
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from emorl.data.checksums import record_path
from emorl.data.description import DataSet, Factor, Scene, label_map
from emorl.data.prepare import prepare, resize
from emorl.data.raw import fetch
from emorl.data.store import describe, load_split
from emorl.data.tfrecords import Feature
from emorl.errors import UserError

LAYOUT = (
    Feature("image", "uint8", (8, 12, 3)),
    Feature("mask", "uint8", (3, 8, 12, 1)),
    Feature("place", "float32", (3, 2)),
    Feature("kind", "uint8", (3,)),
)


def toy_records(count, seed):
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        labels = rng.integers(0, 3, (8, 12))
        yield {
            "image": rng.integers(0, 256, (8, 12, 3), np.uint8),
            "mask": (labels == np.arange(3)[:, None, None]).astype(np.uint8)[..., None] * np.uint8(255),
            "place": rng.normal(size=(3, 2)).astype(np.float32),
            "kind": np.array([0, number % 2, number % 3], np.uint8),
        }


def toy_scene(record):
    """Cropped to a square, and without the records of kind 2: what CLEVR6 will need."""
    if record["kind"][2] == 2:
        return None
    return Scene(record["image"][:, 2:10], label_map(record["mask"])[:, 2:10])


FACTORS = (Factor("place", "continuous"), Factor("kind", "discrete", {0: "none", 1: "one"}))
TOY = DataSet("toy", "Toy", "http://127.0.0.1:9/toy.tfrecords", 9, LAYOUT, FACTORS, toy_scene, toy_records)


def toy_settings(**changed):
    values = dict(source="replica", image_size=8, train=6, test=3, validation=1, replica_seed=7)
    return SimpleNamespace(**(values | changed))


@pytest.fixture
def raw(tmp_path):
    """15 records, ten of them with a scene."""
    path = tmp_path / "raw" / "toy_replica.tfrecords"
    fetch(TOY, toy_settings(train=11), path)
    return path


@pytest.fixture
def prepared(raw, tmp_path):
    prepare(TOY, toy_settings(), raw, tmp_path / "toy.h5")
    return tmp_path / "toy.h5"


def kept_records():
    return [record for record in toy_records(15, seed=7) if record["kind"][2] != 2]


def test_splits_follow_each_other_and_hold_what_the_records_hold(prepared):
    records = kept_records()
    for split, rows in {"train": records[:6], "test": records[6:9], "validation": records[9:10]}.items():
        loaded = load_split(prepared, split)
        assert len(loaded.images) == len(loaded.labels) == len(rows)
        assert loaded.images.dtype == loaded.labels.dtype == np.uint8
        for index, record in enumerate(rows):
            np.testing.assert_array_equal(loaded.images[index], record["image"][:, 2:10])
            np.testing.assert_array_equal(loaded.labels[index], record["mask"][..., 0].argmax(axis=0)[:, 2:10])
            for factor in FACTORS:
                np.testing.assert_array_equal(loaded.factors[factor.name][index], record[factor.name])
                assert loaded.factors[factor.name].dtype == record[factor.name].dtype


def test_images_are_resized_as_pillow_does_and_labels_stay(raw, tmp_path, prepared):
    prepare(TOY, toy_settings(image_size=5), raw, tmp_path / "small.h5")
    small, native = load_split(tmp_path / "small.h5", "train"), load_split(prepared, "train")
    for image, original in zip(small.images, native.images, strict=True):
        np.testing.assert_array_equal(image, np.asarray(Image.fromarray(original).resize((5, 5))))
    np.testing.assert_array_equal(small.labels, native.labels)


def test_resize_of_the_right_size_changes_nothing():
    image = next(toy_records(1, 0))["image"][:, :8]
    assert resize(image, 8) is image


def test_attributes_say_what_was_prepared_and_from_what(prepared, raw):
    attributes = describe(prepared)
    assert attributes["data_set"] == "toy"
    assert attributes["source"] == "replica"
    assert attributes["image_size"] == 8
    assert attributes["replica_seed"] == 7
    assert attributes["counts"] == {"train": 6, "test": 3, "validation": 1}
    assert attributes["factors"]["kind"] == {"type": "discrete", "codes": {"0": "none", "1": "one"}}
    assert attributes["factors"]["place"] == {"type": "continuous", "codes": {}}
    assert attributes["raw_sha256"] in record_path(raw).read_text()
    assert load_split(prepared, "test").attributes == attributes


def test_same_content_has_the_same_hash_and_other_content_another(prepared, raw, tmp_path):
    def content(**changed):
        prepare(TOY, toy_settings(**changed), raw, tmp_path / "other.h5")
        return describe(tmp_path / "other.h5")["content_sha256"]

    known = describe(prepared)["content_sha256"]
    assert (
        known == "518432487882e7811e7b9ffef72592ae2bcabd6c8b939d1e882241e1d47f1791"
    )  # of these toy records: results carry it, so it must not change
    assert content() == known
    assert content(image_size=5) != known
    assert content(train=5) != known


def test_files_are_contiguous_and_the_same_bytes_each_time(prepared, raw, tmp_path):
    with h5py.File(prepared) as file:
        assert file["images"].chunks is None
        assert file["images"].compression is None
    prepare(TOY, toy_settings(), raw, tmp_path / "again.h5")
    assert (tmp_path / "again.h5").read_bytes() == prepared.read_bytes()


@pytest.mark.parametrize(
    ("counts", "split", "end"),
    [
        ({"train": 11}, "train", 11),
        ({"test": 5}, "test", 11),
        ({"validation": 2}, "validation", 11),
        ({"validation": 2, "test": 4}, "validation", 12),
    ],
)
def test_too_few_records_name_the_key_that_asks_for_more(raw, tmp_path, counts, split, end):
    wanted = next(iter(counts.values()))
    with pytest.raises(UserError, match=rf"10 scenes of toy, but datasets\.toy\.{split} = {wanted} asks for {end}"):
        prepare(TOY, toy_settings(**counts), raw, tmp_path / "toy.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_damaged_records_leave_an_earlier_preparation_alone(raw, prepared, tmp_path):
    before = prepared.read_bytes()
    record_path(raw).unlink()
    raw.write_bytes(raw.read_bytes()[:-200])
    with pytest.raises(UserError, match="cannot be read"):
        prepare(TOY, toy_settings(), raw, prepared)
    assert prepared.read_bytes() == before


def test_records_other_than_the_recorded_ones_are_not_prepared(raw, tmp_path):
    raw.write_bytes(raw.read_bytes() + b"\x00")
    with pytest.raises(UserError, match="has sha256"):
        prepare(TOY, toy_settings(), raw, tmp_path / "toy.h5")


def test_replica_is_not_taken_for_the_published_data(raw, tmp_path):
    with pytest.raises(UserError, match="is recorded as replica, but the settings say published"):
        prepare(TOY, toy_settings(source="published"), raw, tmp_path / "toy.h5")


def test_missing_records_are_an_error(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        prepare(TOY, toy_settings(), tmp_path / "none.tfrecords", tmp_path / "toy.h5")


def test_replica_says_so_in_its_header_and_record_whatever_its_name(tmp_path):
    path = tmp_path / "renamed.tfrecords"
    fetch(TOY, toy_settings(), path)
    assert b"toy_replica_seed7_10.tfrecords" in path.read_bytes()[:60]
    assert '"source": "replica"' in record_path(path).read_text()
    first = path.read_bytes()
    fetch(TOY, toy_settings(), path)
    assert path.read_bytes() == first


def test_published_records_come_by_download_or_the_error_names_the_replica(tmp_path, monkeypatch):
    monkeypatch.setattr("emorl.data.download.PAUSE", 0)
    with pytest.raises(UserError, match=r"set datasets\.toy\.source to replica in .*params/"):
        fetch(TOY, toy_settings(source="published"), tmp_path / "toy.tfrecords")


def test_missing_store_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no such prepared data set"):
        load_split(tmp_path / "none.h5", "train")


def test_other_hdf5_files_are_an_error(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["images"] = np.zeros(3)
    for read in (describe, lambda path: load_split(path, "train")):
        with pytest.raises(UserError, match="not a prepared data set"):
            read(tmp_path / "other.h5")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(data=st.data())
def test_cut_store_is_an_error(prepared, data):
    whole = prepared.read_bytes()
    cut = prepared.with_name("cut.h5")
    cut.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(UserError, match=r"cut\.h5 is damaged, or not a prepared data set"):
        load_split(cut, "train")


@pytest.mark.parametrize("damage", [(b"OHDR", b"oHDR"), (b'{"0": "none"', b'{"0", "none"')])
def test_store_with_damaged_tables_is_an_error(prepared, damage):
    prepared.write_bytes(prepared.read_bytes().replace(*damage))
    with pytest.raises(UserError, match="is damaged, or not a prepared data set"):
        load_split(prepared, "train")


@pytest.mark.skipif("EMORL_REAL_RECORDS" not in os.environ, reason="needs a folder of published records")
def test_published_records_are_prepared(tmp_path):
    from emorl.data import data_set

    (path,) = Path(os.environ["EMORL_REAL_RECORDS"]).glob("tetrominoes*.tfrecords")
    wanted = toy_settings(source="published", image_size=35)
    prepare(data_set("tetrominoes"), wanted, path, tmp_path / "real.h5")
    assert "replica_seed" not in describe(tmp_path / "real.h5")
    assert load_split(tmp_path / "real.h5", "train").images.shape == (6, 35, 35, 3)
