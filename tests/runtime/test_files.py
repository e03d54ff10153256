"""Files that others share, as DVC's cache does with `cache.type` hardlink or symlink, are not written through."""

import os

import pytest

from emorl.runtime.files import make_own
from emorl.runtime.usage import UsageLog
from emorl.training.metrics import MetricsLog


def metrics_after_a_checkpoint(path):
    log = MetricsLog(path)
    log.restore({"published_bytes": 13, "pending": '{"step": 2}\n'})


def metrics_of_a_running_training(path):
    log = MetricsLog(path)
    log.add({"step": 2})
    log.publish()


def usage(path):
    log = UsageLog(path, seconds=0)
    log.update()


@pytest.mark.parametrize("link", [os.link, os.symlink])
@pytest.mark.parametrize("write", [metrics_after_a_checkpoint, metrics_of_a_running_training, usage])
def test_a_shared_file_is_copied_before_it_is_changed(write, link, tmp_path):
    cached, path = tmp_path / "cache", tmp_path / "log.jsonl"
    cached.write_text('{"step": 1} \n{"step": 9}\n')
    cached.chmod(0o444)
    link(cached, path)
    write(path)
    assert cached.read_text() == '{"step": 1} \n{"step": 9}\n'
    assert path.read_text().startswith('{"step": 1} \n')
    assert path.read_text() != cached.read_text()


def test_a_file_of_its_own_stays_the_same_file(tmp_path):
    (tmp_path / "own").write_text("a")
    before = (tmp_path / "own").stat().st_ino
    make_own(tmp_path / "own")
    make_own(tmp_path / "none")
    assert (tmp_path / "own").stat().st_ino == before
    assert not (tmp_path / "none").exists()
