"""From raw records to the prepared store and back, with a toy data set: the shared parts know no other."""

import gzip
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from emorl.data import data_set, store
from emorl.data.checksums import record_path
from emorl.data.description import DataSet, Factor, Published, Replica, Scene, label_map
from emorl.data.prepare import prepare, resize
from emorl.data.raw import fetch
from emorl.data.store import describe, load_images, load_records, load_split
from emorl.data.tfrecords import Feature, decode, encode, read_payloads, write_examples, write_payloads
from emorl.runtime.errors import UserError

LAYOUT = (
    Feature("image", "uint8", (8, 12, 3)),
    Feature("mask", "uint8", (3, 8, 12, 1)),
    Feature("place", "float32", (3, 2)),
    Feature("kind", "uint8", (3,)),
)


SHARD = 4


def toy_record(seed, number):
    rng = np.random.default_rng([seed, number])
    labels = rng.integers(0, 3, (8, 12))
    return {
        "image": rng.integers(0, 256, (8, 12, 3), np.uint8),
        "mask": (labels == np.arange(3)[:, None, None]).astype(np.uint8)[..., None] * np.uint8(255),
        "place": rng.normal(size=(3, 2)).astype(np.float32),
        "kind": np.array([0, number % 2, number % 3], np.uint8),
    }


def toy_shard(seed, index, image_size):
    for number in range(index * SHARD, (index + 1) * SHARD):
        yield toy_record(seed, number)


def toy_scene(record):
    """Cropped to a square, and without the records of kind 2, as CLEVR6 leaves out scenes with many objects."""
    if record["kind"][2] == 2:
        return None
    return Scene(record["image"][:, 2:10], label_map(record["mask"][..., 0])[:, 2:10])


FACTORS = (Factor("place", "continuous"), Factor("kind", "discrete", {0: "none", 1: "one"}))
TOY = DataSet(
    name="toy",
    title="Toy",
    factors=FACTORS,
    published=Published("http://127.0.0.1:9/toy.tfrecords", 9, LAYOUT, toy_scene),
    processed=None,
    replica=Replica(lambda image_size: LAYOUT, toy_scene, SHARD, toy_shard),
)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr("emorl.data.raw.data_set", lambda name: TOY if name == "toy" else data_set(name))


def toy_settings(**changed):
    values = dict(source="replica", image_size=8, train=6, test=3, validation=1, fewer_train=False, replica_seed=7)
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
    return [record for record in (toy_record(7, number) for number in range(15)) if record["kind"][2] != 2]


def test_splits_follow_each_other_and_hold_what_the_records_hold(prepared):
    records = kept_records()
    for split, rows in {"train": records[:6], "test": records[6:9], "validation": records[9:10]}.items():
        images = load_images(prepared, split)
        assert len(images) == len(rows)
        assert images.dtype == np.uint8
        for image, record in zip(images, rows, strict=True):
            np.testing.assert_array_equal(image, record["image"][:, 2:10])
        if split == "train":
            continue
        loaded = load_split(prepared, split)
        np.testing.assert_array_equal(loaded.images, images)
        assert loaded.labels.dtype == np.uint8
        for index, record in enumerate(rows):
            np.testing.assert_array_equal(loaded.labels[index], record["mask"][..., 0].argmax(axis=0)[:, 2:10])
            for factor in FACTORS:
                np.testing.assert_array_equal(loaded.factors[factor.name][index], record[factor.name])
                assert loaded.factors[factor.name].dtype == record[factor.name].dtype


def test_images_are_resized_as_pillow_does_and_labels_stay(raw, tmp_path, prepared):
    prepare(TOY, toy_settings(image_size=5), raw, tmp_path / "small.h5")
    small, native = load_split(tmp_path / "small.h5", "test"), load_split(prepared, "test")
    for image, original in zip(small.images, native.images, strict=True):
        np.testing.assert_array_equal(image, np.asarray(Image.fromarray(original).resize((5, 5))))
    np.testing.assert_array_equal(small.labels, native.labels)


