"""The byte layout, held against protobuf itself, and against damage of every kind."""

import gzip
import os
import struct
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emorl.data.tetrominoes import LAYOUT as TETROMINOES
from emorl.data.tetrominoes import render, scene
from emorl.data.tfrecords import (
    Feature,
    LayoutError,
    decode,
    encode,
    masked_crc32c,
    read_payloads,
    write_examples,
)
from emorl.runtime.errors import UserError

LAYOUT = (
    Feature("image", "uint8", (9, 7, 3)),  # more than 127 bytes: lengths of two varint bytes
    Feature("kind", "uint8", (2,)),
    Feature("x", "float32", (2,)),
    Feature("color", "float32", (2, 3)),
)
same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def random_record(seed):
    rng = np.random.default_rng(seed)
    return {
        feature.name: rng.integers(0, 256, feature.shape, np.uint8)
        if feature.dtype == "uint8"
        else rng.normal(size=feature.shape).astype(np.float32)
        for feature in LAYOUT
    }


RECORDS = [random_record(seed) for seed in range(5)]


def assert_same(records, expected):
    records = list(records)
    assert len(records) == len(expected)
    for record, other in zip(records, expected, strict=True):
        assert record.keys() == other.keys()
        for name in other:
            assert record[name].dtype == other[name].dtype
            np.testing.assert_array_equal(record[name], other[name])


def read_examples(path, layout):
    return (decode(payload, layout) for payload in read_payloads(path))


@pytest.fixture
def path(tmp_path):
    write_examples(tmp_path / "toy.tfrecords", RECORDS, LAYOUT, "toy.tfrecords")
    return tmp_path / "toy.tfrecords"


# The messages of tensorflow/core/example/{example,feature}.proto, as far as they occur here.
EXAMPLE_PROTO = """
name: "example.proto" package: "tensorflow" syntax: "proto3"
message_type {
  name: "BytesList"
  field { name: "value" number: 1 type: TYPE_BYTES label: LABEL_REPEATED }
}
message_type {
  name: "FloatList"
  field { name: "value" number: 1 type: TYPE_FLOAT label: LABEL_REPEATED }
}
message_type {
  name: "Feature"
  field { name: "bytes_list" number: 1 type_name: "BytesList" label: LABEL_OPTIONAL }
  field { name: "float_list" number: 2 type_name: "FloatList" label: LABEL_OPTIONAL }
}
message_type {
  name: "Features"
  field { name: "feature" number: 1 type_name: "FeatureEntry" label: LABEL_REPEATED }
  nested_type {
    name: "FeatureEntry"
    field { name: "key" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
    field { name: "value" number: 2 type_name: "Feature" label: LABEL_OPTIONAL }
    options { map_entry: true }
  }
}
message_type {
  name: "Example"
  field { name: "features" number: 1 type_name: "Features" label: LABEL_OPTIONAL }
}
"""


