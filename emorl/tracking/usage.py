"""What a training uses of the machine, asked from outside by the process that follows it.

It goes to `usage.jsonl` in the run's folder, so that it can be brought in later like all else. Names are those of
MLflow's own system metrics where they mean the same.
"""

import json
import os
import time
from pathlib import Path

import psutil
import pynvml

USAGE = "usage.jsonl"


class UsageLog:
    """Appends a line for each sample: what processor and memory `pid` and its children use, and its GPUs.

    Under torchrun the processes are those of all ranks on this machine.
    """

    def __init__(self, run_dir: Path, pid: int) -> None:
        self.path = run_dir / USAGE
        before = self.path.read_bytes() if self.path.exists() else b""
        self.step = before.count(b"\n")
        self.size = before.rfind(b"\n") + 1  # without half a line of a killed process
        self.ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        process = psutil.Process(pid)
        self.process = process.parent() if self.ranks > 1 else process
        self.gpus = _gpus(self.ranks)
        self.then, self.seconds_then = self.process.create_time(), 0.0

    def sample(self) -> None:
        """Add the processor's mean since the last sample (100: one core) and what else is used now.

        Raises OSError if the disk is full, psutil.Error if the process is gone.
        """
        seconds, memory = self._measure()
        now = time.time()
        values = {
            "cpu_utilization_percentage": 100 * (seconds - self.seconds_then) / max(now - self.then, 1e-3),
            "memory_usage_megabytes": memory / 1e6,
        }
        for number, gpu in enumerate(self.gpus):
            values |= {f"gpu_{number}_{name}": value for name, value in _gpu_usage(gpu).items()}
        self.then, self.seconds_then = now, seconds
        line = {"step": self.step, "time": now} | {name: round(value, 1) for name, value in values.items()}
        data = (json.dumps(line) + "\n").encode()
        with open(self.path, "ab") as file:
            file.truncate(self.size)
            file.write(data)
        self.size += len(data)
        self.step += 1

    def _measure(self) -> tuple[float, int]:
        """Processor seconds so far and bytes resident, of all processes but this one."""
        seconds, memory = 0.0, 0
        for process in [self.process, *self.process.children(recursive=True)]:
            if process.pid != os.getpid():
                times = process.cpu_times()
                seconds += times.user + times.system
                memory += process.memory_info().rss
        return seconds, memory


def visible_gpus(setting: str | None, present: int, wanted: int) -> list[int | str]:
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
