"""A bundle of results as a file: a zip, or the folder it was unpacked into, with a list of its files and their hashes.

It may come from anywhere: names that lead out of the folder, links, and files that are not listed are refused.
"""

import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from emorl.runtime.errors import UserError

SUMS = "SHA256SUMS"


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The folder of a bundle; a zip is unpacked into a temporary one. Raises UserError for what is no bundle."""
    if path.is_dir():
        if not (path / SUMS).is_file():
            raise UserError(f"{path} has no {SUMS}: it is no bundle of 'emorl archive'")
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        _unpack(path, Path(folder))
        yield Path(folder)


def listed_files(sums: bytes, path: Path) -> dict[str, str]:
    """Hash of each file of the bundle at `path` by name, from its SHA256SUMS."""
    listed = {}
    for line in sums.decode(errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not name:
            raise UserError(f"{path}: {SUMS} has the line {line[:80]!r}; each must be a hash, two spaces and a name")
        listed[_inside(name, path)] = digest
    return listed


def _unpack(path: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [_inside(info.filename, path) for info in archive.infolist()]
            if SUMS not in names:
                raise UserError(f"{path} has no {SUMS}: it is no bundle of 'emorl archive'")
            listed = listed_files(archive.read(SUMS), path)
            for info in archive.infolist():
                if stat.S_ISLNK(info.external_attr >> 16):
                    raise UserError(f"{path}: {info.filename} is a link; a bundle has files only")
                if info.filename not in listed and info.filename != SUMS:
                    raise UserError(f"{path}: {info.filename} is not among the files that {SUMS} lists")
                if names.count(info.filename) > 1:
                    raise UserError(f"{path}: there are two files {info.filename}")
            archive.extractall(folder)
    except FileNotFoundError:
        raise UserError(f"{path} is not there") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:  # encrypted, exotic
        raise UserError(f"{path} is not a zip, or is damaged: {error}") from None


def _inside(name: str, path: Path) -> str:
    parts = PurePosixPath(name)
    if not name or parts.is_absolute() or ".." in parts.parts or "\\" in name or ":" in name:
        raise UserError(f"{path}: the name {name!r} leads out of the folder that the bundle is unpacked into")
    return name
