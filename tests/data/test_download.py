"""Downloads from a local server that behaves as badly as servers and connections do."""

import json
import re
import shutil
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest

from emorl.data import download as downloads
from emorl.data.download import download
from emorl.data.tfrecords import read_payloads, write_payloads
from emorl.runtime.errors import UserError

ALTERNATIVE = "set datasets.toy.source to replica"


@dataclass
class Site:
    """What the server has and does; one entry of `cuts` and `statuses` is used up per request."""

    content: bytes
    url: str = ""
    ranges: bool = True
    says_size: bool = True
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    requests: list[str | None] = field(default_factory=list)

    def answer(self, handler):
        asked = handler.headers.get("Range")
        self.requests.append(asked)
        if self.statuses:
            handler.send_error(self.statuses.pop(0))
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and self.ranges else 0
        size = len(self.content)
        if start >= size:
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{size}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(206 if asked and self.ranges else 200)
        if asked and self.ranges:
            handler.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        if self.says_size:
            handler.send_header("Content-Length", str(size - start))
        handler.end_headers()
        end = start + self.cuts.pop(0) if self.cuts else size
        handler.wfile.write(self.content[start:end])


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("site") / "toy.tfrecords"
    rng = np.random.default_rng(0)
    write_payloads(path, [rng.bytes(5000) for _ in range(20)], path.name)
    return path.read_bytes()


@pytest.fixture
def site(content, monkeypatch):
    monkeypatch.setattr(downloads, "PAUSE", 0)
    site = Site(content)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            site.answer(self)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.url = f"http://127.0.0.1:{server.server_port}/toy.tfrecords"
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def place(tmp_path):
    path = tmp_path / "raw" / "toy.tfrecords"
    names = {"path": path, "part": "toy.tfrecords.part", "record": "toy.tfrecords.sha256.json"}
    return SimpleNamespace(**{key: path.with_name(name) if key != "path" else path for key, name in names.items()})


def test_file_arrives_and_is_recorded(site, place):
    download(site.url, place.path, ALTERNATIVE)
    assert place.path.read_bytes() == site.content
    record = json.loads(place.record.read_text())
    assert record["sha256"] == sha256(site.content).hexdigest()
    assert record["size"] == len(site.content)
    assert record["url"] == site.url
    assert record["origin"] == "downloaded"
    assert sorted(file.name for file in place.path.parent.iterdir()) == [place.path.name, place.record.name]


def test_cut_connections_are_continued_where_they_were_cut(site, place):
    site.cuts = [40_000, 30_000, 100]
    download(site.url, place.path, ALTERNATIVE)
    assert place.path.read_bytes() == site.content
    block = downloads._BLOCK
    assert site.requests == [None, f"bytes={2 * block}-", f"bytes={3 * block}-", f"bytes={3 * block}-"]


def test_server_without_ranges_is_asked_from_the_start_again(site, place):
    site.ranges, site.cuts = False, [40_000, 20_000]
    download(site.url, place.path, ALTERNATIVE)
    assert place.path.read_bytes() == site.content


def test_server_that_keeps_cutting_at_one_place_is_given_up_and_the_part_kept(site, place):
    site.ranges, site.cuts = False, [40_000] * 20
    kept = 40_000 // downloads._BLOCK * downloads._BLOCK
    with pytest.raises(UserError, match=f"{kept} bytes are in .*{ALTERNATIVE}"):
        download(site.url, place.path, ALTERNATIVE)
    assert len(site.requests) == 1 + downloads.ATTEMPTS
    assert not place.path.exists()
    assert place.part.read_bytes() == site.content[:kept]


def test_part_of_an_earlier_call_is_continued(site, place):
    place.part.parent.mkdir()
    place.part.write_bytes(site.content[:4321])
    download(site.url, place.path, ALTERNATIVE)
    assert site.requests == ["bytes=4321-"]
    assert place.path.read_bytes() == site.content


def test_part_that_is_whole_already_is_moved(site, place):
    place.part.parent.mkdir()
    place.part.write_bytes(site.content)
    download(site.url, place.path, ALTERNATIVE)
    assert place.path.read_bytes() == site.content
    assert not place.part.exists()


