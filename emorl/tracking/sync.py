"""Mirror run folders and reports after the fact: what a store missed, scores, summaries, tables, checkpoints."""

import time
from collections.abc import Iterable
from pathlib import Path

from emorl.files import read_json
from emorl.tracking.layout import find_or_create_reports, find_or_create_run
from emorl.tracking.locks import MIRROR_LOCK, locked, store_lock
from emorl.tracking.messages import brief, say
from emorl.tracking.mirror import Mirror
from emorl.tracking.registry import register_cells
from emorl.tracking.store import is_reachable, open_store
from emorl.tracking.summary import summarise_seeds

LINGER_SECONDS = 80  # a follower notices the end of its run within a poll, and then has its deadline


def sync(run_dirs: Iterable[Path], root: Path) -> list[Path]:
    """Mirror run folders as they are now, with their evaluations; return those that could not be mirrored.

    A folder that has a follower is left to it; one that has neither follower nor manifest was killed. Then the
    parents get the mean and spread over their seeds.
    """
    waiting, missed = list(run_dirs), []
    parents: dict[tuple[str, str], Path] = {}  # experiment and identity, with the last of its seeds
    while waiting:
        run_dir = waiting.pop(0)
        ended = (run_dir / "manifest.json").exists()
        try:
            # Another mirror keeps the lock of a run in training; of one that has ended it soon lets go.
            with locked(run_dir / MIRROR_LOCK, LINGER_SECONDS if ended else 0) as mine:
                if mine:
                    mirror = Mirror(run_dir, root, open_store(root))
                    mirror.send_lines()
                    mirror.send_evaluations()
                    mirror.conclude()
                    parents[mirror.experiment, mirror.parent] = run_dir
                elif ended:
                    raise TimeoutError("another process keeps mirroring it")
        except Exception as error:
            say(f"{run_dir} is not mirrored: {brief(error)}")
            missed.append(run_dir)
            if not is_reachable(root):
                return missed + waiting
    for (experiment, identity), run_dir in parents.items():
        try:
            with store_lock(root):
                summarise_seeds(open_store(root), experiment, identity)
        except Exception as error:
            say(f"the mean over seeds of {run_dir.parent} is not mirrored: {brief(error)}")
            missed.append(run_dir)
    return missed


def sync_report(plan: Path, root: Path) -> bool:
    """Log `reports/SCALE/` as artifacts of the run `report SCALE`, and the checkpoints behind its tables' cells;
    return whether that worked."""
    report_dir, scale = plan.parent, plan.parent.name
    try:
        client = open_store(root)
        with store_lock(root):
            experiment, name = find_or_create_reports(client, root), f"report {scale}"
            report = find_or_create_run(client, experiment, name, name, time.time(), {"scale": scale})
        client.log_artifacts(report.info.run_id, str(report_dir))
        client.set_terminated(report.info.run_id)
        register_cells(client, read_json(plan), report_dir, root)
    except Exception as error:
        say(f"{report_dir} is not mirrored: {brief(error)}")
        return False
    return True