@pytest.fixture(scope="module")
def example_class():
    """tf.train.Example as protobuf itself has it."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(text_format.Parse(EXAMPLE_PROTO, descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


def as_example(example_class, record):
    example = example_class()
    for name, values in record.items():
        if values.dtype == np.uint8:
            example.features.feature[name].bytes_list.value.extend(bytes([v]) for v in values.ravel())
        else:
            example.features.feature[name].float_list.value.extend(values.ravel().tolist())
    return example


def test_what_is_written_is_read(path):
    assert_same(read_examples(path, LAYOUT), RECORDS)


def test_protobuf_reads_what_is_written(example_class):
    for record in RECORDS:
        payload, expected = encode(record, LAYOUT), as_example(example_class, record)
        assert example_class.FromString(payload) == expected
        assert len(payload) == expected.ByteSize()


def test_what_protobuf_writes_is_read(example_class):
    payloads = [as_example(example_class, record).SerializeToString() for record in RECORDS]
    assert_same((decode(payload, LAYOUT) for payload in payloads), RECORDS)


def test_features_may_come_in_any_order_and_others_are_passed_over():
    record = RECORDS[0]
    assert_same([decode(encode(record, LAYOUT[::-1]), LAYOUT)], [record])
    assert_same([decode(encode(record, LAYOUT), LAYOUT[1:2])], [{"kind": record["kind"]}])


def test_checksum_is_that_of_a_published_file():
    # Every record of tetrominoes_train.tfrecords is 25,944 bytes long; its frames begin with that length.
    assert struct.pack("<I", masked_crc32c(struct.pack("<Q", 25_944))).hex() == "ac9f94d4"


def test_checksum_agrees_with_bitwise_crc32c():
    data = bytes(range(200))
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    crc ^= 0xFFFFFFFF
    assert masked_crc32c(data) == ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) % 2**32


def test_same_records_give_the_same_bytes_wherever_they_are_written(path, tmp_path):
    write_examples(tmp_path / "other", RECORDS, LAYOUT, "toy.tfrecords")
    assert (tmp_path / "other").read_bytes() == path.read_bytes()
    assert b"toy.tfrecords\0" in path.read_bytes()[:40]
    assert path.read_bytes()[4:8] == bytes(4)  # no time


@same_folder
@given(data=st.data())
def test_cut_file_gives_the_records_before_the_cut_then_an_error(tmp_path, path, data):
    whole = path.read_bytes()
    cut = tmp_path / "cut.tfrecords"
    cut.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    read = []
    with pytest.raises(UserError, match=r"cut\.tfrecords"):
        read.extend(record for record in read_examples(cut, LAYOUT))
    assert_same(read, RECORDS[: len(read)])


@same_folder
@given(data=st.data())
def test_one_wrong_byte_in_a_frame_is_found_in_its_record(tmp_path, path, data):
    frames = bytearray(gzip.decompress(path.read_bytes()))
    size = len(frames) // len(RECORDS)
    position = data.draw(st.integers(0, len(frames) - 1))
    frames[position] ^= data.draw(st.integers(1, 255))
    wrong = tmp_path / "wrong.tfrecords"
    wrong.write_bytes(gzip.compress(frames))
    with pytest.raises(UserError, match=rf"wrong\.tfrecords: record {position // size} .*checksum"):
        list(read_payloads(wrong))


@same_folder
@given(data=st.data())
def test_frames_that_end_inside_a_record_are_an_error(tmp_path, path, data):
    frames = gzip.decompress(path.read_bytes())
    size = len(frames) // len(RECORDS)
    end = data.draw(st.integers(1, len(frames) - 1).filter(lambda end: end % size))
    short = tmp_path / "short.tfrecords"
    short.write_bytes(gzip.compress(frames[:end]))
    with pytest.raises(UserError, match=rf"short\.tfrecords: record {end // size} .*too early"):
        list(read_payloads(short))


@pytest.mark.parametrize("content", [b"", b"<html>not here</html>", b"\x1f\x8b\x08\x00"])
def test_what_is_not_a_file_of_records_is_an_error(tmp_path, content):
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(UserError, match="other"):
        list(read_payloads(tmp_path / "other"))


def test_missing_file_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        list(read_payloads(tmp_path / "none.tfrecords"))


def test_first_records_are_read_without_the_rest(tmp_path):
    path = tmp_path / "long.tfrecords"
    write_examples(path, (random_record(seed) for seed in range(2000)), LAYOUT, path.name)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert_same(islice(read_examples(path, LAYOUT), 500), [random_record(seed) for seed in range(500)])


def with_feature(**replaced):
    """A layout with some features of LAYOUT replaced by others of the same name."""
    return tuple(replaced.get(feature.name, feature) for feature in LAYOUT)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ((*LAYOUT, Feature("mask", "uint8", (2,))), "no feature 'mask'"),
        (with_feature(image=Feature("image", "uint8", (9, 7, 4))), "'image' takes"),
        (with_feature(x=Feature("x", "float32", (3,))), "'x' takes"),
        (with_feature(x=Feature("x", "uint8", (2,))), "'x' does not hold uint8"),
        (with_feature(kind=Feature("kind", "float32", (2,))), "'kind' does not hold float32"),
    ],
)
def test_record_of_another_layout_is_an_error(layout, message):
    with pytest.raises(LayoutError, match=message):
        decode(encode(RECORDS[0], LAYOUT), layout)


def test_bytes_that_are_not_one_to_a_string_are_an_error(example_class):
    example = as_example(example_class, RECORDS[0])
    strings = example.features.feature["kind"].bytes_list.value
    strings[0], strings[1] = b"", b"ab"  # as many bytes in all
    record = decode(example.SerializeToString(), LAYOUT)
    np.testing.assert_array_equal(record["x"], RECORDS[0]["x"])
    with pytest.raises(LayoutError, match="one-byte strings"):
        record["kind"]


@settings(deadline=None)
@given(st.binary(max_size=60) | st.builds(lambda n: encode(RECORDS[0], LAYOUT)[:n], st.integers(0, 700)))
def test_arbitrary_payloads_raise_nothing_but_layout_errors(payload):
    try:
        dict(decode(payload, LAYOUT))
    except LayoutError:
        return
    assert payload == encode(RECORDS[0], LAYOUT)


@pytest.mark.parametrize("wrong", [np.zeros((2, 2), np.float32), np.zeros(2, np.float64)])
def test_arrays_of_another_shape_or_type_are_not_written(wrong):
    with pytest.raises(LayoutError, match="'x'"):
        encode(RECORDS[0] | {"x": wrong}, LAYOUT)


@pytest.mark.skipif("EMORL_REAL_RECORDS" not in os.environ, reason="needs a folder of published records")
def test_published_tetrominoes_are_read_and_rendered_to_the_pixel():
    (path,) = Path(os.environ["EMORL_REAL_RECORDS"]).glob("tetrominoes*.tfrecords")
    records = list(islice(read_examples(path, TETROMINOES), 1000))
    arrays = {name: np.stack([record[name] for record in records]) for name in records[0]}
    images, masks = render(arrays)
    np.testing.assert_array_equal(images, arrays["image"])
    np.testing.assert_array_equal(masks, arrays["mask"])
    for record in records:
        assert np.bincount(scene(record).labels.ravel())[1:].tolist() == [100, 100, 100]
