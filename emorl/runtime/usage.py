"""What a training uses of the machine, sampled by itself at logged steps: `usage.jsonl` in the run's folder."""

import contextlib
import json
import time
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from emorl.runtime.files import make_own

if TYPE_CHECKING:
    from emorl.runtime.meter import Meter

USAGE = "usage.jsonl"
SECONDS_BETWEEN_SAMPLES = 10.0


LONGEST_SAMPLE = 60.0
"""Seconds that a sample stands for at most: between one start of a run and the next nothing was used."""


def gpu_energy(path: Path, starts: Sequence[tuple[float, int]]) -> float | None:
    """A run's part of the kilowatt hours of GPUs, from their power at each sample until the next; None where none was
    sampled. `starts`: of each start, in order, its time and how many runs shared the GPUs from then on."""
    if not path.exists():
        return None
    samples = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    watts = [[value for name, value in sample.items() if name.endswith("_power_usage_watts")] for sample in samples]
    ends = [sample["time"] for sample in samples[1:]]
    if not any(watts):
        return None
    spans = [min(end - sample["time"], LONGEST_SAMPLE) for sample, end in zip(samples, ends, strict=False)]
    times, sharing = zip(*starts, strict=True)
    shared_by = [sharing[max(bisect_right(times, sample["time"]) - 1, 0)] for sample in samples]
    return sum(sum(power) * span / n for power, span, n in zip(watts, spans, shared_by, strict=False)) / 3.6e6


class UsageLog:
    """Appends numbered samples to `path`, the first after `seconds`, since short runs need none."""

    def __init__(self, path: Path, seconds: float = SECONDS_BETWEEN_SAMPLES) -> None:
        self.path = path
        self.seconds = seconds
        self._due = time.monotonic() + seconds
        self._meter: Meter | None = None
        before = path.read_bytes() if path.exists() else b""
        self._step = before.count(b"\n")
        self._size = before.rfind(b"\n") + 1  # without half a line of a killed process or a full disk

    def update(self) -> None:
        """Sample if it is time. Whatever fails, as a full disk or a GPU's driver, costs this sample and no more."""
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + self.seconds
        from emorl.runtime.meter import TROUBLE, Meter  # which is slow to import

        with contextlib.suppress(*TROUBLE):
            self._meter = self._meter or Meter()
            self._append(self._meter.read())

    def _append(self, values: dict[str, float]) -> None:
        line = {"step": self._step, "time": time.time()} | {name: round(value, 1) for name, value in values.items()}
        data = (json.dumps(line) + "\n").encode()
        make_own(self.path)
        with open(self.path, "ab") as file:
            file.truncate(self._size)
            file.write(data)
        self._size += len(data)
        self._step += 1
