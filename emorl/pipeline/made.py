"""The tables and figures that have been made, as their records tell, and what they were made from."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from emorl.pipeline.records import Artifact, PageRecord
from emorl.runtime.errors import UserError
from emorl.runtime.files import sha256_of_file


@dataclass(frozen=True)
class Made:
    """What lies in `reports/SCALE/`, whichever selections it was made for."""

    artifacts: dict[str, Artifact]
    """By name: those that hold what the files that they were made from say."""
    stale: dict[str, str]
    """By name: why it is not one of these."""


def made(scale: str, root: Path) -> Made:
    artifacts: dict[str, Artifact] = {}
    stale: dict[str, str] = {}
    for path in record_files(root / "reports" / scale):
        try:
            record = Artifact.read(path)
        except UserError as error:
            stale[path.stem] = str(error)
            continue
        if change := next(changes(record.inputs, root), None):
            stale[path.stem] = change
        else:
            artifacts[path.stem] = record
    return Made(artifacts, stale)


def record_files(folder: Path) -> list[Path]:
    """The records of the artifacts in the folder of a report."""
    return [
        path for path in sorted(folder.glob("*.json")) if path.suffixes == [".json"] and path.name != PageRecord.FILE
    ]


def changes(inputs: dict[str, str], root: Path) -> Iterator[str]:
    """A sentence for each of these files that is not the one with this hash."""
    for file, sha256 in inputs.items():
        if not (root / file).exists():
            yield f"{file} is gone"
        elif sha256_now(root / file) != sha256:
            yield f"{file} is not the file that it was made from"


def sha256_now(path: Path) -> str:
    return _sha256(path, path.stat().st_mtime_ns)


@cache  # several artifacts show one evaluation
def _sha256(path: Path, changed: int) -> str:
    return sha256_of_file(path)
