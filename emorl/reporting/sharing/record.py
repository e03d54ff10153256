"""`emorl record`: a scale's results with their weights, for `reports/recorded/SCALE/` (layout: see `recorded`)."""

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import jinja2
import pandas as pd

from emorl.pipeline import config
from emorl.pipeline.in_progress import let_go
from emorl.pipeline.plan import make_plan
from emorl.pipeline.portable import export
from emorl.pipeline.provenance import in_history
from emorl.pipeline.records import Artifact, Cell, Row, Series
from emorl.reporting.claims import heading, load_bound
from emorl.reporting.current import page_is_current
from emorl.reporting.figures.tables import SOURCES, mean_and_std
from emorl.reporting.metrics import median_seed
from emorl.reporting.page.render import ASSETS
from emorl.reporting.page.report import STATEMENTS
from emorl.reporting.sharing.archive import results_of, shown_at
from emorl.reporting.sharing.bundle import SUMS
from emorl.reporting.sharing.front_page import with_results
from emorl.reporting.sharing.recheck import recheck
from emorl.reporting.sharing.recorded import (
    RECORDED,
    Cells,
    RecordedModel,
    RecordedModels,
    scored_cells,
    weights_name,
)
from emorl.runtime.errors import UserError
from emorl.runtime.files import sha256_of_file, write_text
from emorl.training.manifest import Manifest, manifest_of
from emorl.training.metrics import METRICS

LARGEST = 1_000_000
"""Bytes of a cell's weights; those of a larger model are left out."""
TOGETHER = 15_000_000
"""Bytes of all weights of a scale, in the order of the tables; what would go beyond is left out."""


def write_record(scale: str, root: Path) -> Path:
    """Write the record of what has been made at a scale, find its every number again, weights included, put it in the
    place of the one before, and show it in README; returns its folder. Raises UserError, and changes nothing, where
    results do not match their runs, data and code."""
    shown, folder = shown_at(scale, root), root / RECORDED / scale
    if "table1" not in shown:
        command = f"snakemake --cores all reproduce_table1 --config scale={scale}"
        raise UserError(f"reports/{scale} has no table1, which README shows: run '{command}' first")
    if not page_is_current(scale, root):
        raise UserError(
            f"reports/{scale}/index.html does not show what is there now: run 'emorl report --scale {scale}' first"
        )
    shown_runs = [run for artifact in shown.values() for run in artifact.shows.runs]
    runs = {run.folder for run in shown_runs}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=".") as temporary:
        record = Path(temporary) / scale
        arrays = {run.arrays for run in shown_runs}
        files = results_of(scale, shown, root, (Manifest.FILE, METRICS)) | _values(scale)
        inputs = {file for artifact in shown.values() for file in artifact.inputs}
        for name, path in files.items():
            if name not in arrays:
                is_results = path.parent == root / "reports" / scale and name not in inputs  # as a benchmark's CSV is
                _copy(path, record / (path.name if is_results else name))
        cells = scored_cells(shown)
        models = _write_weights(scale, cells, root, record)
        models.write(record / RecordedModels.FILE)
        write_text(record / "README.md", _readme(scale, shown, cells, models, root))
        _write_sums(record)
        mismatches = [sentence for check in recheck(record) for sentence in check.mismatches]
        if mismatches:
            raise UserError(f"the record does not hold what it says: {mismatches[0]}; {len(mismatches)} in all")
        if folder.exists():
            os.replace(folder, Path(temporary) / "before")
        os.replace(record, folder)
    _let_go_if_complete(scale, runs, root)
    readme = root / "README.md"
    if readme.exists():
        write_text(readme, with_results(readme.read_text(encoding="utf-8"), root))
    return folder


def _let_go_if_complete(scale: str, recorded: set[str], root: Path) -> None:
    """Once all runs of the scale are recorded, none has to go on elsewhere."""
    planned = {run.folder for artifact in make_plan(scale, {}).artifacts.values() for run in artifact.runs}
    if planned <= recorded:
        for folder in planned:
            let_go(Path(folder), root)


def _values(scale: str) -> dict[str, Path]:
    files = (config.CLAIMS, config.EXPERIMENTS, config.PARAMS / f"{scale}.yaml")
    return {f"code/params/{file.name}": file for file in files}


def _copy(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, to)


# ---- Weights --------------------------------------------------------------------------------------------------------