def test_resize_of_the_right_size_changes_nothing():
    image = toy_record(0, 0)["image"][:, :8]
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
        known == "ba67171ed82cfe30d9b97661f0418b0fcea50ce130a117a8df9df0319aa6dae0"
    )  # of these toy records: results carry it, so it must not change
    assert content() == known
    assert content(image_size=5) != known
    assert content(train=5) != known


def test_labels_of_training_scenes_are_not_kept(prepared):
    with h5py.File(prepared) as file:
        assert file["train"].keys() == {"images", "factors", "records"}
        assert file["validation"].keys() == {"images", "labels", "factors", "records"}


def test_the_place_of_each_scene_in_the_raw_file_is_kept_and_is_no_part_of_its_hashes(prepared, tmp_path):
    kept = {split: load_records(prepared, split).tolist() for split in ("train", "test", "validation")}
    every = [record for records in kept.values() for record in records]
    assert every == sorted(set(every))
    with h5py.File(prepared) as file:
        rows = [("train", {"images": image}) for image in file["train/images"]]
    hashes = []
    for first in (0, 5):
        numbered = ((split, row | {"records": np.int64(n)}) for n, (split, row) in enumerate(rows, first))
        store.write(tmp_path / "some.h5", numbered, (), {"data_set": "toy"})
        hashes.append(store.describe(tmp_path / "some.h5")["content_sha256"])
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_files_are_the_same_bytes_each_time_and_with_any_threads(prepared, raw, tmp_path, threads):
    prepare(TOY, toy_settings(), raw, tmp_path / "again.h5", threads)
    assert (tmp_path / "again.h5").read_bytes() == prepared.read_bytes()


@pytest.mark.parametrize("counts", [{"train": 7}, {"test": 4}, {"validation": 2}, {"train": 20, "validation": 0}])
def test_too_few_records_are_an_error_that_gives_the_counts(raw, tmp_path, counts):
    split, wanted = next(iter(counts.items()))
    with pytest.raises(UserError, match=rf"holds 10 scenes of .*, but the splits ask for .*{split} {wanted}"):
        prepare(TOY, toy_settings(**counts), raw, tmp_path / "toy.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_where_fewer_training_scenes_will_do_the_others_keep_their_number(raw, tmp_path):
    prepare(TOY, toy_settings(train=50, fewer_train=True), raw, tmp_path / "toy.h5")
    assert describe(tmp_path / "toy.h5")["counts"] == {"train": 6, "test": 3, "validation": 1}
    with pytest.raises(UserError, match="holds 10 scenes"):
        prepare(TOY, toy_settings(train=50, test=9, fewer_train=True), raw, tmp_path / "toy.h5")


def test_a_data_set_for_testing_alone_has_no_training_scenes(raw, tmp_path):
    prepare(TOY, toy_settings(train=0, validation=0), raw, tmp_path / "toy.h5")
    assert describe(tmp_path / "toy.h5")["counts"] == {"train": 0, "test": 3, "validation": 0}
    with pytest.raises(UserError, match="holds no scenes for train"):
        load_images(tmp_path / "toy.h5", "train")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda record: record | {"mask": np.full((3, 8, 12, 1), 255, np.uint8)}, "masks are not exclusive: pixel"),
        (
            lambda record: record | {"mask": np.zeros((3, 8, 12, 1), np.uint8)},
            r"not complete: pixel \(0, 0\) is in none of them",
        ),
    ],
)
def test_a_scene_that_makes_no_sense_is_named_with_its_record(tmp_path, damage, message):
    records = [toy_record(7, number) for number in range(15)]
    records[4] = damage(records[4])
    write_examples(tmp_path / "toy.tfrecords", records, LAYOUT, "toy")
    with pytest.raises(UserError, match=rf"toy\.tfrecords: record 4: .*{message}"):
        prepare(TOY, toy_settings(), tmp_path / "toy.tfrecords", tmp_path / "toy.h5")
    assert not (tmp_path / "toy.h5").exists()


