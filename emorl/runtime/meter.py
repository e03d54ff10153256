"""What processes and GPUs use now, by psutil and NVML, whose import takes 0.1 s.

Names are those of MLflow's own system metrics where they mean the same.
"""

import os
import time
from collections.abc import Sequence

import psutil
import pynvml

TROUBLE = (OSError, psutil.Error, pynvml.NVMLError)
"""What measuring may raise."""


class Meter:
    """Measures this process and its children, and the GPUs that it uses; under torchrun those of all ranks on this
    machine.
    """

    def __init__(self) -> None:
        ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        own = psutil.Process()
        self.process = own.parent() or own if ranks > 1 else own
        self.gpus = _gpus(ranks)
        self.then, self.seconds_then = self.process.create_time(), 0.0

    def read(self) -> dict[str, float]:
        """The processor's mean since the last reading (100: one core) and what else is used now."""
        seconds, memory = 0.0, 0
        for process in [self.process, *self.process.children(recursive=True)]:
            times = process.cpu_times()
            seconds += times.user + times.system
            memory += process.memory_info().rss
        now = time.time()
        values = {
            "cpu_utilization_percentage": 100 * (seconds - self.seconds_then) / max(now - self.then, 1e-3),
            "memory_usage_megabytes": memory / 1e6,
        }
        for number, gpu in enumerate(self.gpus):
            values |= {f"gpu_{number}_{name}": value for name, value in _gpu_usage(gpu).items()}
        self.then, self.seconds_then = now, seconds
        return values


def visible_gpus(setting: str | None, present: int, wanted: int) -> Sequence[int | str]:
    """The first `wanted` GPUs, by index or UUID, that CUDA shows a process under this CUDA_VISIBLE_DEVICES."""
    if setting is None:
        return list(range(present))[:wanted]
    names = [name.strip() for name in setting.split(",")]
    return [int(name) if name.isdecimal() else name for name in names if name and name != "-1"][:wanted]


def _gpus(wanted: int) -> list[pynvml.c_nvmlDevice_t]:
    try:
        pynvml.nvmlInit()
        names = visible_gpus(os.environ.get("CUDA_VISIBLE_DEVICES"), pynvml.nvmlDeviceGetCount(), wanted)
        by_index, by_uuid = pynvml.nvmlDeviceGetHandleByIndex, pynvml.nvmlDeviceGetHandleByUUID
        return [by_index(name) if isinstance(name, int) else by_uuid(name) for name in names]
    except pynvml.NVMLError:
        return []  # no NVIDIA driver, or a name that it does not know


def _gpu_usage(gpu: pynvml.c_nvmlDevice_t) -> dict[str, float]:
    """Of all who use this GPU. A part of one (MIG) does not tell everything."""
    usage = {}
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(gpu)
        usage["memory_usage_megabytes"] = memory.used / 1e6
        usage["memory_usage_percentage"] = 100 * memory.used / memory.total
        usage["utilization_percentage"] = pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu
        usage["power_usage_watts"] = pynvml.nvmlDeviceGetPowerUsage(gpu) / 1000
    except pynvml.NVMLError:
        pass
    return usage
