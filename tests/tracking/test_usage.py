"""What a training uses of the machine, asked from outside."""

import json
import multiprocessing
import os

import psutil
import pytest
from folders import Follower, find_run, finish, make_run, stored_points, wait_until

from emorl.tracking.follow import follow
from emorl.tracking.usage import UsageLog, visible_gpus


def samples(run_dir):
    return [json.loads(line) for line in (run_dir / "usage.jsonl").read_text().splitlines()]


def burn(begun, memory):
    block = bytearray(memory)
    block[::4096] = b"x" * len(block[::4096])
    begun.set()
    while True:
        pass


def test_a_busy_process_shows_its_processor_and_memory_and_not_the_followers(tmp_path):
    begun = multiprocessing.Event()
    process = multiprocessing.Process(target=burn, args=(begun, 200_000_000))
    process.start()
    try:
        begun.wait()
        usage = UsageLog(tmp_path, process.pid)
        usage.sample()
        used = psutil.Process(process.pid).cpu_times()
        wait_until(lambda: psutil.Process(process.pid).cpu_times().user > used.user + 0.3)
        usage.sample()
    finally:
        process.kill()
        process.join()
    first, second = samples(tmp_path)
    assert (first["step"], second["step"]) == (0, 1)
    assert 0 < second["cpu_utilization_percentage"] < 150
    assert 200 < second["memory_usage_megabytes"] < 200 + psutil.Process().memory_info().rss / 1e6
    with pytest.raises(psutil.Error):
        usage.sample()


def test_half_a_line_is_replaced_and_counting_goes_on(tmp_path):
    UsageLog(tmp_path, os.getpid()).sample()
    with open(tmp_path / "usage.jsonl", "a") as file:
        file.write('{"step": 1, "ti')
    UsageLog(tmp_path, os.getpid()).sample()
    assert [line["step"] for line in samples(tmp_path)] == [0, 1]


def test_samples_are_mirrored_once_and_those_of_an_earlier_start_not_at_all(root):
    run_dir = make_run(root, started=0.0)
    with Follower(run_dir, root):
        wait_until(lambda: (run_dir / "usage.jsonl").exists() and len(samples(run_dir)) > 2)
        finish(run_dir)
    expected = {line["step"]: line["memory_usage_megabytes"] for line in samples(run_dir)}
    stored = stored_points(root, run_dir, "system/memory")
    assert {step: value for _, step, value in stored} == expected
    assert set(stored.values()) == {1}

    begun_again = samples(run_dir)[-1]["time"] - 0.001
    run_dir = make_run(root, started=begun_again)
    follow(run_dir, root, pid=None)
    assert {step for _, step, _ in stored_points(root, run_dir, "system/memory")} == {max(expected)}
    assert find_run(root, run_dir).data.metrics.keys() >= {"system/cpu_utilization_percentage"}


def test_the_gpus_of_a_training_are_the_first_that_cuda_shows_it():
    assert visible_gpus(None, present=8, wanted=1) == [0]
    assert visible_gpus("3", present=8, wanted=1) == [3]
    assert visible_gpus("5,2,1", present=8, wanted=2) == [5, 2]
    assert visible_gpus("GPU-8f2c, 1", present=8, wanted=2) == ["GPU-8f2c", 1]
    assert visible_gpus("", present=8, wanted=1) == visible_gpus("-1", present=8, wanted=1) == []
    assert visible_gpus(None, present=0, wanted=1) == []
