"""Reader and writer of the byte layout in which DeepMind's Multi-Object Datasets are published.

A file is a gzip stream of TFRecord frames; each frame holds one `tf.train.Example` message:

    frame    = length (uint64) | masked crc32c of the length | payload | masked crc32c of the payload
    payload  = Example { features { map: name -> BytesList or FloatList } }

Framing: tensorflow/core/lib/io/record_writer.h; messages: tensorflow/core/example/{example,feature}.proto.
What no document says, and was read off a published file: pixels, masks and byte factors are BytesLists of
*one-byte strings*, so that each value takes the three bytes `0a 01 value`, and an array is every third byte
of its list. A generic protobuf reader makes a Python object of each of them (a million per CLEVR record);
this one takes a strided view, and knows nothing of messages but what is written here.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from gzip import BadGzipFile
from math import prod
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import google_crc32c
import numpy as np
from zlib_ng import gzip_ng, zlib_ng

from emorl.runtime.errors import UserError

Record = Mapping[str, np.ndarray]
"""One decoded record: an array of the layout's shape and type for each feature."""

_LENGTH = struct.Struct("<Q")
_CHECKSUM = struct.Struct("<I")
_COMPRESSION_LEVEL = 6  # 9 saves 20 % of the bytes for 10 times the time


@dataclass(frozen=True)
class Feature:
    """One array of a record; uint8 is published as a list of one-byte strings, float32 as a FloatList."""

    name: str
    dtype: Literal["uint8", "float32"]
    shape: tuple[int, ...]


Layout = tuple[Feature, ...]
"""The features to read from, or write to, each record; others in the file are passed over."""


class LayoutError(ValueError):
    """A payload is not an Example of the expected layout. Callers add which file and record it is."""


# ---- records: frames in a gzip stream ----


class Frame(NamedTuple):
    """One record as it lies in the file; its payload is not checked yet."""

    payload: bytes
    checksum: bytes
    """As recorded, of the payload."""


class FrameError(ValueError):
    """A frame is incomplete or differs from its checksums. Callers add which file and record it is."""


def read_payloads(path: Path) -> Iterator[bytes]:
    """Yield the payload of each record of `path`, checking both checksums of its frame; errors as for `read_frames`."""
    for number, frame in enumerate(read_frames(path)):
        try:
            yield checked(frame)
        except FrameError as error:
            raise _unreadable(path, number, error) from error


def read_frames(path: Path) -> Iterator[Frame]:
    """Yield each record of `path`; its payload is for the caller to check, wherever it has time to.

    Lazy: what is not asked for is not decompressed. Raises UserError, naming file and record (from 0), where
    the file is missing, empty, cut short, not gzip, or a length differs from its checksum.
    """
    number = 0
    try:
        with gzip_ng.open(path, "rb") as file:
            while (frame := _read_frame(file)) is not None:
                yield frame
                number += 1
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file of records: 'emorl fetch' brings it") from None
    except (EOFError, OSError, zlib_ng.error, FrameError) as error:  # type: ignore[misc]  # zlib_ng types its class as an instance
        raise _unreadable(path, number, error) from error
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty; a GZIP TFRecord file is needed")


def checked(frame: Frame) -> bytes:
    """The payload of `frame`; raises FrameError where it differs from its checksum."""
    _check(*frame, "payload")
    return frame.payload


def _unreadable(path: Path, number: int, error: Exception) -> UserError:
    needed = ""
    if isinstance(error, BadGzipFile):
        needed = "; a GZIP TFRecord file is needed, such as gzip makes of one that is not compressed"
    elif isinstance(error, FrameError) and number == 0:
        needed = "; a GZIP TFRecord file is needed: is this another kind of file, compressed, or compressed twice?"
    return UserError(f"{path}: record {number} cannot be read: {error}{needed}")


def _read_frame(file: BinaryIO) -> Frame | None:
    """The next frame, or None at the end of the file."""
    head = file.read(_LENGTH.size)
    if not head:
        return None
    length = _whole(head, _LENGTH.size)
    _check(length, _exactly(file, _CHECKSUM.size), "length")
    payload = _exactly(file, _LENGTH.unpack(length)[0])
    return Frame(payload, _exactly(file, _CHECKSUM.size))


def _exactly(file: BinaryIO, size: int) -> bytes:
    return _whole(file.read(size), size)


