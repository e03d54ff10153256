"""What a training says of its use of the machine."""

import errno
import json
import os
import subprocess
import sys
import time

import pynvml
import pytest

from emorl.runtime import meter
from emorl.runtime.meter import visible_gpus
from emorl.runtime.usage import UsageLog, gpu_energy

MEASURED = """
import json, subprocess, sys, time
import psutil
from emorl.runtime.meter import Meter

meter = Meter()
meter.read()
busy = "block = b'x' * 200_000_000; print(flush=True)\\nwhile True: pass"
child = subprocess.Popen([sys.executable, "-c", busy], stdout=subprocess.PIPE)
child.stdout.readline()
begun = psutil.Process(child.pid).cpu_times().user
while psutil.Process(child.pid).cpu_times().user < begun + 0.3:
    time.sleep(0.05)
values, own = meter.read(), psutil.Process().memory_info().rss / 1e6
child.kill()
print(json.dumps(values | {"own": own}))
"""


def samples(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "usage.jsonl"


def test_a_busy_child_counts_with_its_processor_and_memory():
    measured = subprocess.run([sys.executable, "-c", MEASURED], check=True, capture_output=True, text=True)
    values = json.loads(measured.stdout)
    assert 0 < values["cpu_utilization_percentage"] < 150
    assert values["own"] + 200 < values["memory_usage_megabytes"] < values["own"] + 250


def test_samples_are_as_far_apart_as_they_should_be(path):
    usage = UsageLog(path, seconds=0.2)
    usage.update()
    assert not path.exists()  # short runs need none
    for _ in range(3):
        time.sleep(0.25)
        usage.update()
        usage.update()
    assert [line["step"] for line in samples(path)] == [0, 1, 2]


def test_energy_is_power_until_the_next_sample_and_not_between_starts(path):
    powers = [(0, 400.0, 300.0), (10, 100.0, 0.0), (4000, 500.0, 500.0), (4010, 1.0, 1.0)]
    lines = [
        {"time": at, "gpu_0_power_usage_watts": a, "gpu_1_power_usage_watts": b, "memory_usage_megabytes": 9.0}
        for at, a, b in powers
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"time": 40')
    energy = (700 * 10 + 100 * 60 + 1000 * 10) / 3.6e6
    assert gpu_energy(path, [(-3, 1)]) == pytest.approx(energy)
    assert gpu_energy(path, [(-3, 4)]) == pytest.approx(energy / 4)
    first, second = (700 * 10 + 100 * 60) / 3.6e6, 1000 * 10 / 3.6e6
    assert gpu_energy(path, [(-3, 1), (3990, 8)]) == pytest.approx(first + second / 8)


def test_without_a_gpu_there_is_no_energy(path):
    assert gpu_energy(path, [(0, 1)]) is None
    path.write_text('{"time": 0, "memory_usage_megabytes": 9.0}\n')
    assert gpu_energy(path, [(0, 1)]) is None


def test_half_a_line_is_replaced_and_counting_goes_on(path):
    UsageLog(path, seconds=0).update()
    with open(path, "a") as file:
        file.write('{"step": 1, "ti')
    UsageLog(path, seconds=0).update()
    assert [line["step"] for line in samples(path)] == [0, 1]


def test_a_full_disk_or_a_sick_driver_costs_samples_and_no_more(path, monkeypatch):
    usage = UsageLog(path, seconds=0)
    usage.update()
    with monkeypatch.context() as patch:
        patch.setattr(json, "dumps", full_disk)
        usage.update()
    with monkeypatch.context() as patch:
        patch.setattr(meter.Meter, "read", sick_driver)
        usage.update()
    usage.update()
    assert [line["step"] for line in samples(path)] == [0, 1]


def full_disk(line):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def sick_driver(meter):
    raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)


def test_psutil_and_nvml_are_not_imported_before_the_first_sample(path):
    code = (
        "import sys; from pathlib import Path; from emorl.runtime.usage import UsageLog; "
        "usage = UsageLog(Path(sys.argv[1])); usage.update(); assert not {'psutil', 'pynvml'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)


def test_the_gpus_of_a_training_are_the_first_that_cuda_shows_it():
    assert visible_gpus(None, present=8, wanted=1) == [0]
    assert visible_gpus("3", present=8, wanted=1) == [3]
    assert visible_gpus("5,2,1", present=8, wanted=2) == [5, 2]
    assert visible_gpus("GPU-8f2c, 1", present=8, wanted=2) == ["GPU-8f2c", 1]
    assert visible_gpus("", present=8, wanted=1) == visible_gpus("-1", present=8, wanted=1) == []
    assert visible_gpus(None, present=0, wanted=1) == []
