"""Raw files are known again by size and sha256, which stand in FILE.sha256.json beside FILE.

No checksums of the published files are published. So the first complete copy is taken at its word: its sha256
is recorded, and each later use is held against that record.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from emorl.data.tfrecords import original_name
from emorl.runtime.errors import UserError
from emorl.runtime.files import sha256_of_file, write_json
from emorl.runtime.records import Record


class Fingerprint(Record):
    """What the bytes of a file are known by."""

    size: int
    sha256: str

    @classmethod
    def of_file(cls, path: Path) -> "Fingerprint":
        return Fingerprint(size=path.stat().st_size, sha256=sha256_of_file(path))

    def verify(self, path: Path, noted_in: Path) -> None:
        """Raises UserError where `path` holds other bytes than those that `noted_in` notes."""
        found = sha256_of_file(path)
        if found != self.sha256:
            raise UserError(
                f"{path} has sha256 {found}, but {noted_in} says {self.sha256}: delete the file to get it again, or "
                f"{noted_in.name} to trust the new bytes"
            )


class FileRecord(Fingerprint):
    """What is recorded of a published file or of a replica of it."""

    source: Literal["published", "replica"]
    records: int
    time: str
    url: str | None = None
    origin: Literal["downloaded", "placed here by the user"] | None = None
    """How a published file came."""
    of: str | None = None
    """The data set that a replica is of."""
    seed: int | None = None
    """What a replica is drawn from."""


def record_path(path: Path) -> Path:
    """Where the record of the file `path` is kept."""
    return path.with_name(path.name + ".sha256.json")


def write_record(path: Path, content: Path, **facts: str | int) -> None:
    """Record `facts` (fields of a FileRecord) and the fingerprint of `content`, which is or will become `path`."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    record = FileRecord.model_validate(facts | Fingerprint.of_file(content).model_dump() | {"time": now})
    write_json(record_path(path), record.model_dump(exclude_none=True))


def read_record(path: Path) -> FileRecord | None:
    """What is recorded of `path`, or None where nothing is. Raises UserError where the record is damaged."""
    return FileRecord.read(record_path(path)) if record_path(path).exists() else None


def refuse_replica(path: Path) -> None:
    """Raises UserError where the gzip file `path` says that it is a replica: it must never pass for published data."""
    name = original_name(path)
    if "_replica_seed" in name:
        raise UserError(f"{path} is a replica (its header says {name}), not the published file: delete it")


def verified_sha256(path: Path, content: Path | None = None) -> str:
    """sha256 of `content` (`path` itself unless given).

    Raises UserError where it is not the one recorded of `path`, and where there is no such file.
    """
    content = content or path
    if not content.exists():
        raise UserError(f"{content}: there is no such file of records: 'emorl fetch' brings it")
    record = read_record(path)
    if record is None:
        return sha256_of_file(content)
    record.verify(content, record_path(path))
    return record.sha256
