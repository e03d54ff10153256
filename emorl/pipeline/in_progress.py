"""Runs of a scale in progress that are kept in git, for another clone to go on with: `reports/recorded/in_progress/`.

Each has a folder there under the name of its own, with what the engine resumes from. A run that is over stays, as its
weights alone, since the record is made anew with it whenever another is over; once all of the scale are recorded, they
go.
"""

import shutil
from pathlib import Path

from emorl.runtime.errors import UserError
from emorl.runtime.files import atomic_path
from emorl.runtime.usage import USAGE
from emorl.training.checkpoints import CHECKPOINT, PREVIOUS, read_plain_data, save_checkpoint
from emorl.training.manifest import Manifest, RunRecord, manifest_of
from emorl.training.metrics import METRICS

IN_PROGRESS = Path("reports/recorded/in_progress")
LARGEST = 3_000_000
"""Bytes of a checkpoint: git never forgets one."""


def keep(folder: Path, root: Path) -> Path:
    """Copy what the run in `folder`, relative to `root`, needs to go on elsewhere, or to be over there as well; returns
    where to. Raises UserError where there is no run, or its checkpoint is too large."""
    source, kept = root / folder, root / IN_PROGRESS / folder.relative_to("runs")
    for name in (CHECKPOINT, METRICS):  # what was imported has no metrics
        if not (source / name).is_file():
            raise UserError(f"{folder} has no {name}: it is no run that could go on")
    size = (source / CHECKPOINT).stat().st_size
    if size > LARGEST:
        raise UserError(
            f"{folder}: its {CHECKPOINT} has {size / 1e6:.1f} MB; in git are kept those of up to {LARGEST / 1e6:g} MB"
        )
    for name in (RunRecord.FILE, USAGE):
        if (source / name).exists():  # short runs sample no usage
            _copy(source / name, kept / name)
    manifest = manifest_of(source)
    if manifest is None or manifest.status != "finished":
        _copy(source / CHECKPOINT, kept / CHECKPOINT)
        (kept / Manifest.FILE).unlink(missing_ok=True)
    else:
        state = read_plain_data(source / CHECKPOINT)
        save_checkpoint(kept / CHECKPOINT, {name: state[name] for name in state if name != "optimizer"})
        (kept / PREVIOUS).unlink(missing_ok=True)
        _copy(source / Manifest.FILE, kept / Manifest.FILE)
    _copy(source / METRICS, kept / METRICS)  # after the checkpoint: they may be ahead of it, but not behind
    return kept


def keep_up(folder: Path, root: Path) -> None:
    """Keep what the run is now, if it was kept before."""
    if (root / IN_PROGRESS / folder.relative_to("runs")).exists():
        keep(folder, root)


def take_up(folder: Path, root: Path) -> Path | None:
    """Let a run that has not been started here go on from what is kept of it, if anything is; returns where that is."""
    own, kept = root / folder, root / IN_PROGRESS / folder.relative_to("runs")
    started = any((own / name).exists() for name in (CHECKPOINT, PREVIOUS))
    of_another_end = manifest_of(own) is not None and not (kept / Manifest.FILE).exists()
    if started or of_another_end or not (kept / CHECKPOINT).exists():
        return None
    for name in (METRICS, RunRecord.FILE, USAGE, Manifest.FILE, CHECKPOINT):  # which alone says that all is there
        if (kept / name).exists():
            _copy(kept / name, own / name)
    return kept


def is_over(folder: Path, root: Path) -> bool:
    """Whether the run has ended here, or in the clone that what is kept of it comes from."""
    return any(manifest_of(path) for path in (root / folder, root / IN_PROGRESS / folder.relative_to("runs")))


def let_go(folder: Path, root: Path) -> None:
    """Remove what is kept of a run, and the folders that this leaves empty."""
    kept = root / IN_PROGRESS / folder.relative_to("runs")
    if kept.exists():
        shutil.rmtree(kept)
        for parent in list(kept.parents)[:4]:  # variant, model, data set, in_progress
            if not any(parent.iterdir()):
                parent.rmdir()


def _copy(path: Path, to: Path) -> None:
    with atomic_path(to) as temporary:
        shutil.copyfile(path, temporary)