def _whole(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise FrameError(f"the file ends {size - len(data)} bytes too early")
    return data


def _check(data: bytes, checksum: bytes, what: str) -> None:
    if _CHECKSUM.pack(masked_crc32c(data)) != checksum:
        raise FrameError(f"the checksum of its {what} is wrong")


def masked_crc32c(data: bytes) -> int:
    """TFRecord's checksum: crc32c, rotated right by 15 bits, plus a constant, modulo 2^32."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def original_name(path: Path) -> str:
    """The file name in the header of the gzip file `path`; empty where there is none."""
    with open(path, "rb") as file:
        head = file.read(1024)
    only_name_follows = head[3:4] == b"\x08"  # the flag FNAME of RFC 1952, as this project writes it
    return head[10:].partition(b"\0")[0].decode("latin-1") if only_name_follows else ""


def write_payloads(path: Path, payloads: Iterable[bytes], name: str) -> None:
    """Write one framed record per payload to `path`.

    The gzip header holds `name` as the original file name, and no time: the same records give the same bytes.
    """
    with (
        open(path, "wb") as raw,
        gzip_ng.GzipNGFile(name, "wb", compresslevel=_COMPRESSION_LEVEL, fileobj=raw, mtime=0) as file,
    ):
        for payload in payloads:
            length = _LENGTH.pack(len(payload))
            for part in (length, payload):
                file.write(part + _CHECKSUM.pack(masked_crc32c(part)))


# ---- examples: arrays in a payload ----

_BYTES_LIST, _FLOAT_LIST = 1, 2  # fields of the message tf.train.Feature
_LENGTH_DELIMITED = 2  # protobuf's wire type of strings, messages and packed lists: the only one here
_ONE_BYTE_STRING = 0x010A  # `0a 01` as a little-endian uint16: field 1, length 1
_LIST_OF_DTYPE = {"uint8": _BYTES_LIST, "float32": _FLOAT_LIST}


def write_examples(path: Path, records: Iterable[Record], layout: Layout, name: str) -> None:
    """Write `records` to `path` in the published layout, with the original file name `name` in its header."""
    write_payloads(path, (encode(record, layout) for record in records), name)


def decode(payload: bytes, layout: Layout) -> Record:
    """The arrays of one Example, views of its bytes; raises LayoutError where it is not of this layout.

    Pixels are looked at only when asked for, so that a record can be left out for its factors at little cost.
    """
    try:
        spans = _feature_spans(payload)
        return _Example(payload, {feature.name: (feature, *_span_of(feature, payload, spans)) for feature in layout})
    except IndexError:
        raise LayoutError("the message ends inside a field") from None


class _Example(Mapping):
    """A decoded message; reading an array of bytes may raise LayoutError."""

    def __init__(self, payload: bytes, spans: dict[str, tuple[Feature, int, int]]) -> None:
        self._payload, self._spans = payload, spans

    def __getitem__(self, name: str) -> np.ndarray:
        return _view(self._payload, *self._spans[name])

    def __contains__(self, name: object) -> bool:
        return name in self._spans

    def __iter__(self) -> Iterator[str]:
        return iter(self._spans)

    def __len__(self) -> int:
        return len(self._spans)


def _feature_spans(payload: bytes) -> dict[str, tuple[int, int, int]]:
    """Where each feature's list lies in the payload: name -> (kind of list, start, end)."""
    end = len(payload)
    _, position, end = _field_at(payload, 0, end)  # Example.features
    spans = {}
    while position < end:
        _, start, position = _field_at(payload, position, end)  # Features.feature: one map entry, name and value
        _, name_start, name_end = _field_at(payload, start, position)
        _, value_start, value_end = _field_at(payload, name_end, position)
        name = payload[name_start:name_end].decode(errors="replace")
        spans[name] = _field_at(payload, value_start, value_end)
    return spans


def _field_at(data: bytes, position: int, end: int) -> tuple[int, int, int]:
    """(field number, start, end) of the length-delimited field at `position` of the message data[:end]."""
    tag, size = data[position], data[position + 1]
    position += 2
    if size > 0x7F:  # a varint: seven bits per byte, lowest first, the top bit set on all but the last
        size, shift = size & 0x7F, 7
        while data[position] > 0x7F:
            size |= (data[position] & 0x7F) << shift
            position, shift = position + 1, shift + 7
        size |= data[position] << shift
        position += 1
    if tag & 7 != _LENGTH_DELIMITED or position + size > end:
        raise LayoutError(f"no whole field of an Example lies between bytes {position} and {end} of it")
    return tag >> 3, position, position + size


def _span_of(feature: Feature, payload: bytes, spans: dict[str, tuple[int, int, int]]) -> tuple[int, int]:
    """Where the values of `feature` lie in the payload, once their kind and number are known to be right."""
    if feature.name not in spans:
        raise LayoutError(f"there is no feature {feature.name!r}, only {', '.join(sorted(spans))}")
    kind, start, end = spans[feature.name]
    if kind != _LIST_OF_DTYPE[feature.dtype]:
        raise LayoutError(f"feature {feature.name!r} does not hold {feature.dtype} values")
    if feature.dtype == "float32":
        _, start, end = _field_at(payload, start, end)
    _check_size(feature, end - start, prod(feature.shape) * (3 if feature.dtype == "uint8" else 4))
    return start, end


def _view(payload: bytes, feature: Feature, start: int, end: int) -> np.ndarray:
    count = prod(feature.shape)
    if feature.dtype == "float32":
        return np.frombuffer(payload, "<f4", count, start).reshape(feature.shape)
    heads = np.ndarray((count,), "<u2", payload, start, (3,))
    if (heads != _ONE_BYTE_STRING).any():
        raise LayoutError(f"feature {feature.name!r} is not a list of one-byte strings")
    return np.frombuffer(payload, np.uint8, 3 * count, start)[2::3].reshape(feature.shape)


def _check_size(feature: Feature, found: int, expected: int) -> None:
    if found != expected:
        raise LayoutError(f"feature {feature.name!r} takes {found} bytes; shape {feature.shape} takes {expected}")


def encode(record: Record, layout: Layout) -> bytes:
    """One Example with the features of `layout`, in its order."""
    return _field(1, b"".join(_encode_feature(feature, record[feature.name]) for feature in layout))


def _encode_feature(feature: Feature, values: np.ndarray) -> bytes:
    if values.shape != feature.shape or values.dtype != feature.dtype:
        raise LayoutError(
            f"feature {feature.name!r} is {values.dtype}{values.shape}, not {feature.dtype}{feature.shape}"
        )
    if feature.dtype == "uint8":
        strings = bytearray(b"\x0a\x01\x00" * values.size)
        strings[2::3] = values.tobytes()
        content = bytes(strings)
    else:
        content = _field(1, values.astype("<f4").tobytes())
    value = _field(_LIST_OF_DTYPE[feature.dtype], content)
    return _field(1, _field(1, feature.name.encode()) + _field(2, value))


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited protobuf field."""
    size, varint = len(content), bytearray()
    while size > 0x7F:
        varint.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes((number << 3 | _LENGTH_DELIMITED, *varint, size)) + content
