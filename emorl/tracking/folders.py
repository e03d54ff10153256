"""What run folders tell of themselves: which there are, whether they are trained, what changed."""

import contextlib
import time
from pathlib import Path

from emorl.pipeline.in_progress import IN_PROGRESS
from emorl.runtime.locks import TRAINING_LOCK, is_locked
from emorl.training.manifest import Manifest, RunRecord
from emorl.training.metrics import METRICS

QUIET_SECONDS = 600
"""Where the file system knows no locks, a run whose files have not changed for so long is not trained any more."""

Change = tuple[Path, int, int]
"""A file whose change is mirrored, its time of modification in nanoseconds, and its size."""


def run_folders(root: Path) -> list[Path]:
    return sorted(path.parent for path in (root / "runs").glob(f"*/*/*/seed*/{RunRecord.FILE}"))


def recorded_folders(root: Path) -> list[Path]:
    """Those of the runs that git keeps, finished or in progress, which are not here below `runs/`."""
    recorded = root / IN_PROGRESS.parent
    finished = recorded.glob(f"*/runs/*/*/*/seed*/{Manifest.FILE}")
    in_progress = (root / IN_PROGRESS).glob(f"*/*/*/seed*/{RunRecord.FILE}")
    found = {Path(*path.parent.parts[-4:]): path.parent for path in [*sorted(in_progress), *sorted(finished)]}
    return [folder for identity, folder in found.items() if not (root / "runs" / identity).exists()]


def record_of(run_dir: Path) -> RunRecord:
    """What a run says of itself; of a recorded one that is over, git keeps the manifest alone, which says the same."""
    if (run_dir / RunRecord.FILE).exists():
        return RunRecord.read(run_dir / RunRecord.FILE)
    manifest = vars(Manifest.read(run_dir / Manifest.FILE))
    return RunRecord(**{name: manifest[name] for name in RunRecord.model_fields})


def is_trained(run_dir: Path) -> bool:
    """Whether a process trains this run now; one that has its manifest is over."""
    if is_over(run_dir):
        return False
    locked = is_locked(run_dir / TRAINING_LOCK)
    if locked is None:
        last = max((time_ns for _, time_ns, _ in changes(run_dir)), default=0)
        return time.time() - last / 1e9 < QUIET_SECONDS
    return locked


def is_over(run_dir: Path) -> bool:
    return (run_dir / Manifest.FILE).exists()


def changes(run_dir: Path) -> list[Change]:
    found = []
    names = (RunRecord.FILE, METRICS, Manifest.FILE)  # usage.jsonl goes along
    for path in [*(run_dir / name for name in names), *sorted(run_dir.glob("evaluation/*.json"))]:
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            found.append((path, status.st_mtime_ns, status.st_size))
    return found
