"""Verbs for sharing results: archive, record, recheck."""

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from emorl.commands.options import Scale
from emorl.runtime.errors import UserError
from emorl.runtime.files import ROOT


def _spdx_identifier(licence: str | None) -> str | None:
    """It becomes a part of an address."""
    if licence is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", licence):
        raise typer.BadParameter(f"{licence!r} is no SPDX identifier, such as CC-BY-4.0 or MIT (spdx.org/licenses)")
    return licence


def archive(
    scale: Scale = "demo",
    out: Annotated[Path | None, typer.Option(help="Default: emorl-SCALE-COMMIT.zip in the project's folder.")] = None,
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help="With the trained weights.")] = False,
    licence: Annotated[
        str | None,
        typer.Option(callback=_spdx_identifier, help="SPDX identifier for the bundle, such as CC-BY-4.0."),
    ] = None,
) -> None:
    """Bundle results into one zip, for Zenodo.

    Code, values, per-image numbers and the report; `emorl recheck` checks it.
    """
    from emorl.reporting.sharing.archive import write_archive

    path = write_archive(scale, ROOT, out, checkpoints, licence)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB; every number was found again from it")


def record(
    runs: Annotated[list[Path] | None, typer.Argument(help="With --in-progress: their folders. Default: all.")] = None,
    scale: Scale = "demo",
    in_progress: Annotated[
        bool, typer.Option("--in-progress", help="Keep what runs need to go on elsewhere, and nothing else.")
    ] = False,
) -> None:
    """Keep results and weights in git, below reports/recorded/.

    The page, tables, figures, verdicts, manifests, per-image numbers, and the weights of each cell's median seed.
    With --in-progress: checkpoints of runs, from which `train` goes on in a clone that has no others, until all that
    a scale trains is recorded.
    """
    if in_progress:
        _keep_in_progress(runs)
        return
    if runs:
        raise UserError("runs are chosen with --in-progress alone: results are recorded by --scale")
    from emorl.reporting.sharing.record import write_record

    folder = write_record(scale, ROOT)
    print(f"{folder.relative_to(ROOT)}: every number was found again from it")


def _keep_in_progress(chosen: list[Path] | None) -> None:
    from emorl.pipeline.in_progress import keep
    from emorl.training.checkpoints import CHECKPOINT

    for folder in chosen or [path.parent for path in sorted(ROOT.glob(f"runs/*/*/*/*/{CHECKPOINT}"))]:
        path = Path(os.path.abspath(folder))
        if not path.is_relative_to(ROOT / "runs"):
            raise UserError(f"{folder} is no run of this project: these lie in runs/DATASET/MODEL/VARIANT-DIGEST/seedN")
        try:
            print(f"{folder} -> {keep(path.relative_to(ROOT), ROOT).relative_to(ROOT)}")
        except UserError as error:
            if chosen:
                raise
            print(f"left out: {error}")


def recheck(
    bundle: Annotated[
        Path,
        typer.Argument(help="A zip of `emorl archive`, the folder it was unpacked into, or reports/recorded/SCALE."),
    ],
) -> None:
    """Find every number of a bundle or a record again.

    From its per-image scores, and a record's from its weights, too; exit status 1 if one is another.
    """
    from emorl.reporting.sharing.recheck import recheck as checks_of

    failed = False
    for check in checks_of(bundle):
        print(*(check.mismatches or [check.what]), sep="\n", flush=True)
        failed = failed or bool(check.mismatches)
    if failed:
        raise typer.Exit(1)
    print(f"{bundle}: every number was found again")