def test_a_record_of_another_layout_is_named(tmp_path):
    path = tmp_path / "toy.tfrecords"
    payloads = [encode(toy_record(7, number), LAYOUT[number == 2 :]) for number in range(5)]
    write_payloads(path, payloads, path.name)
    with pytest.raises(UserError, match=r"toy\.tfrecords: record 2: there is no feature 'image'"):
        prepare(TOY, toy_settings(), path, tmp_path / "toy.h5")


def test_damaged_records_leave_an_earlier_preparation_alone(raw, prepared, tmp_path):
    before = prepared.read_bytes()
    record_path(raw).unlink()
    raw.write_bytes(raw.read_bytes()[:-200])
    with pytest.raises(UserError, match="cannot be read"):
        prepare(TOY, toy_settings(), raw, prepared)
    assert prepared.read_bytes() == before


@pytest.fixture
def small_disk():
    """No file may grow beyond 500 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_disk_leaves_nothing_and_the_error_names_the_file(raw, tmp_path, small_disk):
    with pytest.raises(OSError, match="File too large") as caught:
        prepare(TOY, toy_settings(), raw, tmp_path / "toy.h5")
    assert caught.value.filename == str(tmp_path / "toy.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_hdf5_is_not_begun_without_room_for_it(raw, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match="No space left on device"):
        prepare(TOY, toy_settings(), raw, tmp_path / "toy.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_a_damaged_payload_is_named_with_its_record(raw, tmp_path):
    frames = bytearray(gzip.decompress(raw.read_bytes()))
    frames[3 * (len(frames) // 15) + 100] ^= 1
    (tmp_path / "wrong.tfrecords").write_bytes(gzip.compress(frames))
    with pytest.raises(UserError, match=r"wrong\.tfrecords: record 3: the checksum of its payload is wrong"):
        prepare(TOY, toy_settings(), tmp_path / "wrong.tfrecords", tmp_path / "toy.h5")


def test_records_other_than_the_recorded_ones_are_not_prepared(raw, tmp_path):
    raw.write_bytes(raw.read_bytes() + b"\x00")
    with pytest.raises(UserError, match="has sha256"):
        prepare(TOY, toy_settings(), raw, tmp_path / "toy.h5")


def test_replica_is_not_taken_for_the_published_data(raw, tmp_path):
    with pytest.raises(UserError, match="is recorded as replica, but the settings say published"):
        prepare(TOY, toy_settings(source="published"), raw, tmp_path / "toy.h5")


def test_replica_without_its_record_is_known_by_its_header(raw, tmp_path):
    record_path(raw).unlink()
    with pytest.raises(UserError, match=r"is a replica \(its header says toy_replica_seed7_00000"):
        prepare(TOY, toy_settings(source="published"), raw, tmp_path / "toy.h5")


def test_missing_records_are_an_error(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        prepare(TOY, toy_settings(), tmp_path / "none.tfrecords", tmp_path / "toy.h5")


def test_replica_says_so_in_its_header_and_record_whatever_its_name(tmp_path):
    path = tmp_path / "renamed.tfrecords"
    fetch(TOY, toy_settings(), path)
    assert b"toy_replica_seed7_00000.tfrecords" in path.read_bytes()[:60]
    assert '"source": "replica"' in record_path(path).read_text()
    first = path.read_bytes()
    fetch(TOY, toy_settings(), path)
    assert path.read_bytes() == first


def test_replica_is_its_shards_in_order_and_the_last_is_cut(tmp_path):
    fetch(TOY, toy_settings(), tmp_path / "toy.tfrecords")
    records = [decode(payload, LAYOUT) for payload in read_payloads(tmp_path / "toy.tfrecords")]
    assert len(records) == 10
    for number, record in enumerate(records):
        np.testing.assert_array_equal(record["image"], toy_record(7, number)["image"])
    assert not (tmp_path / "toy.tfrecords.shards").exists()


def test_interrupted_replica_goes_on_where_it_was(tmp_path, monkeypatch):
    fetch(TOY, toy_settings(), tmp_path / "whole.tfrecords")
    drawn = []

    def shard(seed, index, image_size):
        drawn.append(index)
        if drawn == [0, 1]:
            raise KeyboardInterrupt
        return toy_shard(seed, index, image_size)

    counting = replace(TOY, replica=replace(TOY.replica, shard=shard))
    monkeypatch.setattr("emorl.data.raw.data_set", {"toy": counting}.get)
    with pytest.raises(KeyboardInterrupt):
        fetch(counting, toy_settings(), tmp_path / "cut.tfrecords")
    assert not (tmp_path / "cut.tfrecords").exists()
    fetch(counting, toy_settings(), tmp_path / "cut.tfrecords")
    assert drawn == [0, 1, 1, 2]
    assert (tmp_path / "cut.tfrecords").read_bytes() == (tmp_path / "whole.tfrecords").read_bytes()


@pytest.mark.slow
def test_replica_is_the_same_from_several_processes(tmp_path):
    described, wanted = data_set("tetrominoes"), toy_settings(train=1990)
    for processes in (1, 2):
        fetch(described, wanted, tmp_path / f"{processes}.tfrecords", processes)
    assert (tmp_path / "1.tfrecords").read_bytes() == (tmp_path / "2.tfrecords").read_bytes()


def test_published_records_come_by_download_or_the_error_names_the_replica(tmp_path, monkeypatch):
    monkeypatch.setattr("emorl.data.download.PAUSE", 0)
    with pytest.raises(UserError, match=r"set datasets\.toy\.source to replica in .*params/"):
        fetch(TOY, toy_settings(source="published"), tmp_path / "toy.tfrecords")


def test_missing_store_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no such prepared data set"):
        load_split(tmp_path / "none.h5", "test")


def test_other_hdf5_files_are_an_error(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["images"] = np.zeros(3)
    for read in (describe, lambda path: load_split(path, "test")):
        with pytest.raises(UserError, match="not a prepared data set"):
            read(tmp_path / "other.h5")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(data=st.data())
def test_cut_store_is_an_error(prepared, data):
    whole = prepared.read_bytes()
    cut = prepared.with_name("cut.h5")
    cut.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(UserError, match=r"cut\.h5 is damaged, or not a prepared data set"):
        load_split(cut, "test")


def test_a_store_that_another_program_writes_to_is_not_called_damaged(prepared, tmp_path):
    path = Path(shutil.copy(prepared, tmp_path / "held.h5"))
    holding = "import h5py, sys\nwith h5py.File(sys.argv[1], 'a'):\n    print('held', flush=True)\n    sys.stdin.read()"
    command = [sys.executable, "-c", holding, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(UserError, match=r"held\.h5 is open for writing in another program: close it there"):
            describe(path)
    assert describe(path)["data_set"] == "toy"


def test_what_the_system_says_of_a_store_is_not_called_damage(tmp_path):
    (tmp_path / "folder.h5").mkdir()
    with pytest.raises(IsADirectoryError, match=r"folder\.h5"):
        describe(tmp_path / "folder.h5")


@pytest.mark.parametrize("damage", [(b"OHDR", b"oHDR"), (b'{"0": "none"', b'{"0", "none"')])
def test_store_with_damaged_tables_is_an_error(prepared, damage):
    prepared.write_bytes(prepared.read_bytes().replace(*damage))
    with pytest.raises(UserError, match="is damaged, or not a prepared data set"):
        load_split(prepared, "test")


@pytest.mark.skipif("EMORL_REAL_RECORDS" not in os.environ, reason="needs a folder of published records")
def test_published_records_are_prepared(tmp_path):
    (path,) = Path(os.environ["EMORL_REAL_RECORDS"]).glob("tetrominoes*.tfrecords")
    wanted = toy_settings(source="published", image_size=35)
    prepare(data_set("tetrominoes"), wanted, path, tmp_path / "real.h5")
    assert "replica_seed" not in describe(tmp_path / "real.h5")
    assert load_images(tmp_path / "real.h5", "train").shape == (6, 35, 35, 3)
