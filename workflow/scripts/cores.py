"""Print how many CPUs this process may use: those that it may run on, or fewer where a container or a batch system
gives it a share of their time, the quota of its control group, which Snakemake's `--cores all` does not ask about.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path


def main() -> None:
    print(max(1, int(min(len(os.sched_getaffinity(0)), *quotas()))))


def quotas(own: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")) -> Iterator[float]:
    """CPUs' worth of time that the control group of this process, and each one around it, may take."""
    yield os.cpu_count() or 1
    for line in own.read_text().splitlines() if own.exists() else ():
        _, controllers, place = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue  # a hierarchy of version 1 that is about something else
        group = mount / controllers / place.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(mount / controllers):
                yield _quota(folder)


def _quota(folder: Path) -> float:
    try:
        if (folder / "cpu.max").exists():  # version 2
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
    except OSError:  # none here
        return math.inf
    return math.inf if quota.strip() in ("max", "-1") else int(quota) / int(period)


if __name__ == "__main__":
    main()
