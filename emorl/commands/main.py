"""The command line: every verb, by topic."""

import errno
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from emorl import __version__
from emorl.commands import data, results, runs, sharing, tracking, use, values
from emorl.runtime.errors import UserError
from emorl.runtime.files import ROOT

MACHINE_TROUBLE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EIO,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.EMFILE,
)
"""Errors of disks and permissions, which a sentence explains better than a traceback."""

VERBS = {
    "Pipeline steps": (data.fetch, data.prepare, runs.train, runs.evaluate, results.draw, results.report),
    "Values and results": (values.check, results.plan, results.why, results.verify, results.claims),
    "Using a trained model": (use.segment, use.traverse, use.models, use.export, use.doctor),
    "Your own data": (data.new_dataset,),
    "The authors' weights": (runs.released,),
    "Sharing": (sharing.archive, sharing.record, sharing.recheck),
    "For developers": (values.numbers, values.schema),
}
"""The verbs as `emorl --help` groups them."""

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
for panel, verbs in VERBS.items():
    for verb in verbs:
        app.command(rich_help_panel=panel)(verb)
app.command(rich_help_panel="Values and results")(tracking.ui)
app.command("import", rich_help_panel="The authors' weights")(runs.import_weights)
app.add_typer(data.data, name="data", rich_help_panel="Your own data")
app.add_typer(tracking.track, name="track", rich_help_panel="Values and results")


def main() -> None:
    try:
        app()
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.errno not in MACHINE_TROUBLE:
            raise
        sys.exit(f"error: {error.filename}: {os.strerror(error.errno)}")


def _version(asked: bool) -> None:
    if asked:
        print(f"emorl {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    """EfficientMORL, reproduced: one verb per step, for the workflow's rules and for you."""
    _check_place()


def _check_place() -> None:
    """The code of one checkout would take its own values, and write to its own runs/, from within another."""
    here = Path.cwd()
    other = next((folder for folder in (here, *here.parents) if (folder / "emorl" / "__main__.py").is_file()), ROOT)
    if other != ROOT:
        raise UserError(
            f"this is the emorl of {ROOT}, and {other} is another checkout: 'python -m emorl' there runs its own code, "
            "'make setup' makes an environment for it"
        )
