"""Short runs are told from long ones before MLflow is imported."""

import math
import subprocess
import sys
import threading
import time

import pytest
from folders import all_runs, find_run, finish, make_run, wait_until

from emorl.tracking.locks import MIRROR_LOCK
from emorl.tracking.sync import sync
from emorl.tracking.waiting import outlasts


@pytest.fixture
def training():
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def test_a_run_that_goes_on_outlasts(tmp_path, training):
    assert outlasts(tmp_path, training.pid, seconds=0.1)
    assert outlasts(tmp_path, None, seconds=0.1)


def test_a_run_with_its_manifest_has_ended(tmp_path, training):
    timer = threading.Timer(0.2, (tmp_path / "manifest.json").touch)
    timer.start()
    assert not outlasts(tmp_path, training.pid, seconds=math.inf)
    timer.join()


def test_a_killed_run_has_ended(tmp_path, training):
    timer = threading.Timer(0.2, training.kill)  # and nobody waits for it: a zombie is dead too
    timer.start()
    assert not outlasts(tmp_path, training.pid, seconds=math.inf)
    timer.join()


def test_sync_leaves_a_run_alone_whose_length_is_not_known_yet(root):
    run_dir = make_run(root)
    waiting = threading.Thread(target=outlasts, args=(run_dir, None, math.inf), daemon=True)
    waiting.start()
    wait_until((run_dir / MIRROR_LOCK).exists)
    time.sleep(0.2)  # it is locked as soon as it is there
    assert sync([run_dir], root) == []
    assert all_runs(root) == []
    finish(run_dir)
    assert sync([run_dir], root) == []
    waiting.join()
    assert find_run(root, run_dir).info.status == "FINISHED"


def test_a_short_run_costs_no_import_of_mlflow(tmp_path):
    (tmp_path / "manifest.json").touch()
    code = (
        "import sys; from emorl.cli import follow; "
        "follow(__import__('pathlib').Path(sys.argv[1]), pid=1, after=60.0); assert 'mlflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