def _write_weights(scale: str, cells: Cells, root: Path, record: Path) -> RecordedModels:
    models, left_out, total = [], {}, 0
    for series, _, cell in cells:
        name = weights_name(series)
        if not cell.seeds:
            left_out[name] = "no seed has finished"
            continue
        model = _model(name, scale, series, cell)
        export(root / model.run, record / model.file)
        size = (record / model.file).stat().st_size
        if size <= LARGEST and total + size <= TOGETHER:
            models.append(model)
            total += size
        else:
            limit = f"{LARGEST / 1e6:g} MB each" if size > LARGEST else f"{TOGETHER / 1e6:g} MB in all"
            left_out[name] = f"{size / 1e6:.2f} MB; weights are kept up to {limit}"
            (record / model.file).unlink()
    return RecordedModels(models=models, left_out=left_out)


def _model(name: str, scale: str, series: Series, cell: Cell) -> RecordedModel:
    seed = median_seed(cell.seeds)
    run = next(run for run in series.runs if run.seed == seed)
    return RecordedModel(
        name=name,
        title=series.label,
        dataset_title=series.dataset_title,
        source=series.source,
        scale=scale,
        scores=cell.seeds,
        seed=seed,
        run=run.folder,
        evaluation=run.file,
        settings=config.load_scale(scale).evaluation.model_copy(update={"split": series.split}),
    )


# ---- Texts ----------------------------------------------------------------------------------------------------------


def _readme(scale: str, shown: dict[str, Artifact], cells: Cells, models: RecordedModels, root: Path) -> str:
    template = jinja2.Template((ASSETS / "record.md").read_text(encoding="utf-8"), keep_trailing_newline=True)
    folders = sorted({run.folder for artifact in shown.values() for run in artifact.shows.runs})
    manifests = [manifest for folder in folders if (manifest := manifest_of(root / folder))]
    verdicts, purpose = pd.read_csv(root / "reports" / scale / "claims.csv"), config.load_scale(scale).purpose
    return template.render(
        scale=scale,
        statement=STATEMENTS[purpose],
        bound=load_bound(),
        columns=COLUMNS,
        lines=[_line(series, row, cell, root) for series, row, cell in cells],
        pictures={name: artifact.shows for name, artifact in shown.items()},
        heading=heading(purpose),
        decided=("reproduced", "differs"),
        verdicts={word: list(part.itertuples()) for word, part in verdicts.groupby("verdict", sort=False)},
        commits=_commits(manifests),
        gpu_share_unknown=not all(manifest.gpu_share_known for manifest in manifests),
        left_out=models.left_out,
    )


def _commits(manifests: list[Manifest]) -> list[str]:
    """What the runs were started at."""
    starts = [start for manifest in manifests for start in manifest.starts]
    commits = {(start.git_commit, bool(start.git_dirty)) for start in starts if start.git_commit is not None}
    return [
        f"{commit[:10]}{' with changes' * dirty}{' (not in the history)' * (in_history(commit) is False)}"
        for commit, dirty in sorted(commits)
    ]


COLUMNS = (
    "Cell", "Seeds", "Bound", "FG-ARI x 100", "Untrained", "Paper", "Training", "Hours", "Hardware", "Weights",
)  # fmt: skip


def _line(series: Series, row: Row, cell: Cell, root: Path) -> list[str]:
    """A row under COLUMNS; hours are those of all seeds and all their processes."""
    manifests = [manifest for run in series.runs if (manifest := manifest_of(root / run.folder))]
    return [
        f"{series.label} on {series.dataset_title}{SOURCES[series.source]}",
        f"{row.started}/{row.finished}/{len(row.failed)}",
        "-" if row.unbound is None else str(row.finished - len(row.unbound)),
        mean_and_std(cell, 1),
        "-" if row.untrained is None else f"{row.untrained:z.1f}",
        mean_and_std(next(iter(cell.paper), None), 1),
        series.training or f"{max(manifest.steps for manifest in manifests):,} steps",
        f"{sum(manifest.device_hours for manifest in manifests):.2g}",
        "; ".join(dict.fromkeys(manifest.hardware for manifest in manifests)),
        f"`{weights_name(series)}`",
    ]


def _write_sums(record: Path) -> None:
    files = sorted(path for path in record.rglob("*") if path.is_file())
    write_text(
        record / SUMS, "".join(f"{sha256_of_file(path)}  {path.relative_to(record).as_posix()}\n" for path in files)
    )
