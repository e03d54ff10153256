"""Downloads of published files: continued where cut, checked, and moved into place only when whole."""

import os
import re
import shutil
import time
from pathlib import Path

import requests

from emorl.data.checksums import read_record, refuse_replica, verified_sha256, write_record
from emorl.data.tfrecords import read_payloads
from emorl.runtime.errors import UserError
from emorl.runtime.files import naming
from emorl.runtime.progress import progress_bar

ATTEMPTS = 5
"""Attempts in a row that may end without one more byte."""
PAUSE = 1.0
"""Seconds before the second attempt; doubled before each further one."""
TIMEOUT = 30.0
"""Seconds without an answer, or without a byte, after which a connection counts as cut."""
_BLOCK = 1 << 14  # bytes read at a time: what a cut connection can lose of what it brought


def download(url: str, path: Path, alternative: str) -> None:
    """Bring the GZIP TFRecord file at `url` to `path`, where it appears whole or not at all.

    Bytes arrive in `path`.part, which a later call continues. A file that is at `path` already, placed there
    by the user, is accepted. First copies are recorded beside the file, later ones held against it (see
    checksums). Raises UserError where the server cannot be reached (naming the `alternative`), the disk has
    no room, a record of the file is damaged, the file is a replica, or it differs from what was recorded.
    """
    if path.exists():
        _check_and_record(url, path, path, origin="placed here by the user")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    _receive_all(url, part, alternative)
    try:
        _check_and_record(url, path, part, origin="downloaded")
    except UserError as error:
        part.unlink()
        raise UserError(f"{url} was downloaded and thrown away: {error}") from error
    os.replace(part, path)


def download_file(url: str, path: Path, alternative: str) -> None:
    """As `download`, for a file of any kind, which is taken at its word; one that is there is left."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    _receive_all(url, part, alternative)
    os.replace(part, path)


def _check_and_record(url: str, path: Path, content: Path, origin: str) -> None:
    """Hold the whole file `content`, which belongs at `path`, against its record; first time: record it."""
    if read_record(path):
        verified_sha256(path, content)
        return
    refuse_replica(content)
    records = 0
    with progress_bar(f"checking {path.name}", None, " records") as progress:
        for _ in read_payloads(content):
            progress.update()
            records += 1
    if records == 0:
        raise UserError(f"{content} holds no record")
    write_record(path, content, source="published", origin=origin, records=records, url=url)


def _receive_all(url: str, part: Path, alternative: str) -> None:
    """Fill `part` until it is whole, over as many connections as that takes."""
    failures, most = 0, _size(part)
    while True:
        try:
            _receive(url, part)
            return
        except requests.RequestException as error:
            failures = failures + 1 if _size(part) <= most else 0
            most = max(most, _size(part))
            if failures == ATTEMPTS:
                raise UserError(
                    f"{url} cannot be downloaded: {_root_cause(error)}. {_size(part)} bytes are in {part}, from "
                    f"where the next attempt continues. Alternative: {alternative}"
                ) from error
            time.sleep(PAUSE * 2**failures)


def _root_cause(error: BaseException) -> BaseException:
    """requests wraps what happened three times over; the innermost says it in words."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return error


def _receive(url: str, part: Path) -> None:
    """One connection: append to `part` what it lacks.

    Raises requests.RequestException where another attempt may help, UserError where not.
    """
    have = _size(part)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        status = response.status_code
        if have and status == requests.codes.range_not_satisfiable:  # nothing comes after these bytes
            if _range(response)[1] == have:
                return
            part.unlink()
            raise requests.ConnectionError(f"the {have} bytes that were there are not of this file")
        if 400 <= status < 500 and status != requests.codes.too_many_requests:
            raise UserError(f"{url} cannot be downloaded: the server answers {status} {response.reason}")
        response.raise_for_status()
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise UserError(f"{url} cannot be downloaded: a web page comes in its place (a proxy's, perhaps)")
        if status == requests.codes.partial_content:
            start, total = _range(response)
        else:  # the server knows no ranges, or was not asked for one
            start, total = 0, int(response.headers.get("Content-Length", -1))
        if total < 0:
            raise UserError(f"{url} cannot be downloaded: the server does not say how many bytes it has")
        _check_disk_space(part, total - have)
        _write(response, part, start, total)
    if _size(part) != total:
        raise requests.ConnectionError(f"the connection was cut after {_size(part)} of {total} bytes")


def _range(response: requests.Response) -> tuple[int, int]:
    """First byte and total size in Content-Range ("bytes 5-9/10", "bytes */10"); -1 where there is none."""
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+)", response.headers.get("Content-Range", ""))
    return (int(match[1] or -1), int(match[2])) if match else (-1, -1)


def _write(response: requests.Response, part: Path, start: int, total: int) -> None:
    """Write the answer's body to `part` from byte `start` on, and to disk, showing rate and time left."""
    with (
        naming(part),
        open(part, "r+b" if part.exists() else "wb") as file,
        progress_bar(part.stem, total, "B", initial=start) as progress,
    ):
        file.seek(start)
        file.truncate()
        for block in response.iter_content(_BLOCK):
            progress.update(file.write(block))
        file.flush()
        os.fsync(file.fileno())


def _check_disk_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise UserError(f"{part} needs {needed / 1e9:.1f} GB more, but only {free / 1e9:.1f} GB are free there")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
