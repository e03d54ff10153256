"""Mirror run folders and reports as they are now: points, scores, summaries, tables, checkpoints."""

import math
import re
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow.exceptions import MlflowException

from emorl.pipeline.made import made
from emorl.runtime.errors import UserError
from emorl.runtime.locks import Held
from emorl.tracking.layout import ABOUT_REPORTS, find_or_create_experiment, find_or_create_run
from emorl.tracking.mirror import mirror
from emorl.tracking.registry import register_cells
from emorl.tracking.store import client_of_store, opened
from emorl.tracking.summary import summarise_seeds
from emorl.tracking.troubles import Trouble, Troubles

UNAVAILABLE = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")
"""How MLflow calls it if a server or a database does not answer."""


def sync(run_dirs: Iterable[Path], root: Path, give_up: float = math.inf) -> Troubles:
    """Mirror run folders with their evaluations, and on their parents the mean and spread over the seeds.

    A run without manifest that nobody trains was killed. What is left when `time.monotonic()` has passed `give_up` is
    not begun.
    """
    troubles: Troubles = {}
    try:
        with opened(root) as client:
            parents: dict[tuple[str, str], Path] = {}  # experiment and identity, with the folder of the seeds
            for run_dir in run_dirs:
                if time.monotonic() > give_up:
                    raise TimeoutError("the deadline passed before all was sent")
                with _noting(troubles, run_dir, root):
                    if parent := mirror(run_dir, root, client):
                        parents[parent] = run_dir.parent
            for (experiment, identity), folder in parents.items():
                with _noting(troubles, folder, root):
                    summarise_seeds(client, experiment, identity)
    except Exception as error:
        troubles[root] = _trouble(root, error)
    return troubles


def sync_report(scale: str, root: Path) -> Troubles:
    """Log `reports/SCALE/` as artifacts of the run `report SCALE`, and the checkpoints behind its tables' cells."""
    report_dir, name = root / "reports" / scale, f"report {scale}"
    try:
        with opened(root) as client:
            experiment = find_or_create_experiment(client, root, "emorl-reports", ABOUT_REPORTS)
            report = find_or_create_run(client, experiment, name, name, time.time(), {"scale": scale})
            client.log_artifacts(report.info.run_id, str(report_dir))
            client.set_terminated(report.info.run_id)
            register_cells(client, made(scale, root).artifacts.values(), root)
    except Exception as error:
        return {report_dir: _trouble(report_dir, error)}
    return {}


@contextmanager
def _noting(troubles: Troubles, folder: Path, root: Path) -> Iterator[None]:
    """Go on with the next folder after an error, if the store is still there."""
    try:
        yield
    except Exception as error:
        client_of_store(root)
        troubles[folder] = _trouble(folder, error)


def _trouble(folder: Path, error: Exception) -> Trouble:
    if isinstance(error, MlflowException):
        passes = error.error_code in UNAVAILABLE
    else:
        passes = isinstance(error, Held | OSError | sqlite3.OperationalError)
    said = str(error) if isinstance(error, UserError) else _brief(error)
    return Trouble(f"{folder} is not mirrored{' for now' if passes else ''}: {said}", passes)


def _brief(error: Exception) -> str:
    """The error's first line, but for one on SQLAlchemy's own workings, and without passwords."""
    lines = [line for line in str(error).splitlines() if not line.startswith("(raised as a result of")]
    return re.sub(r"://[^/@\s]*@", "://", f"{type(error).__name__}: {lines[0] if lines else ''}")