@pytest.mark.parametrize("ranges", [True, False])
def test_part_longer_than_the_file_is_thrown_away(site, place, ranges):
    site.ranges = ranges
    place.part.parent.mkdir()
    place.part.write_bytes(site.content + b"more")
    download(site.url, place.path, ALTERNATIVE)
    assert place.path.read_bytes() == site.content


def test_busy_server_is_asked_again(site, place):
    site.statuses = [503, 429, 500]
    download(site.url, place.path, ALTERNATIVE)
    assert place.path.read_bytes() == site.content


@pytest.mark.parametrize("status", [403, 404])
def test_refusal_is_an_error_at_once(site, place, status):
    site.statuses = [status]
    with pytest.raises(UserError, match=f"{site.url} .* {status}"):
        download(site.url, place.path, ALTERNATIVE)
    assert len(site.requests) == 1


def test_unknown_size_is_an_error(site, place):
    site.says_size = False
    with pytest.raises(UserError, match="does not say how many bytes"):
        download(site.url, place.path, ALTERNATIVE)


@pytest.mark.parametrize("wrong", [b"<html>Please log in</html>", b"\x1f\x8b" + bytes(500)])
def test_other_bytes_are_thrown_away(site, place, wrong):
    site.content = wrong
    with pytest.raises(UserError, match=r"thrown away: .* record 0 cannot be read"):
        download(site.url, place.path, ALTERNATIVE)
    assert list(place.path.parent.iterdir()) == []


def test_part_of_another_file_does_not_become_the_file(site, place):
    place.part.parent.mkdir()
    place.part.write_bytes(b"<html>Please log in")
    with pytest.raises(UserError, match="thrown away"):
        download(site.url, place.path, ALTERNATIVE)
    assert not place.path.exists()
    download(site.url, place.path, ALTERNATIVE)
    assert place.path.read_bytes() == site.content


def test_later_download_must_give_the_recorded_bytes(site, place):
    download(site.url, place.path, ALTERNATIVE)
    place.path.unlink()
    site.content = site.content[:-1] + b"\x01"
    with pytest.raises(UserError, match="has sha256"):
        download(site.url, place.path, ALTERNATIVE)
    assert [file.name for file in place.path.parent.iterdir()] == [place.record.name]


def test_file_that_is_there_is_verified_and_not_asked_for(site, place):
    download(site.url, place.path, ALTERNATIVE)
    download(site.url, place.path, ALTERNATIVE)
    assert len(site.requests) == 1
    place.path.write_bytes(site.content + b"\x00")
    with pytest.raises(UserError, match="has sha256"):
        download(site.url, place.path, ALTERNATIVE)
    assert place.path.exists()


def test_file_placed_by_the_user_is_accepted_and_recorded_as_such(site, place):
    place.path.parent.mkdir()
    place.path.write_bytes(site.content)
    download(site.url, place.path, ALTERNATIVE)
    assert site.requests == []
    assert json.loads(place.record.read_text())["origin"] == "placed here by the user"
    assert len(list(read_payloads(place.path))) == 20


def test_file_placed_by_the_user_that_holds_no_records_is_an_error_and_stays(site, place):
    place.path.parent.mkdir()
    place.path.write_bytes(b"notes")
    with pytest.raises(UserError, match="record 0"):
        download(site.url, place.path, ALTERNATIVE)
    assert place.path.read_bytes() == b"notes"
    assert not place.record.exists()


def test_offline_names_the_alternative(place, monkeypatch):
    monkeypatch.setattr(downloads, "PAUSE", 0)
    with pytest.raises(UserError, match=ALTERNATIVE):
        download("http://127.0.0.1:9/toy.tfrecords", place.path, ALTERNATIVE)
    assert list(place.path.parent.iterdir()) == []


def test_room_for_what_is_still_to_come_is_enough(site, place, monkeypatch):
    place.part.parent.mkdir()
    place.part.write_bytes(site.content[:4321])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=len(site.content) - 4321))
    download(site.url, place.path, ALTERNATIVE)
    assert place.path.read_bytes() == site.content


def test_full_disk_is_an_error_before_the_first_byte(site, place, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=len(site.content) - 1))
    with pytest.raises(UserError, match="GB are free"):
        download(site.url, place.path, ALTERNATIVE)
    assert not place.part.exists()
