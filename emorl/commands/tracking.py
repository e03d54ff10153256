"""Verbs for MLflow: track sync, track report, ui."""

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emorl.commands import completion
from emorl.runtime.errors import UserError
from emorl.runtime.files import ROOT, write_json

if TYPE_CHECKING:
    from emorl.tracking.troubles import Troubles

track = typer.Typer(no_args_is_help=True, help="Mirror runs into MLflow.")


@track.command()
def sync(
    run_dirs: Annotated[list[Path] | None, typer.Argument(help="Run folders; default: all.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on with what changes, until Ctrl-C.")] = False,
    pid: Annotated[int | None, typer.Option(help="Watch until this process is gone, from now on.")] = None,
    links: Annotated[Path | None, typer.Option(help="Write the addresses of all runs' pages to this file.")] = None,
) -> None:
    """Mirror run folders. A store that is away is no error: call again later."""
    from emorl.tracking.folders import recorded_folders, run_folders
    from emorl.tracking.watch import watch as watch_runs

    folders = [path.resolve() for path in run_dirs or ()]
    if watch:
        with contextlib.suppress(KeyboardInterrupt):
            watch_runs(ROOT, folders, pid)
    else:
        from emorl.tracking.sync import sync as sync_runs

        _warn(sync_runs(folders or [*run_folders(ROOT), *recorded_folders(ROOT)], ROOT))
    if links:
        from emorl.tracking.layout import run_pages

        write_json(links, run_pages(ROOT))


@track.command()
def report(scale: Annotated[str, typer.Argument(autocompletion=completion.scales)]) -> None:
    """Log reports/SCALE/, and register the checkpoints behind its tables' cells."""
    from emorl.tracking.sync import sync_report

    if not (ROOT / "reports" / scale).is_dir():
        raise UserError(f"reports/{scale} is not there: no report has been made at scale {scale}")
    _warn(sync_report(scale, ROOT))


def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port that is listened on.")] = 5000,
    host: Annotated[str, typer.Option(help="Address that is listened on; 0.0.0.0: all that there are.")] = "127.0.0.1",
    allowed_hosts: Annotated[
        str, typer.Option(help="Other names, with commas between, by which browsers reach it; '*': any.")
    ] = "",
) -> None:
    """Serve MLflow's pages, to this machine alone unless told otherwise.

    Runs that git keeps (reports/recorded/) are shown beside those of runs/.
    """
    from emorl.tracking.folders import recorded_folders
    from emorl.tracking.sync import sync as sync_runs
    from emorl.tracking.ui import address_of, move_pages, ui_command

    names = [name.strip() for name in allowed_hosts.split(",") if name.strip()]
    command = ui_command(ROOT, host, port, names)
    recorded = recorded_folders(ROOT)
    print(f"Recorded runs are brought in first: {len(recorded)}", flush=True)
    troubles = sync_runs(recorded, ROOT)
    if ROOT in troubles and not troubles[ROOT].passes:
        raise UserError(troubles[ROOT].sentence)
    _warn(troubles)
    address = address_of(host, port)
    move_pages(ROOT, address)
    print(f"In some ten seconds MLflow is at (Ctrl-C ends it):\n{address}/#/experiments?workflowType=machine_learning")
    sys.stdout.flush()
    os.execvp(command[0], command)


def _warn(troubles: "Troubles") -> None:
    from emorl.tracking.troubles import advice
    from emorl.tracking.watch import say

    for trouble in troubles.values():
        say(trouble.sentence)
    if troubles:
        say(f"the tracking store could not take everything; {advice(troubles)}")
